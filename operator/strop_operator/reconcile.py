"""The loop around observe, decide and apply: workers that take due keys, and the looks that a decision asks for."""

import asyncio
import logging
import time
from dataclasses import dataclass, field, replace

from strop_api.reasons import Reason
from strop_api.status import ConditionType
from strop_operator import paths
from strop_operator.apply import Applied, apply
from strop_operator.cache import Cache
from strop_operator.client import ApiError, Client, Json
from strop_operator.decide import decide
from strop_operator.decision import Action, Decision
from strop_operator.events import LEFT, by_kueue, event, event_at_home, newest, remarks, workload, write
from strop_operator.facts import JobFact, Key, ResourceFact, job_fact, pod_fact, policy_fact, resource_fact
from strop_operator.metrics import Metrics
from strop_operator.observe import Look, Observed, observe
from strop_operator.queue import DueQueue
from strop_operator.settings import Settings
from strop_operator.tally import Tally
from strop_operator.watches import Watches

FALLBACK_SECONDS = 60.0

log = logging.getLogger(__name__)


@dataclass
class Reconciler:
    """Everything a reconcile needs."""

    settings: Settings
    client: Client
    cache: Cache
    queue: DueQueue
    watches: Watches
    metrics: Metrics
    started_at: float = field(default_factory=time.time)
    _told_progress: dict[Key, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._tally = Tally(self.metrics)

    async def work(self) -> None:
        """One worker: takes keys for ever, as soon as everything has been listed. No error ends it."""
        await self.watches.filled()
        while True:
            key = await self.queue.take()
            began = time.perf_counter()
            try:
                again = await self.reconcile(key)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._failed(key, error)
            else:
                self.queue.done(key)
                if again is not None:
                    self.queue.put(key, again)
            self.metrics.reconciled(time.perf_counter() - began)

    def _failed(self, key: Key, error: Exception) -> None:
        """A conflict is read again at once; all else comes back with a growing delay."""
        if isinstance(error, ApiError) and error.status == 409:
            self.metrics.error("conflict")
            self.cache.doubtful.add(key)
            self.queue.done(key)
            self.queue.put(key)
            return
        if self.cache.leave_line(key):  # it may fail for long, and those behind it would wait with it
            self._call_next(key[0])
        known = isinstance(error, ApiError | OSError | TimeoutError)
        self.metrics.error("api" if known else "bug")
        delay = self.queue.failed(key)
        log.log(
            logging.WARNING if known else logging.ERROR,
            "%s/%s: again in %.0f s: %s: %s", *key, delay, type(error).__name__, error, exc_info=not known,
        )  # fmt: skip

    async def reconcile(self, key: Key) -> float | None:
        """Bring one resource forward; seconds after which to look again, or None to wait for events."""
        if key in self.cache.doubtful:
            await self._reread(key)
            if (fact := self.cache.resources.get(key)) is not None:
                await self._look_at_jobs(fact.namespace, fact.uid)
            self.cache.doubtful.discard(key)
        judged = await self._judge(key)
        if judged is None:
            return None
        seen, decision = judged
        due = time.monotonic() - self._told_progress.get(key, float("-inf")) >= self.settings.progress_patch
        applied = await apply(self.client, self.cache, seen, decision, progress_due=due)
        self._tally.add(key, seen, applied)
        if applied.patched:
            await self._report(key, seen, applied)
        if applied.decision.left:
            await self._tell_what_stays(seen.fact, applied.decision.left)
        self._line_up(key, applied.decision, seen.job)
        # Our own write is no event to us: what follows from it is looked at now.
        follows = applied.patched and applied.decision.action in (Action.STOP, Action.SETTLE)
        return 0.0 if follows else applied.decision.again_after

    async def _judge(self, key: Key) -> tuple[Observed, Decision] | None:
        """Decide, asking the API server for what the decision rests on; each question once."""
        looked: frozenset[Look] = frozenset()
        warning = ""
        while True:
            seen = observe(self.cache, key, self.settings.operator_namespace, time.time())
            if seen is None:
                return None
            seen = replace(
                seen,
                looked=looked,
                warning=warning,
                before_start=seen.fact.created_at <= self.started_at,
            )
            decision = decide(seen)
            if decision.action is not Action.LOOK or decision.look is None:
                return seen, decision
            if decision.look is Look.EVENTS:
                held_back = seen.job is not None and seen.job.suspended and not seen.fact.deleting
                warning = await (self._words_of_the_queue(seen) if held_back else self._newest_warning(seen))
            elif decision.look is Look.JOBS:
                await self._look_at_jobs(seen.fact.namespace, seen.fact.uid)
            else:
                await self._look_at_policies(seen.fact.namespace)
            looked |= {decision.look}

    async def _reread(self, key: Key) -> None:
        try:
            self.cache.put_resource(resource_fact(await self.client.get(paths.resource(*key))))
        except ApiError as error:
            if not error.missing:
                raise
            if (fact := self.cache.resources.get(key)) is not None:
                self.cache.drop_resource(fact)

    async def _look_at_jobs(self, namespace: str, uid: str) -> None:
        """Make what is known of a resource's Jobs and pods equal to what the API server has."""
        selector = f"{paths.UID_LABEL}={uid}"
        jobs = [job_fact(body) for body in await self.client.list(paths.jobs(namespace), labelSelector=selector)]
        pods = [pod_fact(body) for body in await self.client.list(paths.pods(namespace), labelSelector=selector)]
        for job in self.cache.jobs.of(uid):
            if job.uid not in {j.uid for j in jobs}:
                self.cache.drop_job(job.uid)
        for pod in self.cache.pods.of(uid):
            if pod.uid not in {p.uid for p in pods}:
                self.cache.drop_pod(pod.uid)
        for job in jobs:
            if job.owner_uid == uid:
                self.cache.put_job(job)
        for pod in pods:
            if pod.job_uid:
                self.cache.put_pod(pod)

    async def _look_at_policies(self, namespace: str) -> None:
        for place in dict.fromkeys((namespace, self.settings.operator_namespace)):
            try:
                self.cache.put_policy(policy_fact(await self.client.get(paths.policy(place))), time.time())
            except ApiError as error:
                if error.status != 403 and not error.missing:
                    raise
                self.cache.drop_policy(place, time.time())

    async def watch_fallback_policy(self) -> None:
        """The operator's own namespace may be outside of what is watched: its policy is then read now and then."""
        served, home = self.settings.namespaces, self.settings.operator_namespace
        while served and home not in served:
            try:
                await self._look_at_policies(home)
            except (ApiError, OSError, TimeoutError) as error:
                log.warning("the policy of %s cannot be read: %s", home, error)
            await asyncio.sleep(FALLBACK_SECONDS)

    async def _newest_warning(self, seen: Observed) -> str:
        """The newest warning about the pod, or about the Job that has none."""
        return newest(await self._events(seen, f"involvedObject.uid={seen.waited_for},type=Warning"))

    async def _words_of_the_queue(self, seen: Observed) -> str:
        """The newest of what Kueue says of the Job, or of the Workload that it has made of it."""
        found = await self._events(seen, f"involvedObject.uid={seen.waited_for}")
        if name := workload(found):
            found += await self._events(seen, f"involvedObject.kind=Workload,involvedObject.name={name}")
        return newest([event for event in found if by_kueue(event)])

    async def _events(self, seen: Observed, about: str) -> list[Json]:
        answer = await self.client.get(paths.events(seen.fact.namespace), fieldSelector=about, limit="500")
        found: list[Json] = answer["items"]
        return found

    async def _report(self, key: Key, seen: Observed, applied: Applied) -> None:
        """After a status patch: the Event, the figures, the log."""
        decision, now = applied.decision, time.time()
        before = next((c.reason for c in seen.status.conditions if c.type is ConditionType.READY), None)
        self._told_progress[key] = time.monotonic()
        if decision.reason is None:
            return
        if decision.reason is not before:
            log.info("%s/%s: %s: %s", *key, decision.reason, decision.message)
        for reason, message in remarks(seen.status, decision, applied.status):
            await write(self.client, event(seen.fact, reason, message, now, self.settings.identity))

    async def _tell_what_stays(self, fact: ResourceFact, left: str) -> None:
        """The last word of a resource that went without its artifacts."""
        log.warning("%s/%s (%s): %s", fact.namespace, fact.name, fact.uid, left)
        about = (fact, LEFT, left, time.time(), self.settings.identity)
        home = self.settings.operator_namespace
        await write(self.client, event(*about) if fact.abandoned else event_at_home(*about, home))

    def _line_up(self, key: Key, decision: Decision, job: JobFact | None) -> None:
        """Remember who waits for a place; who no longer does makes way for the next."""
        if decision.reason is Reason.QUEUED and job is None:
            self.cache.join_line(key)
        elif self.cache.leave_line(key):
            self._call_next(key[0])

    def _call_next(self, namespace: str) -> None:
        """Whoever is first may have a place, or whoever follows: each that leaves the line calls the next."""
        if (first := self.cache.next_queued(namespace)) is not None:
            self.queue.put(first)

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self.queue.forget(key)
        self._tally.forget(key)
        self._told_progress.pop(key, None)
        self._call_next(key[0])
