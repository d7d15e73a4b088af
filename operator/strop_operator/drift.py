"""Whether what was published has been overtaken since: when to look, and what was seen. Pure.

A look is a small Job, since only a worker may read the store; that the worker image has changed the policy says.
"""

import hashlib

from strop_api.errands import ErrandKind
from strop_api.grants import Grant
from strop_api.reasons import Reason
from strop_api.status import ArtifactRef, Condition, ConditionType, ModelOptimizationStatus, TargetVerdict
from strop_operator.decision import Action, Checked, Decision, ask, wait
from strop_operator.errands import answer, failing
from strop_operator.facts import JobFact, seconds
from strop_operator.observe import Look, Observed

AT_ONCE = 16
"""Looks at once, of all resources together."""
CROWDED_SECONDS = 60.0
FAILED_FIRST_SECONDS, FAILED_LAST_SECONDS = 300, 86_400
"""After a look that came to nothing the next comes sooner, then ever later: after this at first and at most."""
TOLD_FROM = 2
"""Looks in a row that came to nothing, before somebody should know."""
WORST_FIRST = (Reason.SOURCE_CHANGED, Reason.RUNTIME_CHANGED)
"""What a look may find."""


def at_rest(seen: Observed, reason: Reason, said: str) -> Decision:
    """The run is over and cleaned up: from now on somebody looks now and then, if the policy wants it."""
    for job in (errand for errand in seen.errands if errand.errand == ErrandKind.DRIFT):
        if job.deleting:
            return wait(reason, said, again_after=None)
        if job.run_id != seen.run_id:
            return Decision(Action.STOP, reason, said, job=job)
        return wait(reason, said, again_after=None) if job.live else _ended(seen, reason, said, job)
    due = next_look(seen)
    if due is None or due > seen.now:
        return wait(reason, said, again_after=None if due is None else due - seen.now)
    if seen.checks >= AT_ONCE:
        return wait(reason, said, again_after=CROWDED_SECONDS * (1 + share(seen.fact.uid)))
    return Decision(Action.ERRAND, reason, said, errand=ErrandKind.DRIFT)


def _ended(seen: Observed, reason: Reason, said: str, job: JobFact) -> Decision:
    """What came of the look; once that is in the status the Job goes."""
    if seconds(seen.status.checked_at) >= job.ended_at:
        return Decision(Action.STOP, reason, said, job=job)
    result = answer(job, seen.errand_pods)
    if result is None and (look := ask(seen, Look.JOBS)) is not None:
        return look
    problem = failing(job, result)
    changes = tuple(result.changes) if result is not None and not problem else ()
    return Decision(Action.STOP, reason, said, job=job, checked=Checked(job.ended_at, changes, problem))


def next_look(seen: Observed) -> float | None:
    """When to look next, in seconds since 1970; None when nobody wants to, or there is nothing to look at.

    Every resource has its own moment of the period, by its UID: thousands that were published at once, or that a
    changed policy concerns at once, are not looked at together, and a restart of the operator changes nothing.
    """
    policy = seen.grant.policy if isinstance(seen.grant, Grant) else None
    if policy is None or policy.drift_checks is None or artifact(seen) is None:
        return None
    every, uid, failures = policy.drift_checks.every_seconds, seen.fact.uid, seen.status.check_failures or 0
    checked = seconds(seen.status.checked_at)
    if failures:
        pause = FAILED_FIRST_SECONDS << min(failures - 1, 20)
        return checked + min(pause, max(every, FAILED_LAST_SECONDS)) * (1 + share(uid) / 4)
    finished = seconds(seen.run.finished_at) if seen.run is not None else 0.0
    return next_moment(max(checked, finished, seen.policy_since), uid, every)


def next_moment(after: float, uid: str, every: int) -> float:
    """The first of the resource's own moments, one in each period, that comes after."""
    return after + every - (after - share(uid) * every) % every


def share(uid: str) -> float:
    """A number from 0 to 1 that belongs to the resource."""
    return int.from_bytes(hashlib.sha256(uid.encode()).digest()[:4]) / 2**32


def artifact(seen: Observed) -> ArtifactRef | None:
    """What the wanted run has published; None when there is nothing that could be overtaken."""
    if seen.spec is None or seen.spec.suspend or seen.problem is not None or seen.run is None:
        return None
    return next((t.artifact for t in seen.status.targets if t.verdict is TargetVerdict.PUBLISHED), None)


def overtaken(
    seen: Observed, status: ModelOptimizationStatus, checked: Checked | None = None
) -> tuple[Reason, str] | None:
    """Reason and message of Stale, or None. `status` is the new one, but for its conditions."""
    if not any(target.verdict is TargetVerdict.PUBLISHED for target in status.targets):
        return None
    return _drifted(seen, checked) or _another_image(seen, status)


def _drifted(seen: Observed, checked: Checked | None) -> tuple[Reason, str] | None:
    """What the look that has just ended found, else what the last that came to something did."""
    if checked is None or checked.problem:
        known = stale(seen.status)
        return (known.reason, known.message) if known is not None and known.reason in WORST_FIRST else None
    found = sorted((c for c in checked.changes if c.reason in WORST_FIRST), key=lambda c: WORST_FIRST.index(c.reason))
    return (found[0].reason, "; ".join(change.message for change in found)) if found else None


def _another_image(seen: Observed, status: ModelOptimizationStatus) -> tuple[Reason, str] | None:
    run = status.run
    if run is None or run.id != seen.run_id or "@" not in run.image:
        return None
    if not isinstance(seen.grant, Grant):  # a policy that is being replaced is gone for a moment
        known = stale(seen.status)
        return (known.reason, known.message) if known is not None and known.reason is Reason.IMAGE_CHANGED else None
    if (newest := seen.grant.newest.ref) == run.image:
        return None
    return Reason.IMAGE_CHANGED, f"made with {run.image}; a run today would get {newest}"


def stale(status: ModelOptimizationStatus) -> Condition | None:
    """The condition Stale, when it is true."""
    return next((c for c in status.conditions if c.type is ConditionType.STALE and c.status == "True"), None)
