"""The operator's judgement: a list of small pure checks. The first that has something to say decides."""

from dataclasses import replace

from strop_api.failures import PolicyAction
from strop_api.grants import Grant, Refusal
from strop_api.reasons import Reason
from strop_api.status import ConditionType, ModelOptimizationStatus, TargetVerdict
from strop_operator.decision import APPEAR_SECONDS, RESYNC_SECONDS, Action, Check, Decision, ask, patience, wait
from strop_operator.drift import at_rest
from strop_operator.facts import PodFact
from strop_operator.farewell import farewell, held, wants_holding
from strop_operator.observe import Look, Observed
from strop_operator.pods import Ending, describe, ending, explain, last_words, stuck

MAX_EVICTIONS = 20
MAX_LOST = 5
"""Jobs launched for one run whose results were lost, before somebody should look."""
KEEP_FAILED_SECONDS = 3600
"""Without `ttlSecondsAfterFinished` a published run's Job goes at once; another's stays a while: its log is read."""
FOLLOW_SECONDS = 5.0
"""A Job follows the end of its last pod within this: what it says then is the next thing worth a write."""
START_SECONDS = 30.0
"""A scheduled pod's container starts within this, or the pod's Events say why not."""
REPLACED_SECONDS = 10.0
"""A policy that is gone may be back within this: Helm and `kubectl replace` delete it and make it anew."""

HOLD = Decision(Action.HOLD, again_after=0.0)

OUTCOMES = frozenset(
    {
        Reason.PUBLISHED, Reason.GATE_MISSED, Reason.NOT_MEASURED, Reason.INVALID_INPUT, Reason.STORE_FAILED,
        Reason.OUT_OF_MEMORY, Reason.DISK_FULL, Reason.DEADLINE_EXCEEDED, Reason.EVICTED_TOO_OFTEN,
        Reason.WORKER_FAILED, Reason.UNSUPPORTED,
    }
)  # fmt: skip
"""Reasons with which a run can end."""


def decide(seen: Observed) -> Decision:
    """The first check that has something to say decides; the last always has."""
    return next(d for check in CHECKS if (d := check(seen)) is not None)


def deleted(seen: Observed) -> Decision | None:
    """The garbage collector takes the Jobs along; nothing is started or said, unless artifacts go along too."""
    if not seen.fact.deleting:
        return None
    return farewell(seen) if held(seen) else wait(None, again_after=None)


def to_be_held(seen: Observed) -> Decision | None:
    """Artifacts that are there already shall from now on go with the resource."""
    return HOLD if seen.status.run is not None and wants_holding(seen) else None


def settled(seen: Observed) -> Decision | None:
    """The run that is wanted has ended and its result is recorded: only its Job is left to clean up."""
    reason = None if seen.run is None else outcome(seen.status)
    if reason is None or (reason is Reason.PUBLISHED and not _published(seen.status)):
        return None
    said = seen.run.message if seen.run is not None and seen.run.reason is not None else ready(seen.status)[1]
    for job in seen.jobs:
        left = 0.0 if job.live else job.ended_at + _keep_seconds(seen, reason) - seen.now
        if job.deleting:
            continue
        if left <= 0:
            return Decision(Action.STOP, reason, said, job=job)
        rest = at_rest(seen, reason, said)
        return replace(rest, again_after=left if rest.again_after is None else min(left, rest.again_after))
    return at_rest(seen, reason, said)


def outcome(status: ModelOptimizationStatus) -> Reason | None:
    """How the recorded run ended; None when it has not. Ready says it too, until it speaks of a later spec."""
    if status.run is None or status.run.finished_at is None:
        return None
    if status.run.reason is not None:
        return status.run.reason
    reason = ready(status)[0]
    return reason if reason in OUTCOMES else None


def _published(status: ModelOptimizationStatus) -> bool:
    """Whether the published artifact is still told of; without it the run is asked again."""
    return any(target.verdict is TargetVerdict.PUBLISHED for target in status.targets)


def unreadable(seen: Observed) -> Decision | None:
    """The spec cannot be carried out. A run that was launched goes on: only an upgrade can have changed the rules."""
    if seen.problem is None:
        return None
    return Decision(Action.SETTLE, seen.problem.reason, seen.problem.message)


def superseded(seen: Observed) -> Decision | None:
    """Another run was wanted before: its Job goes, and its pods must have ended before anything new starts."""
    for job in seen.jobs:
        if job.run_id != seen.run_id and not job.deleting:
            return Decision(Action.STOP, Reason.STOPPING, f"stopping run {job.run_id}", 5.0, job=job)
    for job in seen.jobs:
        if job.deleting:
            return ask(seen, Look.JOBS) or wait(Reason.STOPPING, f"Job {job.name} is being deleted", 10.0)
    known = {job.uid for job in seen.jobs}
    if (pod := next((p for p in seen.pods if p.live and p.job_uid not in known), None)) is not None:
        message = f"pod {pod.name} of an earlier Job is still ending"
        return ask(seen, Look.JOBS) or wait(Reason.STOPPING, message, 10.0)
    return None


def finished(seen: Observed) -> Decision | None:
    """The Job ended: its result is recorded, or, when that was lost, the same run is asked again."""
    job = seen.job
    if job is None or job.live:
        return None
    spec = seen.spec
    target, output = (spec.targets[0].name, spec.output.uri) if spec is not None else (job.target, None)
    how = ending(job, seen.job_pods, target, output)
    if how.result is None and Look.JOBS not in seen.looked:
        return Decision(Action.LOOK, look=Look.JOBS)
    lost = job.lost + 1
    if how.lost and lost < MAX_LOST:
        return Decision(Action.STOP, Reason.RESULT_LOST, f"{how.message}; the run is asked again", job=job)
    if how.lost:
        how = Ending(Reason.WORKER_FAILED, f"{how.message}, {lost} times")
    if how.retry and _retries_left(seen):
        return Decision(Action.STOP, Reason.RETRYING, how.message, job=job)
    return Decision(Action.SETTLE, how.reason, how.message, 5.0, ending=how)


def _retries_left(seen: Observed) -> bool:
    """Whether the spec grants another attempt after those that failed, and time for it."""
    if seen.spec is None:
        return False
    return seen.spent.failures <= seen.spec.retries and seen.spent.seconds < seen.spec.active_deadline_seconds


def suspended(seen: Observed) -> Decision | None:
    """Somebody asked to pause: stop the pod, keep every record, start nothing."""
    if seen.spec is None or not seen.spec.suspend:
        return None
    if (job := seen.job) is not None:
        return Decision(Action.STOP, Reason.STOPPING, "stopping the pod: spec.suspend is true", 5.0, job=job)
    return Decision(Action.SETTLE, Reason.SUSPENDED, "spec.suspend is true")


def evicted_too_often(seen: Observed) -> Decision | None:
    """The Job itself would go on for ever: disruptions do not count for it."""
    if seen.job is None or seen.evictions <= MAX_EVICTIONS:
        return None
    message = f"evicted {seen.evictions} times; the last time: {_last_words(seen)}"
    return Decision(Action.SETTLE, Reason.EVICTED_TOO_OFTEN, message, ending=Ending(Reason.EVICTED_TOO_OFTEN, message))


def held_back(seen: Observed) -> Decision | None:
    """The Job is there and may not run: Kueue has not let it in yet, or has taken it back for another."""
    if (job := seen.job) is None or not job.suspended:
        return None
    if any(pod.live for pod in seen.job_pods):
        return wait(Reason.QUEUED, "the Job is suspended again; its pod is ending", 10.0)
    if (age := seen.now - job.created_at) >= APPEAR_SECONDS and (look := ask(seen, Look.EVENTS)) is not None:
        return look
    words = f": {seen.warning}" if seen.warning else ""
    message = f"the Job is suspended; Kueue starts it when its queue has room{words}"
    return wait(Reason.QUEUED, message, max(patience(age), APPEAR_SECONDS))


def outgrown(seen: Observed) -> Decision | None:
    """The last attempt used up its storage too. The Job would go on for ever: it sees only that the worker left."""
    if seen.job is None or not seen.job_pods or (pod := seen.job_pods[-1]).phase != "Failed":
        return None
    row = explain(pod)
    if row.pod_reason is None or _retries_left(seen):
        return None
    message = describe(row, pod, None, seen.run_id)
    return Decision(Action.SETTLE, row.reason, message, ending=Ending(row.reason, message))


def no_pod(seen: Observed) -> Decision | None:
    """The Job may run and has no pod: its pods are refused."""
    job = seen.job
    if job is None or seen.job_pods:
        return None
    age = seen.now - job.created_at
    if age < APPEAR_SECONDS:
        return wait(Reason.LAUNCHED, launched(seen), APPEAR_SECONDS - age)
    if Look.EVENTS not in seen.looked:
        return Decision(Action.LOOK, look=Look.EVENTS)
    if seen.warning:
        return wait(Reason.POD_REFUSED, seen.warning, patience(age))
    return wait(Reason.LAUNCHED, launched(seen), patience(age))


def retrying(seen: Observed) -> Decision | None:
    """The newest pod ended; another attempt is promised only where the Job will make one."""
    if seen.job is None or (pod := seen.job_pods[-1]).live:
        return None
    if pod.phase == "Succeeded" or not _goes_on(seen, pod):
        if 0 < (left := pod.ended_at + FOLLOW_SECONDS - seen.now) <= FOLLOW_SECONDS:
            return wait(None, again_after=left)
        return wait(Reason.RUNNING, "the worker has ended; waiting for the Job", 10.0)
    return wait(Reason.RETRYING, _last_words(seen))


def _goes_on(seen: Observed, pod: PodFact) -> bool:
    """Whether the Job starts another pod after this one, by the failure table and the retries that are left."""
    # Exit code 137 ends the Job whatever killed it; unless it was for memory we ask again: see `finished`.
    row = explain(pod)
    return _retries_left(seen) if row.action is PolicyAction.COUNT else row.action is PolicyAction.IGNORE


def leaving(seen: Observed) -> Decision | None:
    """The newest pod is disrupted and has not ended: on a node that is lost nobody can say when it will, and nothing
    follows it before."""
    if seen.job is None or not (pod := seen.job_pods[-1]).deleting or pod.disrupted is None:
        return None
    return wait(Reason.RETRYING, f"{describe(explain(pod), pod, None, seen.run_id)}; pod {pod.name} has not ended yet")


def starting(seen: Observed) -> Decision | None:
    """The newest pod is there and its container does not run yet."""
    if seen.job is None or (pod := seen.job_pods[-1]).phase == "Running":
        return None
    if (why := stuck(pod)) is not None:
        return wait(*why, again_after=60.0)
    age = seen.now - pod.created_at
    if age < START_SECONDS:
        return wait(Reason.LAUNCHED, launched(seen), max(START_SECONDS - age, 10.0))
    if not pod.scheduled:
        return wait(Reason.LAUNCHED, f"pod {pod.name} is starting", 10.0)
    if Look.EVENTS not in seen.looked:
        return Decision(Action.LOOK, look=Look.EVENTS)
    return wait(Reason.LAUNCHED, f"pod {pod.name} is starting" + (f": {seen.warning}" if seen.warning else ""), 30.0)


def running(seen: Observed) -> Decision | None:
    """The worker is at work."""
    if seen.job is None:
        return None
    return wait(Reason.RUNNING, f"pod {seen.job_pods[-1].name} is running")


def refused(seen: Observed) -> Decision | None:
    """The policy is missing, does not allow this, or has no image for it. Asked only before a launch."""
    if not isinstance(seen.grant, Refusal):
        return None
    if seen.grant.reason is Reason.NO_POLICY and Look.POLICY not in seen.looked:
        return Decision(Action.LOOK, look=Look.POLICY)
    if seen.grant.reason is Reason.NO_POLICY and (left := seen.policy_gone_at + REPLACED_SECONDS - seen.now) > 0:
        return wait(None, again_after=left)
    return Decision(Action.SETTLE, seen.grant.reason, seen.grant.message, RESYNC_SECONDS)


def conflicting(seen: Observed) -> Decision | None:
    """A Job of our name belongs to somebody else."""
    return Decision(Action.SETTLE, Reason.NAME_CONFLICT, seen.conflict, 60.0) if seen.conflict else None


def unseen(seen: Observed) -> Decision | None:
    """There may be a Job that the watch has not told of: ask, for two would run at once."""
    may_be = seen.status.run is not None or seen.before_start
    return ask(seen, Look.JOBS) if may_be else None


def first_held(seen: Observed) -> Decision | None:
    """Before anything can be published, the resource is made to wait for us when it goes."""
    return HOLD if wants_holding(seen) else None


def queued(seen: Observed) -> Decision | None:
    """The namespace has as many runs as the policy allows, or others have waited longer for the places there are."""
    limit = seen.grant.policy.limits.concurrent_runs if isinstance(seen.grant, Grant) else 0
    if seen.occupied + seen.ahead < limit:
        return None
    return wait(Reason.QUEUED, f"waiting for a place: the policy allows {limit} runs at once in this namespace", 30.0)


def launched(seen: Observed) -> str:
    """The same words until something new is known: each change of them is a write."""
    return f"run {seen.run_id} is launched"


def launch(seen: Observed) -> Decision:
    """Nothing stands in the way."""
    return Decision(Action.LAUNCH, Reason.LAUNCHED, launched(seen), APPEAR_SECONDS)


CHECKS: tuple[Check, ...] = (
    deleted, to_be_held, settled, superseded, finished, suspended, evicted_too_often, outgrown, held_back, no_pod,
    retrying, leaving, starting, running, unreadable, refused, conflicting, unseen, first_held, queued, launch,
)  # fmt: skip


def ready(status: ModelOptimizationStatus) -> tuple[Reason | None, str]:
    """What Ready says."""
    return next(((c.reason, c.message) for c in status.conditions if c.type is ConditionType.READY), (None, ""))


def _keep_seconds(seen: Observed, reason: Reason) -> float:
    asked = seen.spec.ttl_seconds_after_finished if seen.spec is not None else None
    if asked is not None:
        return float(asked)
    return 0.0 if reason is Reason.PUBLISHED else float(KEEP_FAILED_SECONDS)


def _last_words(seen: Observed) -> str:
    pod = next((p for p in reversed(seen.job_pods) if not p.live), None)
    return last_words(pod, seen.run_id) if pod is not None else "the pod is gone"
