"""Jobs that outlived their resource: their pods would run on for nobody.

Kubernetes' garbage collector can miss the end of a custom resource while it begins its watch of that kind anew, as
after an API server's restart.
"""

import asyncio
import logging
import time

from strop_api.errands import ErrandKind
from strop_api.optimization import KIND
from strop_operator import paths
from strop_operator.apply import stop_job
from strop_operator.cache import Cache
from strop_operator.client import ApiError, Client
from strop_operator.facts import JobFact, controller, job_fact, resource_fact
from strop_operator.queue import DueQueue
from strop_operator.watches import Watches

LOOK_SECONDS = 10.0
"""Between two looks through what is known; nothing is asked of the API server for that."""

log = logging.getLogger(__name__)


class Orphans:
    """Finds Jobs of ours whose owner nobody knows, and deletes them once the API server has confirmed it."""

    def __init__(self, client: Client, cache: Cache, queue: DueQueue, patience: float) -> None:
        self._client, self._cache, self._queue, self._patience = client, cache, queue, patience
        self._since: dict[str, float] = {}
        """When the owner of a Job was first missed, by the Job's UID."""

    async def run(self, watches: Watches) -> None:
        """Look for ever, as soon as everything has been listed."""
        await watches.filled()
        while True:
            await self.sweep(time.monotonic())
            await asyncio.sleep(min(LOOK_SECONDS, self._patience))

    async def sweep(self, now: float) -> None:
        """Delete the Jobs whose owner has been missed for long enough. What fails is tried again at the next look."""
        for job in self.due(now):
            try:
                if await self._confirmed(job):
                    log.warning(
                        "%s/%s: deleting Job %s: its resource (%s) is gone, and Kubernetes has not collected it",
                        job.namespace, job.name, job.uid, job.owner_uid,
                    )  # fmt: skip
                    await stop_job(self._client, self._cache, job)
            except Exception as error:  # whatever it is, the others' turn comes, and this one's again
                log.warning("%s/%s: not known whether its resource is gone: %r", job.namespace, job.name, error)

    def due(self, now: float) -> list[JobFact]:
        """Jobs whose owner has been missed for long enough: the garbage collector comes first."""
        found = {job.uid: job for job in self._cache.jobs if self._missed(job)}
        self._since = {uid: self._since.get(uid, now) for uid in found}
        return [found[uid] for uid, since in self._since.items() if now - since >= self._patience]

    def _missed(self, job: JobFact) -> bool:
        """A clean-up has no owner, and goes by its own time."""
        if job.deleting or not job.owner_uid or job.errand == ErrandKind.CLEAN_UP:
            return False
        return self._cache.key_of(job.owner_uid) is None

    async def _confirmed(self, job: JobFact) -> bool:
        """Whether the API server says so too: the Job is ours, and its resource is no more, or another."""
        try:
            body = await self._client.get(paths.job(job.namespace, job.name))
        except ApiError as error:
            if not error.missing:
                raise
            self._cache.drop_job(job.uid)
            return False
        owner = controller(body["metadata"], KIND)
        if not (owner.get("uid") == body["metadata"]["labels"].get(paths.UID_LABEL) == job.owner_uid):
            self._cache.put_job(job_fact(body))
            return False
        return await self._gone(job, owner["name"])

    async def _gone(self, job: JobFact, name: str) -> bool:
        try:
            fact = resource_fact(await self._client.get(paths.resource(job.namespace, name)))
        except ApiError as error:
            if not error.missing:
                raise
            return True
        if fact.uid != job.owner_uid:
            return True
        self._cache.put_resource(fact)  # the watch has not told of it
        self._queue.put(fact.key)
        return False
