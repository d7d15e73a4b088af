"""The operator for half an hour with faults on its way: memory and descriptors stay flat. `make soak`.

Each cycle creates, completes and deletes resources. Ends with 1 when something grows, hangs or is a bug.
"""

import argparse
import asyncio
import random
import re
import statistics
import sys
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE.parents[1], HERE.parents[1] / "controller", HERE.parent, HERE):
    sys.path.insert(0, str(folder))

from fleet import Jobs, in_parallel  # noqa: E402
from lines import emit  # noqa: E402
from machine.proxy import Fault, Proxy  # noqa: E402

from bench import Stand, stand, stay_on_two_cores  # noqa: E402

KILLS = {Fault.KILL_BEFORE_WRITE, Fault.KILL_AFTER_WRITE}
FAULTS = [fault for fault in Fault if fault not in KILLS]
"""The process must live: it is its memory that is looked at."""
EVERY_SECONDS = 0.5
"""Between two faults."""
WARM_UP = 3
"""Cycles after which memory is held against."""
GROWTH_MEBIBYTES, GROWTH_DESCRIPTORS = 4.0, 4.0


async def faults(proxy: Proxy, dice: random.Random) -> None:
    """One after the other, until it is cancelled."""
    while True:
        proxy.plan(dice.choice(FAULTS))
        await asyncio.sleep(EVERY_SECONDS)


async def cycle(at: Stand, proxy: Proxy, number: int, count: int, dice: random.Random) -> None:
    """So many resources from their creation to their end."""
    planning = asyncio.create_task(faults(proxy, dice))
    try:
        async with Jobs(at.server, at.namespace) as jobs:
            await in_parallel(at.create(f"soak-{number}-{i}") for i in range(count))
            await jobs.number(count, 300)
            await in_parallel(at.finish(job) for job in jobs.found.values())
            await at.ready(count, 300)
    finally:
        planning.cancel()
        await asyncio.gather(planning, return_exceptions=True)
        proxy.heal()
    if jobs.second:
        raise AssertionError(f"run twice: {jobs.second}")
    await at.clear("soak-")
    await at.quiet()


def bugs(at: Stand) -> float:
    """Reconciles that failed for no fault of the network."""
    with urllib.request.urlopen(f"{at.operator.url}/metrics", timeout=10) as answer:
        found = re.search(r'strop_reconcile_errors_total{kind="bug"} (\S+)', answer.read().decode())
    return float(found.group(1)) if found else float("nan")


def grown(name: str, unit: str, values: list[float], limit: float) -> bool:
    """Whether the second half lies above the first by more than the limit."""
    values = values[WARM_UP:]
    half = len(values) // 2
    growth = statistics.median(values[half:]) - statistics.median(values[:half])
    emit(name, unit, growth, low=min(values), high=max(values), n=len(values), baseline=limit)
    return growth > limit


async def soak(minutes: float, count: int, seed: int) -> int:
    """The exit code."""
    dice, ways, memory, descriptors = random.Random(seed), ExitStack(), [], []
    proxies: list[Proxy] = []

    def way(kubeconfig: Path) -> Path:
        proxies.append(ways.enter_context(Proxy(kubeconfig)))
        return proxies[0].kubeconfig_through(kubeconfig.with_name("through-the-proxy.kubeconfig"))

    emit("soak_seed", "seed", seed)
    with ways:
        async with stand(way=way) as at:
            end = time.monotonic() + minutes * 60
            while time.monotonic() < end or len(memory) < WARM_UP + 2:
                await cycle(at, proxies[0], len(memory), count, dice)
                memory.append(at.operator.rss_mebibytes)
                descriptors.append(float(at.operator.descriptors))
                emit("soak_rss", "MiB", memory[-1], n=len(memory))
                emit("soak_descriptors", "descriptors", descriptors[-1], n=len(memory))
            failed = bugs(at)
    emit("soak_bugs", "reconciles", failed, baseline=0)
    memory_grew = grown("soak_rss_growth", "MiB", memory, GROWTH_MEBIBYTES)
    descriptors_grew = grown("soak_descriptors_growth", "descriptors", descriptors, GROWTH_DESCRIPTORS)
    return int(failed != 0 or memory_grew or descriptors_grew)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--many", type=int, default=100, help="resources in a cycle")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(2**32))
    arguments = parser.parse_args()
    stay_on_two_cores()
    sys.exit(asyncio.run(soak(arguments.minutes, arguments.many, arguments.seed)))
