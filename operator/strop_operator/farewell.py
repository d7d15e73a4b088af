"""The end of a resource whose artifacts go with it: its run is stopped, a small Job cleans up, then the finalizer goes.

Pure. The clean-up's Jobs themselves tell how often it was tried and when: nothing else remembers it.
"""

from collections.abc import Callable

from strop_api.errands import ErrandKind
from strop_api.grants import Refusal
from strop_api.reasons import Reason
from strop_api.targets import OnDelete
from strop_operator import paths
from strop_operator.decision import APPEAR_SECONDS, Action, Decision, ask, patience, wait
from strop_operator.errands import answer, failing
from strop_operator.observe import Look, Observed

FIRST_PAUSE_SECONDS, LAST_PAUSE_SECONDS = 60, 3600
"""Between two attempts to clean up."""
HINT = f'it is tried again; the annotation {paths.ABANDON_ANNOTATION}: "true" lets the artifacts be'

Step = Callable[[Observed], Decision | None]


def held(seen: Observed) -> bool:
    """Whether the resource waits for us before it goes."""
    return paths.FINALIZER in seen.fact.finalizers


def wants_holding(seen: Observed) -> bool:
    """Whether it shall wait for us, and does not yet."""
    asked = seen.spec is not None and seen.problem is None and seen.spec.output.on_delete is OnDelete.DELETE
    return asked and not held(seen)


def farewell(seen: Observed) -> Decision:
    """What comes next for a resource that is being deleted and has our finalizer."""
    return next(d for step in STEPS if (d := step(seen)) is not None)


def let_go(seen: Observed) -> Decision | None:
    """Its artifacts are to stay after all."""
    if seen.fact.abandoned:
        return Decision(Action.RELEASE, left=f"{_where(seen)} was left as it is: {paths.ABANDON_ANNOTATION} is true")
    if seen.spec is not None and seen.spec.output.on_delete is OnDelete.RETAIN:
        return Decision(Action.RELEASE)
    return None


def stop_jobs(seen: Observed) -> Decision | None:
    """A run that goes on would publish after the clean-up."""
    for job in (*seen.jobs, *(e for e in seen.errands if e.errand != ErrandKind.CLEAN_UP)):
        if not job.deleting:
            return Decision(Action.STOP, Reason.STOPPING, "stopping what runs, before clean-up", 5.0, job=job)
    if any(job.deleting for job in seen.jobs):
        return ask(seen, Look.JOBS) or wait(Reason.STOPPING, "a Job is being deleted, before clean-up", 10.0)
    if (pod := next((p for p in seen.pods if p.live), None)) is not None:
        return ask(seen, Look.JOBS) or wait(Reason.STOPPING, f"pod {pod.name} is still ending, before clean-up", 10.0)
    return None


def unseen(seen: Observed) -> Decision | None:
    """There may be a Job, or a pod, that the watch has not told of."""
    return ask(seen, Look.JOBS)


def cleaned(seen: Observed) -> Decision | None:
    """A clean-up has ended: well, or it is tried again after a while."""
    if (job := seen.clean_up) is None or job.live:
        return None
    if not (problem := failing(job, answer(job, seen.errand_pods))):
        return Decision(Action.RELEASE)
    pause = min(FIRST_PAUSE_SECONDS << min(job.attempt - 1, 20), LAST_PAUSE_SECONDS)
    if (left := job.ended_at + pause - seen.now) <= 0:
        return None
    message = f"{_where(seen)} could not be cleaned up (attempt {job.attempt}): {problem}; {HINT}"
    return wait(Reason.CLEAN_UP_FAILED, message, left)


def cleaning(seen: Observed) -> Decision | None:
    """A clean-up is at work, or its pod is refused: then Kubernetes tries again by itself."""
    if (job := seen.clean_up) is None or not job.live:
        return None
    reason, message = _said(seen, job.attempt)
    if any(pod.job_uid == job.uid for pod in seen.errand_pods):
        return wait(reason, message, again_after=None)
    if (age := seen.now - job.created_at) < APPEAR_SECONDS:
        return wait(reason, message, APPEAR_SECONDS - age)
    if (look := ask(seen, Look.EVENTS)) is not None:
        return look
    return wait(reason, f"{message}: {seen.warning}" if seen.warning and reason else message, patience(age))


def hindered(seen: Observed) -> Decision | None:
    """No Job can be made: the spec is not understood, or the policy has no such store, folder or image any more."""
    if seen.spec is None:
        message = seen.problem.message if seen.problem is not None else ""
        return wait(Reason.CLEAN_UP_FAILED, f"the spec cannot be read: {message}; {HINT}")
    if not isinstance(seen.grant, Refusal):
        return None
    if seen.grant.reason is Reason.NO_POLICY and (look := ask(seen, Look.POLICY)) is not None:
        return look
    return wait(Reason.CLEAN_UP_FAILED, f"{seen.grant.message}; {HINT}", 60.0)


def clean_up(seen: Observed) -> Decision:
    """Nothing runs any more: what was published can go."""
    job = seen.clean_up
    attempt = job.attempt + 1 if job is not None else 1
    return Decision(Action.ERRAND, *_said(seen, attempt), errand=ErrandKind.CLEAN_UP, attempt=attempt)


STEPS: tuple[Step, ...] = (let_go, stop_jobs, unseen, cleaned, cleaning, hindered, clean_up)


def ending_namespace(seen: Observed) -> Decision:
    """In a namespace that ends nothing can be started: to wait would keep it from ending."""
    return Decision(Action.RELEASE, left=f"{_where(seen)} was left as it is: its namespace is being deleted")


def refused(message: str) -> Decision:
    """The API server does not take the Job."""
    return wait(Reason.CLEAN_UP_FAILED, f"the clean-up's Job is refused: {message}; {HINT}", 60.0)


def _said(seen: Observed, attempt: int) -> tuple[Reason | None, str]:
    """After a failure the status goes on telling of it until the clean-up has ended."""
    if attempt > 1:
        return None, ""
    return Reason.CLEANING_UP, f"a Job removes what was published at {_where(seen)}"


def _where(seen: Observed) -> str:
    return seen.spec.output.uri if seen.spec is not None else "what was published"
