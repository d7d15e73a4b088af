"""What the operator costs at scale, on a real etcd and API server; everything on two cores. `make bench-operator`.

No controller makes pods here: Jobs and pods are played to their end by this script, whose own writes are known.
"""

import argparse
import asyncio
import math
import os
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in (HERE.parents[1], HERE.parents[1] / "controller", HERE.parent, HERE):
    sys.path.insert(0, str(folder))

from cluster_parts import SPEC, SYSTEM, Namespace, install, result  # noqa: E402
from fleet import MERGE, OURS, Jobs, Node, Server, Writes, completed, container, in_parallel, pod_of, timestamp  # noqa: E402
from lines import emit, emit_spread  # noqa: E402
from process import Measured  # noqa: E402
from progress import Supervisors  # noqa: E402

from cluster import ControlPlane  # noqa: E402

CORES = {0, 1}
CONTROLLERS = ("namespace-controller", "serviceaccount-controller", "serviceaccount-token-controller")
RESTED_SECONDS = 3.0
"""Without a write for so long the operator counts as quiet."""


@dataclass
class Stand:
    """One control plane with one operator, and a namespace full of resources."""

    plane: ControlPlane
    server: Server
    operator: Measured
    namespace: str

    @property
    def resources(self) -> str:
        """Path of the resources."""
        return f"{OURS}/namespaces/{self.namespace}/modeloptimizations"

    async def create(self, name: str) -> None:
        """One resource; its spec is like no other's."""
        body = {"apiVersion": "strop.dev/v1alpha1", "kind": "ModelOptimization", "metadata": {"name": name}}
        spec = SPEC | {"output": {"uri": f"s3://engines/{name}"}}
        await self.server.send("POST", self.resources, body | {"spec": spec})

    async def run_pod(self, job: Node, ip: str) -> None:
        """The Job's pod is made and runs; without an address it cannot be asked for progress."""
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        pod = await self.server.send("POST", pods, pod_of(job))
        running = {"startedAt": "2026-01-01T00:00:00Z"}
        status: Node = {"phase": "Running", "containerStatuses": [container({"running": running})]}
        status |= {"podIP": ip, "podIPs": [{"ip": ip}]} if ip else {}
        path = f"{pods}/{pod['metadata']['name']}/status"
        await self.server.send("PATCH", path, {"status": status}, headers=MERGE)

    async def finish(self, job: Node) -> None:
        """The Job's pod is made, ends well, and the Job is complete."""
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        pod = pod_of(job)
        run = pod["metadata"]["labels"]["strop.dev/run"]
        await self.server.send("POST", pods, pod)
        ended = {"exitCode": 0, "reason": "Completed", "message": result(run)}
        ended |= {"startedAt": "2026-01-01T00:00:00Z", "finishedAt": timestamp()}
        status = {"phase": "Succeeded", "containerStatuses": [container({"terminated": ended})]}
        path = f"{pods}/{pod['metadata']['name']}/status"
        await self.server.send("PATCH", path, {"status": status}, headers=MERGE)
        jobs = f"/apis/batch/v1/namespaces/{self.namespace}/jobs/{job['metadata']['name']}/status"
        await self.server.send("PATCH", jobs, completed(), headers=MERGE)

    async def ready(self, count: int, seconds: float) -> None:
        """Wait until so many resources are Ready."""
        async with asyncio.timeout(seconds):
            while await self._ready() < count:  # noqa: ASYNC110 - the API server has no event to wait for
                await asyncio.sleep(0.5)

    async def _ready(self) -> int:
        ready = 0
        async for item in self.server.pages(self.resources):
            ready += any(c["type"] == "Ready" and c["status"] == "True" for c in item["status"].get("conditions", []))
        return ready

    async def quiet(self, seconds: float = 120) -> float:
        """Wait until nothing is written any more (the Lease apart); seconds until the last write."""
        began = last = time.monotonic()
        before = await Writes.read(self.server)
        while time.monotonic() - last < RESTED_SECONDS and time.monotonic() - began < seconds:
            await asyncio.sleep(0.25)
            now = await Writes.read(self.server)
            if _ours(now.since(before)):
                last, before = time.monotonic(), now
        return last - began

    async def clear(self, prefix: str) -> None:
        """Delete all resources of a name, their Jobs and pods: no garbage collector runs."""
        place = f"/namespaces/{self.namespace}"
        for path in (self.resources, f"/apis/batch/v1{place}/jobs", f"/api/v1{place}/pods"):
            found = [item["metadata"]["name"] async for item in self.server.pages(path)]
            named = [name for name in found if name.startswith(prefix)]
            body = {"propagationPolicy": "Background", "gracePeriodSeconds": 0}
            await in_parallel(self._delete(f"{path}/{name}", body) for name in named)

    async def _delete(self, path: str, body: Node) -> None:
        try:
            await self.server.send("DELETE", path, body)
        except RuntimeError as error:
            if "HTTP 404" not in str(error):
                raise


def _ours(writes: dict[tuple[str, str, str], float]) -> dict[tuple[str, str, str], float]:
    return {key: count for key, count in writes.items() if key[1] not in ("leases", "serviceaccounts", "namespaces")}


@asynccontextmanager
async def stand(*flags: str, way: Callable[[Path], Path] = lambda kubeconfig: kubeconfig) -> AsyncIterator[Stand]:
    """Everything started, on the cores of this process. `way` may give the operator another kubeconfig."""
    with ControlPlane(controllers=CONTROLLERS) as plane, tempfile.TemporaryDirectory() as folder:
        kubeconfig = install(plane)
        Namespace(plane.api, SYSTEM).set_policy(limits={"concurrentRuns": 100_000})
        place = Namespace(plane.api, "fleet")
        place.account()
        server = Server(plane.kubeconfig)
        operator = Measured(way(kubeconfig), Path(folder) / "log", SYSTEM, *flags)
        try:
            operator.start()
            emit("operator_rss_empty", "MiB", operator.rss_mebibytes)
            yield Stand(plane, server, operator, place.name)
        finally:
            operator.close()
            await server.close()


async def burst(at: Stand, count: int, rounds: int = 3) -> None:
    """So many resources at once: how fast their Jobs are there, and what each costs."""
    rates, cpu, later, starts = [], [], [], []
    for round_ in range(rounds):
        async with Jobs(at.server, at.namespace) as jobs:
            writes, spent, began = await Writes.read(at.server), at.operator.cpu_seconds, time.monotonic()
            await in_parallel(at.create(f"burst-{round_}-{i}") for i in range(count))
            await jobs.number(count, 300)
            rates.append(count / (max(jobs.at.values()) - began))
            cpu.append((at.operator.cpu_seconds - spent) / count * 1e3)
            await at.quiet()
            later.append((at.operator.cpu_seconds - spent) / count * 1e3)
            made = _ours((await Writes.read(at.server)).since(writes))
            events = sum(n for (_, kind, _), n in made.items() if kind == "events")
            starts.append((sum(made.values()) - count - events) / count)
            emit("burst_second_jobs", "Jobs", len(jobs.second))
            emit("burst_events_per_resource", "writes", events / count)
        await at.clear("burst-")
        await at.quiet()
    emit_spread(f"burst_{count}_jobs_per_second", "1/s", rates, baseline=150)
    emit_spread("operator_cpu_per_resource_to_its_job", "ms", cpu, baseline=3)
    emit_spread("operator_cpu_per_resource_until_quiet", "ms", later)
    emit_spread("writes_to_start", "writes/resource", starts, baseline=2)


async def steady(at: Stand, per_second: float, seconds: float) -> None:
    """Resources at a steady rate: from the create call's start to the Job's event."""
    started: dict[str, float] = {}

    async def one(name: str) -> None:
        started[name] = time.monotonic()
        await at.create(name)

    count = int(per_second * seconds)
    async with Jobs(at.server, at.namespace) as jobs:
        begin, tasks = time.monotonic(), []
        for i in range(count):
            await asyncio.sleep(max(0.0, begin + i / per_second - time.monotonic()))
            tasks.append(asyncio.create_task(one(f"steady-{i}")))
        await asyncio.gather(*tasks)
        await jobs.number(count, 120)
        delays = sorted((jobs.at[name] - at_) * 1e3 for name, at_ in started.items())
    emit("steady_create_to_job_p50", "ms", statistics.median(delays), n=count)
    p99 = delays[math.ceil(0.99 * count) - 1]
    emit("steady_create_to_job_p99", "ms", p99, low=delays[0], high=delays[-1], n=count, baseline=100)
    await at.clear("steady-")
    await at.quiet()


async def memory(at: Stand, count: int) -> None:
    """Many resources with Jobs and pods; then all finish, the operator rests, and starts again."""
    async with Jobs(at.server, at.namespace) as jobs:
        await in_parallel(at.create(f"many-{i}") for i in range(count))
        await jobs.number(count, 600)
        found = dict(jobs.found)
    await in_parallel(at.run_pod(job, "") for job in found.values())
    await at.quiet()
    emit(f"operator_rss_{count}", "MiB", at.operator.rss_mebibytes, baseline=96)
    at.operator.stop()
    at.operator.start()
    await at.quiet()
    emit(f"operator_rss_{count}_after_restart", "MiB", at.operator.rss_mebibytes, baseline=110)
    await at.clear("many-")
    await at.quiet()


async def finished(at: Stand, count: int) -> None:
    """Many finish; what that writes, what is written at rest, and how quiet a restart is."""
    async with Jobs(at.server, at.namespace) as jobs:
        await in_parallel(at.create(f"done-{i}") for i in range(count))
        await jobs.number(count, 600)
        found = dict(jobs.found)
        await at.quiet()
        writes = await Writes.read(at.server)
        await in_parallel(at.finish(job) for job in found.values())
        await at.ready(count, 600)
        await at.quiet()
        made = _ours((await Writes.read(at.server)).since(writes))
        emit("writes_to_finish", "writes/resource", made[("PATCH", "modeloptimizations", "status")] / count, baseline=1)
        emit("deletions_of_finished_jobs", "writes/resource", made.get(("DELETE", "jobs", ""), 0.0) / count)
        writes = await Writes.read(at.server)
        await asyncio.sleep(60)
        at_rest = sum(_ours((await Writes.read(at.server)).since(writes)).values())
        emit(f"writes_in_60_s_at_rest_{count}", "writes", at_rest, baseline=0)
        at.operator.stop()
        writes = await Writes.read(at.server)
        took = at.operator.start()
        took += await at.quiet()
        emit(f"restart_quiet_after_{count}", "s", took, baseline=6)
        emit("restart_writes", "writes", sum(_ours((await Writes.read(at.server)).since(writes)).values()), baseline=0)
        emit("restart_second_jobs", "Jobs", len(jobs.second), baseline=0)
    await at.clear("done-")
    await at.quiet()


async def cycles(at: Stand, rounds: int, count: int) -> None:
    """Create, complete, delete, again and again: memory and descriptors must stay flat."""
    seen: list[float] = []
    for round_ in range(rounds):
        async with Jobs(at.server, at.namespace) as jobs:
            await in_parallel(at.create(f"cycle-{round_}-{i}") for i in range(count))
            await jobs.number(count, 300)
            await in_parallel(at.finish(job) for job in jobs.found.values())
            await at.ready(count, 300)
        await at.clear("cycle-")
        await at.quiet()
        seen.append(at.operator.rss_mebibytes)
    half = len(seen) // 2
    growth = statistics.median(seen[half:]) - statistics.median(seen[:half])
    emit(f"rss_growth_over_{rounds}_cycles", "MiB", growth, low=min(seen), high=max(seen), n=rounds, baseline=0)
    emit("descriptors_after_cycles", "descriptors", at.operator.descriptors)


async def live(at: Stand, count: int, seconds: float) -> None:
    """Running Jobs whose workers tell progress: polls and patches, and the share of a core they take."""
    async with Jobs(at.server, at.namespace) as jobs:
        await in_parallel(at.create(f"live-{i}") for i in range(count))
        await jobs.number(count, 300)
        found = list(jobs.found.values())
    with Supervisors([job["spec"]["template"]["metadata"]["labels"]["strop.dev/run"] for job in found]) as workers:
        await in_parallel(at.run_pod(job, ip) for job, ip in zip(found, workers.addresses, strict=True))
        await at.quiet(60)
        writes, polls = await Writes.read(at.server), workers.asked
        spent, began = at.operator.cpu_seconds, time.monotonic()
        await asyncio.sleep(seconds)
        took = time.monotonic() - began
        cpu = (at.operator.cpu_seconds - spent) / took * 100
        emit(f"live_{count}_operator_cpu", "% of a core", cpu, baseline=8)
        emit(f"live_{count}_polls", "1/s", (workers.asked - polls) / took)
        made = _ours((await Writes.read(at.server)).since(writes))
        patches = sum(n for (verb, *_), n in made.items() if verb == "PATCH")
        emit("live_patches_per_resource_in_30_s", "writes", patches / count / took * 30, baseline=1)
    await at.clear("live-")
    await at.quiet()


async def main(arguments: argparse.Namespace) -> None:
    """Every part, or those that were named."""
    async with stand() as at:
        many = arguments.many
        parts = {
            "burst": lambda: burst(at, min(1000, many)),
            "steady": lambda: steady(at, 10, min(60, many / 10)),
            "live": lambda: live(at, min(500, many), 60),
            "memory": lambda: memory(at, many),
            "finished": lambda: finished(at, many),
            "cycles": lambda: cycles(at, 10, min(200, many)),
        }
        for name, part in parts.items():
            if not arguments.only or name in arguments.only:
                await part()


def stay_on_two_cores() -> None:
    """This process and all that it starts."""
    os.sched_setaffinity(0, CORES & os.sched_getaffinity(0) or os.sched_getaffinity(0))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="*", default=[], help="burst, steady, live, memory, finished, cycles")
    parser.add_argument("--many", type=int, default=5000, help="resources in the large parts")
    stay_on_two_cores()
    asyncio.run(main(parser.parse_args()))
