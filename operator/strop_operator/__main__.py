"""`python -m strop_operator`: starts everything in order, and ends it in the reverse."""

import asyncio
import gc
import logging
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from contextlib import suppress

import aiohttp
import kopf
import uvloop

from strop_operator import handlers, health
from strop_operator.cache import Cache
from strop_operator.client import Access, Client, from_kubeconfig, in_cluster
from strop_operator.leader import Leader
from strop_operator.metrics import Metrics
from strop_operator.orphans import Orphans
from strop_operator.progress import Poller
from strop_operator.queue import DueQueue
from strop_operator.reconcile import Reconciler
from strop_operator.settings import Settings, parse
from strop_operator.watches import Watches

log = logging.getLogger("strop_operator")

COLLECTED_EACH = 10_000
"""New containers between two looks for garbage cycles. There are few cycles; a look at all facts takes 0.1 s."""
ENDING_SECONDS = 10.0
"""kopf, once it has closed its connections, ends within this; it waits 5 s for its own tasks."""
TLS_SECONDS = 0.25
"""What TLS connections need to say goodbye; aiohttp does not wait for it."""


async def operate(settings: Settings) -> None:
    """Serve until SIGTERM. Nothing is watched or written before the Lease is held."""
    access = from_kubeconfig(settings.kubeconfig) if settings.kubeconfig is not None else in_cluster()
    client, metrics, queue, cache = Client(access, settings.workers), Metrics(), DueQueue(), Cache()
    leading_client = Client(access, 2)
    leading: list[Watches] = []
    leader = Leader(leading_client, settings.operator_namespace, settings.identity) if settings.lease else None
    server = await health.serve(
        settings.metrics_port, metrics, lambda: [s for w in leading for s in w.stuck], lambda: _waits(leader, leading)
    )
    try:
        if leader is not None and not await _interruptible(leader.acquire):
            return
        watches = Watches(handlers.all_paths(settings.namespaces), lambda: _doubt(cache, queue))
        leading.append(watches)
        metrics.leading()
        metrics.watch(cache, watches.ages, lambda: len(queue))
        await _serve(settings, access, Reconciler(settings, client, cache, queue, watches, metrics), leader)
    finally:
        await server.cleanup()
        await client.close()
        await leading_client.close()
        await asyncio.sleep(TLS_SECONDS)


async def _serve(settings: Settings, access: Access, reconciler: Reconciler, leader: Leader | None) -> None:
    """Run kopf, the workers and the poller; when kopf ends, everything does."""
    poller = Poller(reconciler.cache, reconciler.queue, settings.progress_poll)
    orphans = Orphans(reconciler.client, reconciler.cache, reconciler.queue, settings.orphan_patience)
    tasks = [asyncio.create_task(reconciler.work()) for _ in range(settings.workers)]
    tasks.append(asyncio.create_task(poller.run()))
    tasks.append(asyncio.create_task(orphans.run(reconciler.watches)))
    tasks.append(asyncio.create_task(reconciler.watch_fallback_policy()))
    opened: list[aiohttp.ClientSession] = []
    tasks.append(asyncio.create_task(_end_with_kopf(opened)))
    keeping = asyncio.create_task(leader.keep()) if leader is not None else None
    try:
        await kopf.operator(
            registry=handlers.registry(access, reconciler, opened),
            memories=handlers.NoMemories(),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
            standalone=True,
        )
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if leader is not None and keeping is not None:
            keeping.cancel()
            await asyncio.gather(keeping, return_exceptions=True)
            await leader.release()
        for session in opened:
            await session.close()


async def _end_with_kopf(opened: list[aiohttp.ClientSession]) -> None:
    """End the process when kopf has given up and does not come to its end: after an error in a watch it may wait for
    ever for a new login, deaf, with the Lease held and everything looking well."""
    while not any(session.closed for session in opened):  # noqa: ASYNC110 - aiohttp tells of no event
        await asyncio.sleep(1)
    await asyncio.sleep(ENDING_SECONDS)
    log.critical("kopf has closed its connections and does not end: ending")
    os._exit(1)


async def _interruptible(wait: Callable[[], Coroutine[None, None, None]]) -> bool:
    """Wait for the Lease, or for a signal that says to stop waiting; False in that case."""
    task = asyncio.create_task(wait())
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, task.cancel)
    with suppress(asyncio.CancelledError):
        await task
        return True
    return False


def _waits(leader: Leader | None, leading: list[Watches]) -> str:
    """What this replica must see before another may go for it: a rollout goes no further until then.

    Said of the start only: an API server that is away for a while makes nobody unready.
    """
    if leader is not None and not leader.known:
        return "the Lease has not been read"
    return "" if all(watches.synced for watches in leading) else "not everything has been listed"


def _doubt(cache: Cache, queue: DueQueue) -> None:
    """A watch had to list again: deletions in between were not told."""
    cache.doubtful |= set(cache.resources)
    for key in cache.resources:
        queue.put(key)


def main() -> None:
    """Entry point."""
    settings = parse(sys.argv[1:])
    logging.basicConfig(level=settings.log_level, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    handlers.quiet_logs()
    gc.set_threshold(COLLECTED_EACH)
    gc.freeze()  # what was imported stays: nobody need look at it again
    # Without a name of its own kopf asks for the user's, and an arbitrary uid (OpenShift) has none.
    os.environ.setdefault("POD_ID", settings.identity)
    uvloop.run(operate(settings))


if __name__ == "__main__":
    main()
