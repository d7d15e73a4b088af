"""From a pod that ended, or will not start, to the cause: the failure table read row by row."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from pydantic import ValidationError

from strop_api.failures import OOM_EXIT_CODE, OUTCOME_EXIT_CODES, TABLE, Failure, PolicyAction
from strop_api.reasons import Reason
from strop_api.result import Outcome, Result, StageMark
from strop_api.status import GateVerdict, TargetVerdict
from strop_operator.facts import JobFact, PodFact

PULLING = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "RegistryUnavailable"}
)
BROKEN = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "StartError"})
ANYTHING_ELSE = TABLE[-1]


@dataclass(frozen=True)
class Ending:
    """How a Job ended."""

    reason: Reason
    message: str
    result: Result | None = None
    lost: bool = False
    """It ended for good, but nobody saw its result."""
    retry: bool = False
    """The cause may pass, though the Job itself gave up too early."""


def explain(pod: PodFact) -> Failure:
    """The first row of the table that matches a pod that failed."""
    return next((row for row in TABLE if _matches(row, pod)), ANYTHING_ELSE)


def ignored(pod: PodFact) -> bool:
    """Whether the pod ended, or will, for a cause that the Job does not count: only we do."""
    return explain(pod).action is PolicyAction.IGNORE


def counted(pod: PodFact) -> bool:
    """Whether the pod failed for a cause that uses up one of the retries."""
    return pod.phase == "Failed" and explain(pod).action is PolicyAction.COUNT


def _matches(row: Failure, pod: PodFact) -> bool:
    if row.pod_condition is not None:
        return pod.disrupted is not None
    if row.terminated_reason is not None:
        return pod.exit_reason == row.terminated_reason or (row.reason is Reason.OUT_OF_MEMORY and _ran_out(pod))
    if row.pod_reason is not None:
        return pod.reason == row.pod_reason
    return row.exit_code is not None and row.exit_code == pod.exit_code


def _ran_out(pod: PodFact) -> bool:
    """The worker outlived a process of its own that was killed for memory: then the runtime may not name the cause."""
    if pod.exit_code != OOM_EXIT_CODE:
        return False
    return any(result.outcome is Outcome.OUT_OF_MEMORY for result in _results(pod.termination))


def ending(job: JobFact, pods: tuple[PodFact, ...], target: str, output_uri: str | None = None) -> Ending:
    """What became of a Job that is terminal. `pods` are its own, oldest first; without an `output_uri` it is not known
    where it was to publish."""
    pod = next((p for p in reversed(pods) if not p.live), None)
    result = read_result(pod, job.run_id) if pod is not None else None
    if job.ended == "Complete":
        return _completed(result, target, output_uri)
    for row in TABLE:
        if row.job_reason is not None and row.job_reason == job.end_reason:
            return Ending(row.reason, job.end_message or row.cause)
    if pod is None and job.end_reason == "PodFailurePolicy":
        return Ending(Reason.RESULT_LOST, f"the Job failed, but its result was not seen: {job.end_message}", lost=True)
    if pod is None:
        return Ending(Reason.WORKER_FAILED, job.end_message or "the Job failed and left no pod behind")
    return _failed(job, pod, result)


def _completed(result: Result | None, target: str, output_uri: str | None) -> Ending:
    """Only a result that is whole and consistent is believed: exit code 0 promises a published artifact."""
    if result is None:
        return Ending(Reason.RESULT_LOST, "the Job completed, but its result was not seen", lost=True)
    if problem := _unbelievable(result, target, output_uri):
        return Ending(Reason.WORKER_FAILED, f"the worker's result contradicts itself: {problem}")
    return Ending(Reason.PUBLISHED, result.message or "every gate passed; the artifact is published", result)


def _unbelievable(result: Result, target: str, output_uri: str | None) -> str:
    if result.outcome is not Outcome.PUBLISHED:
        return f"exit code 0 with outcome {result.outcome}"
    reported = result.target
    if reported is None or reported.name != target:
        return f"it does not speak of target {target}"
    if reported.verdict is not TargetVerdict.PUBLISHED or reported.artifact is None:
        return "published, without an artifact"
    if output_uri is not None and not reported.artifact.uri.startswith(f"{output_uri.rstrip('/')}/"):
        return f"published, but not below {output_uri}"
    missed = [g.gate for g in reported.gates if g.verdict is not GateVerdict.PASSED]
    return f"published, though gates did not pass: {', '.join(missed)}" if missed else ""


def _failed(job: JobFact, pod: PodFact, result: Result | None) -> Ending:
    row, result = explain(pod), _believed(result, pod)
    # 137 ends the Job for memory's sake; other causes of a SIGKILL deserve the attempts they were promised.
    early = job.end_reason == "PodFailurePolicy" and row.action is PolicyAction.COUNT
    return Ending(row.reason, describe(row, pod, result, job.run_id), result, retry=early)


def _believed(result: Result | None, pod: PodFact) -> Result | None:
    """What a failed pod says, unless how it ended says otherwise."""
    return None if result is None or _contradicts(result, pod) or _boasts(result) else result


def last_words(pod: PodFact, run_id: str) -> str:
    """Why a pod ended that another may follow."""
    return describe(explain(pod), pod, _believed(read_result(pod, run_id), pod), run_id)


def _contradicts(result: Result, pod: PodFact) -> bool:
    """Whether the exit code means another outcome; one that this release does not know fits an outcome it does not."""
    meant = OUTCOME_EXIT_CODES[result.outcome]
    later = result.outcome is Outcome.FAILED and pod.exit_code not in OUTCOME_EXIT_CODES.values()
    return meant != pod.exit_code and not later


def _boasts(result: Result) -> bool:
    """A failed run claims a published artifact."""
    return result.target is not None and (
        result.target.artifact is not None or result.target.verdict is TargetVerdict.PUBLISHED
    )


def describe(row: Failure, pod: PodFact, result: Result | None, run_id: str) -> str:
    """The cause in words: the worker's own where it could speak, else what the kubelet saw."""
    if result is not None and result.message:
        field = f"{result.field}: " if result.field and not result.message.startswith(result.field) else ""
        return field + result.message
    stage = last_stage(pod, run_id)
    during = f" during {stage}" if stage else ""
    if row.reason is Reason.OUT_OF_MEMORY:
        limit = f" of {pod.memory_limit}" if pod.memory_limit else ""
        return f"killed for memory{during}: raise spec.worker.resources.limits.memory{limit and ', now' + limit[3:]}"
    if pod.disrupted is not None:
        return f"{row.cause}{during}: {pod.disrupted or 'no reason given'}"
    if row.pod_reason is not None:
        return f"{row.cause}{during}: {pod.message or pod.reason}: raise spec.worker.scratch"
    if pod.reason:
        return f"{row.cause}{during}: {pod.message or pod.reason}"
    cause = "the worker failed" if row is ANYTHING_ELSE else row.cause
    if pod.exit_code is None:
        return cause + during
    return f"{cause}{during} (exit code {pod.exit_code}{', ' + pod.exit_reason if pod.exit_reason else ''})"


def read_result(pod: PodFact, run_id: str) -> Result | None:
    """The result in a termination message; None when there is none, it is malformed, or of another run."""
    result = next(_results(pod.termination), None)
    return result if result is not None and result.run_id == run_id and not _strays(result) else None


def _strays(result: Result) -> bool:
    """Whether an address climbs out of the folder that it begins with: no worker of ours writes such a one."""
    target = result.target
    refs = (target.artifact, target.built) if target is not None else ()
    told = [result.report or "", *(ref.uri for ref in refs if ref is not None)]
    return any(part in (".", "..") for uri in told for part in uri.partition("://")[2].split("/"))


def _results(termination: str) -> Iterator[Result]:
    for text in candidates(termination):
        with suppress(ValidationError, ValueError):
            yield Result.model_validate_json(text)


def last_stage(pod: PodFact, run_id: str) -> str:
    """The stage that had begun when the container was killed; empty when unknown."""
    for text in candidates(pod.termination):
        try:
            mark = StageMark.model_validate_json(text)
        except (ValidationError, ValueError):
            continue
        return mark.stage if mark.run_id == run_id else ""
    return ""


def candidates(termination: str) -> tuple[str, ...]:
    """Where a result may stand in a termination message: the whole, or its last line."""
    text = termination.strip()
    return (text, text.rsplit("\n", 1)[-1]) if text else ()


def stuck(pod: PodFact) -> tuple[Reason, str] | None:
    """Why a pod does not start, where its own status says so."""
    if pod.unschedulable is not None:
        return Reason.UNSCHEDULABLE, pod.unschedulable or "the scheduler gives no reason"
    if pod.waiting in PULLING:
        return Reason.IMAGE_PULL_FAILED, f"{pod.waiting}: {pod.waiting_message}"
    if pod.waiting in BROKEN:
        return Reason.LAUNCHED, f"the container does not start: {pod.waiting}: {pod.waiting_message}"
    return None
