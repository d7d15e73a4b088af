"""What is known of the cluster: facts by key, by owner and by namespace. The only mutable state of judgement."""

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Generic, TypeVar

from strop_api.errands import ErrandKind
from strop_api.result import ProgressReport
from strop_operator.facts import JobFact, Key, PodFact, PolicyFact, ResourceFact
from strop_operator.pods import ignored

F = TypeVar("F", JobFact, PodFact)


class Owned(Generic[F]):
    """Jobs or pods, by their UID and by the UID of the resource they serve."""

    def __init__(self) -> None:
        self._facts: dict[str, F] = {}
        self._by_owner: dict[str, tuple[str, ...]] = {}

    def put(self, fact: F) -> F | None:
        """Remember the fact unless a newer one is known; returns the one that it replaced."""
        before = self._facts.get(fact.uid)
        if before is not None and before.version > fact.version:
            return before
        if before is None or before.owner_uid != fact.owner_uid:
            self.drop(fact.uid)
            self._by_owner[fact.owner_uid] = (*self._by_owner.get(fact.owner_uid, ()), fact.uid)
        self._facts[fact.uid] = fact
        return before

    def drop(self, uid: str) -> F | None:
        """Forget; returns what was known."""
        fact = self._facts.pop(uid, None)
        if fact is not None:
            others = tuple(other for other in self._by_owner.pop(fact.owner_uid) if other != uid)
            if others:
                self._by_owner[fact.owner_uid] = others
        return fact

    def of(self, owner_uid: str) -> tuple[F, ...]:
        """The resource's, oldest first."""
        facts = (self._facts[uid] for uid in self._by_owner.get(owner_uid, ()))
        return tuple(sorted(facts, key=lambda f: (f.created_at, f.name)))

    def get(self, uid: str) -> F | None:
        """By UID."""
        return self._facts.get(uid)

    def __iter__(self) -> Iterator[F]:
        return iter(self._facts.values())

    def __len__(self) -> int:
        return len(self._facts)


class Cache:
    """All facts. Whoever puts one in learns which key it concerns."""

    def __init__(self) -> None:
        self.resources: dict[Key, ResourceFact] = {}
        self.policies: dict[str, PolicyFact] = {}
        """By namespace; only those named `default`."""
        self.policies_since: dict[str, float] = {}
        """When the policy's present version was first seen, by namespace; in seconds since 1970."""
        self.policies_gone: dict[str, float] = {}
        """When a policy that was known was last found gone, by namespace; in seconds since 1970."""
        self.jobs: Owned[JobFact] = Owned()
        self.pods: Owned[PodFact] = Owned()
        self.progress: dict[str, ProgressReport] = {}
        """By the pod's UID."""
        self.evictions: Counter[str] = Counter()
        """Pods that the Job does not count as failed, by its UID; pods of an eviction vanish, the count stays."""
        self.conflicts: dict[Key, tuple[str, float]] = {}
        """Whose Job has our name, and until when that is believed."""
        self.live_jobs: Counter[str] = Counter()
        """Jobs that may run a pod, by namespace."""
        self.live_checks = 0
        """Drift checks that may run a pod."""
        self.reserved: set[Key] = set()
        """Resources whose Job is being created at this moment."""
        self.queued: dict[str, dict[Key, None]] = defaultdict(dict)
        """Resources that wait for a place, by namespace, in order."""
        self.doubtful: set[Key] = set()
        """Resources of which a deletion may have been missed: a watch had to list again."""
        self._keys: dict[str, Key] = {}

    def put_resource(self, fact: ResourceFact) -> bool:
        """Remember a resource unless it, or a newer version, is known; whether it is news."""
        key = fact.key
        before = self.resources.get(key)
        if before is not None and before.uid == fact.uid and before.version >= fact.version:
            return False
        self.resources[key] = fact
        self._keys.setdefault(fact.uid, key)
        return True

    def drop_resource(self, fact: ResourceFact) -> None:
        """Forget a resource; not when another of that name came meanwhile."""
        self._keys.pop(fact.uid, None)
        if (known := self.resources.get(fact.key)) is not None and known.uid == fact.uid:
            del self.resources[fact.key]
            self.conflicts.pop(fact.key, None)
            self.doubtful.discard(fact.key)
            self.leave_line(fact.key)

    def put_policy(self, fact: PolicyFact, now: float) -> None:
        """Remember a namespace's policy."""
        before = self.policies.get(fact.namespace)
        if before is None or (before.uid, before.version) != (fact.uid, fact.version):
            self.policies_since[fact.namespace] = now
        self.policies[fact.namespace] = fact

    def drop_policy(self, namespace: str, now: float) -> None:
        """Forget a namespace's policy."""
        if self.policies.pop(namespace, None) is not None:
            self.policies_gone[namespace] = now

    def put_job(self, fact: JobFact) -> Key | None:
        """Remember a Job; the key of its resource, None when it is no news."""
        before = self.jobs.put(fact)
        now = self.jobs.get(fact.uid)
        self.live_jobs[fact.namespace] += _live(now) - _live(before)
        self.live_checks += _checking(now) - _checking(before)
        return None if now == before else self._keys.get(fact.owner_uid)

    def drop_job(self, uid: str) -> Key | None:
        """Forget a Job; the key of its resource."""
        fact = self.jobs.drop(uid)
        self.evictions.pop(uid, None)
        if fact is None:
            return None
        self.live_jobs[fact.namespace] -= _live(fact)
        self.live_checks -= _checking(fact)
        return self._keys.get(fact.owner_uid)

    def put_pod(self, fact: PodFact) -> Key | None:
        """Remember a pod; the key of its resource."""
        before = self.pods.put(fact)
        if ignored(fact) and (before is None or not ignored(before)):
            self.evictions[fact.job_uid] += 1
        return self._keys.get(fact.owner_uid)

    def drop_pod(self, uid: str) -> Key | None:
        """Forget a pod; the key of its resource."""
        fact = self.pods.drop(uid)
        self.progress.pop(uid, None)
        return None if fact is None else self._keys.get(fact.owner_uid)

    def key_of(self, uid: str) -> Key | None:
        """The key of the resource with this UID."""
        return self._keys.get(uid)

    def occupied(self, namespace: str, but: Key) -> int:
        """Places taken in a namespace, without the one that this key itself is about to take."""
        return self.live_jobs[namespace] + sum(k[0] == namespace for k in self.reserved if k != but)

    def join_line(self, key: Key) -> None:
        """Have the resource wait for a place; whoever waits already keeps its turn."""
        self.queued[key[0]].setdefault(key)

    def leave_line(self, key: Key) -> bool:
        """The resource waits no more; whether it did."""
        waiting = self.queued.get(key[0], {})
        if key not in waiting:
            return False
        del waiting[key]
        if not waiting:
            del self.queued[key[0]]
        return True

    def next_queued(self, namespace: str) -> Key | None:
        """The first that waits for a place in the namespace; it stays the first until it leaves the line."""
        return next(iter(self.queued.get(namespace, ())), None)

    def ahead(self, key: Key) -> int:
        """How many wait for a place whose turn comes before this resource's; all, when it does not wait itself."""
        before = itertools.takewhile(lambda other: other != key, self.queued.get(key[0], ()))
        return sum(other not in self.reserved for other in before)


def _live(fact: JobFact | None) -> int:
    """An errand takes no run's place."""
    return int(fact is not None and fact.live and not fact.errand)


def _checking(fact: JobFact | None) -> int:
    return int(fact is not None and fact.live and fact.errand == ErrandKind.DRIFT)
