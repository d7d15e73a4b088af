"""Asks running workers how far they are: bounded, with jitter, and never while one measures."""

import asyncio
import contextlib
import logging
import random
import time

import aiohttp
from pydantic import ValidationError

from strop_api.result import PROGRESS_LIMIT_BYTES, PROGRESS_PATH, PROGRESS_PORT, ProgressReport
from strop_operator.cache import Cache
from strop_operator.facts import JobFact, PodFact
from strop_operator.queue import DueQueue

log = logging.getLogger(__name__)

TIMEOUT = aiohttp.ClientTimeout(total=2)
AT_ONCE = 32
MEASURING_SECONDS = 60.0
"""A worker that measures is left alone for at least this long, for longer when it said how long it needs."""
MEASURING_LIMIT_SECONDS = 600.0


class Poller:
    """Polls each running pod of a live Job of ours; what it hears goes into the cache, the key into the queue."""

    def __init__(self, cache: Cache, queue: DueQueue, seconds: float) -> None:
        self._cache, self._queue, self._seconds = cache, queue, seconds
        self._due: dict[str, float] = {}
        self._gate = asyncio.Semaphore(AT_ONCE)

    async def run(self) -> None:
        """Poll for ever."""
        connector = aiohttp.TCPConnector(limit=AT_ONCE, force_close=True)
        async with aiohttp.ClientSession(connector=connector, trust_env=False, timeout=TIMEOUT) as session:
            while True:
                polls = (self._poll(session, job, pod) for job, pod in self._pods_due())
                for failed in await asyncio.gather(*polls, return_exceptions=True):
                    if failed is not None:
                        log.error("a poll failed: %r", failed)
                await asyncio.sleep(min(1.0, self._seconds))

    def _pods_due(self) -> list[tuple[JobFact, PodFact]]:
        """Running pods, known by their Job's UID, whose time has come."""
        running = {}
        for pod in self._cache.pods:
            job = self._cache.jobs.get(pod.job_uid)
            verified = job is not None and job.owner_uid == pod.owner_uid and job.live and not job.deleting
            verified = verified and not pod.errand
            if verified and job is not None and pod.phase == "Running" and pod.ip and not pod.deleting:
                running[pod.uid] = (job, pod)
        self._due = {uid: self._due.get(uid, 0.0) for uid in running}
        now = time.monotonic()
        return [running[uid] for uid, due in self._due.items() if due <= now]

    async def _poll(self, session: aiohttp.ClientSession, job: JobFact, pod: PodFact) -> None:
        async with self._gate:
            report = await ask(session, address(pod.ip), job.run_id)
        self._due[pod.uid] = time.monotonic() + self._pause(report)
        if report is None:
            return
        before = self._cache.progress.get(pod.uid)
        if self._cache.pods.get(pod.uid) is None or (before is not None and before.sequence >= report.sequence):
            return
        self._cache.progress[pod.uid] = report
        if (key := self._cache.key_of(pod.owner_uid)) is not None:
            self._queue.put(key)

    def _pause(self, report: ProgressReport | None) -> float:
        jittered = self._seconds * random.uniform(0.8, 1.2)  # noqa: S311 - not a secret
        if report is None or not report.measuring:
            return jittered
        told = report.progress.remaining_seconds or 0
        return max(jittered, min(max(MEASURING_SECONDS, told), MEASURING_LIMIT_SECONDS))


def address(ip: str) -> str:
    """Where the pod's supervisor answers."""
    return f"http://{f'[{ip}]' if ':' in ip else ip}:{PROGRESS_PORT}{PROGRESS_PATH}"


async def ask(session: aiohttp.ClientSession, url: str, run_id: str) -> ProgressReport | None:
    """What the supervisor says; None when it says nothing, too much, or of another run: unknown, not failed."""
    with contextlib.suppress(aiohttp.ClientError, OSError, TimeoutError, ValidationError, ValueError):
        async with session.get(url, allow_redirects=False) as answer:
            if answer.status != 200:
                return None
            data = bytearray()
            async for chunk in answer.content.iter_chunked(PROGRESS_LIMIT_BYTES):
                data += chunk
                if len(data) > PROGRESS_LIMIT_BYTES:
                    return None
        report = ProgressReport.model_validate_json(bytes(data))
        return report if report.run_id == run_id else None
    return None
