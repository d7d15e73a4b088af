"""Composes the status: what was said before, what is known now, and what was decided."""

import json
from collections.abc import Iterable
from typing import Any

from strop_api.checks import CATALOGUE, worst_first
from strop_api.findings import Finding
from strop_api.identity import HASH_VERSION
from strop_api.reasons import Reason
from strop_api.status import (
    Condition,
    ConditionType,
    ModelOptimizationStatus,
    PastRun,
    Phase,
    Progress,
    RunStatus,
    Summary,
    TargetStatus,
)
from strop_operator.decide import outcome
from strop_operator.decision import Action, Checked, Decision
from strop_operator.drift import overtaken
from strop_operator.facts import JobFact, timestamp, unpacked
from strop_operator.observe import Observed

RECONCILING = frozenset(
    {
        Reason.LAUNCHED, Reason.RUNNING, Reason.QUEUED, Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED,
        Reason.POD_REFUSED, Reason.RETRYING, Reason.STOPPING, Reason.RESULT_LOST, Reason.CLEANING_UP,
        Reason.CLEAN_UP_FAILED,
    }
)  # fmt: skip
STALE = frozenset({Reason.SOURCE_CHANGED, Reason.RUNTIME_CHANGED, Reason.IMAGE_CHANGED})
QUIET = frozenset({Reason.PUBLISHED, Reason.SUSPENDED})
STALLED = frozenset(Reason) - RECONCILING - QUIET - STALE
POINTS = 5
"""Progress is told at a new stage or when it grew by this many points."""
FINDINGS = 16


def compose(seen: Observed, decision: Decision, job: JobFact | None, *, progress_due: bool) -> ModelOptimizationStatus:
    """The new status. `job` is that of the wanted run, when there is one."""
    before, reason = seen.status, decision.reason
    if reason is None:
        return before
    status = _of_check(_of_generation(_of_run(seen, decision, job), seen), decision.checked)
    progress = _progress(before.progress, seen, reason, progress_due)
    return status.model_copy(
        update={
            "observed_generation": seen.fact.generation,
            "conditions": conditions(seen, reason, decision.message, overtaken(seen, status, decision.checked)),
            "phase": phase(reason),
            "progress": progress,
            "summary": _summary(status.targets, progress),
        }
    )


def conditions(
    seen: Observed, reason: Reason, message: str, stale: tuple[Reason, str] | None = None
) -> list[Condition]:
    """Ready always; the others only while they are true: Reconciling and Stalled are so read by kstatus."""
    wanted = [(ConditionType.READY, "True" if reason is Reason.PUBLISHED else "False", reason, message)]
    if reason in RECONCILING:
        wanted.append((ConditionType.RECONCILING, "True", reason, message))
    if reason in STALLED:
        wanted.append((ConditionType.STALLED, "True", reason, message))
    if stale is not None:
        wanted.append((ConditionType.STALE, "True", *stale))
    before = {c.type: c for c in seen.status.conditions}
    made = []
    for type_, value, why, words in wanted:
        known = before.get(type_)
        since = known.last_transition_time if known is not None and known.status == value else timestamp(seen.now)
        made.append(
            Condition.model_validate(
                {
                    "type": type_,
                    "status": value,
                    "reason": why,
                    "message": clean(words, 2048),
                    "last_transition_time": since,
                    "observed_generation": seen.fact.generation,
                }
            )
        )
    return made


def phase(reason: Reason) -> Phase:
    """One word for people."""
    if reason in (Reason.RUNNING, Reason.RETRYING):
        return Phase.RUNNING
    if reason is Reason.SUSPENDED:
        return Phase.SUSPENDED
    if reason is Reason.PUBLISHED:
        return Phase.SUCCEEDED
    return Phase.FAILED if reason in STALLED else Phase.PENDING


def clean(text: str, limit: int) -> str:
    """Words of others, without control characters and cut to fit."""
    printable = "".join(c if c.isprintable() else " " for c in text)
    return printable if len(printable) <= limit else printable[: limit - 1] + "…"


def _of_run(seen: Observed, decision: Decision, job: JobFact | None) -> ModelOptimizationStatus:
    """With the part that speaks of the run; a run that is not launched yet leaves the former one standing."""
    before = seen.status
    if decision.action is Action.STOP and before.run is not None and before.run.finished_at is not None:
        return before
    if job is None or job.run_id != seen.run_id:
        return before
    run = _run(seen, decision, job)
    new = before.run is None or before.run.id != run.id
    update: dict[str, Any] = {"run": run}
    if seen.spec is not None and run.finished_at is None:  # those of a run that has ended stay
        update["findings"] = _findings(seen.findings)
    if new or (before.run is not None and before.run.finished_at is not None and run.finished_at is None):
        update |= {"targets": [], "stages": [], "report": None, "checked_at": None, "check_failures": None}
    if new:
        update["runs"] = _history(seen)
    if decision.ending is not None:
        update |= _ended(seen, run, decision)
    return before.model_copy(update=update)


def _of_generation(status: ModelOptimizationStatus, seen: Observed) -> ModelOptimizationStatus:
    """With the run marked as what this generation asks for, when it does: a release that cannot read the spec may go
    on by that."""
    if status.run is None or status.run.id != seen.run_id:
        return status
    run = status.run.model_copy(update={"observed_generation": seen.fact.generation})
    return status.model_copy(update={"run": run})


def _run(seen: Observed, decision: Decision, job: JobFact) -> RunStatus:
    known, launched = seen.run, decision.action is Action.LAUNCH
    if known is not None and known.finished_at is not None and not launched:
        return known
    # While it starts nothing is to be read in the pod, and its name alone is not worth a write.
    pods = [p.name for p in seen.pods if p.job_uid == job.uid and decision.reason is not Reason.LAUNCHED]
    resumed = known is not None and known.finished_at is None
    started = known.started_at if known is not None and resumed else timestamp(job.created_at or seen.now)
    return RunStatus(
        id=job.run_id,
        spec_hash=seen.spec_hash,
        hash_version=known.hash_version if known is not None else HASH_VERSION,
        image=job.image or "unknown",
        rerun=seen.fact.rerun,
        attempt=max(job.attempt, known.attempt if known is not None else 1),
        job=job.name,
        pod=pods[-1] if pods else (known.pod if known is not None else None),
        started_at=started,
        failures=max(seen.spent.failures, job.failures),
        lost=max(seen.spent.lost, job.lost + (decision.reason is Reason.RESULT_LOST)),
        spent_seconds=seen.spent.seconds,
    )


def _ended(seen: Observed, run: RunStatus, decision: Decision) -> dict[str, Any]:
    """What a finished run leaves behind: how it ended, and its figures, when it had a result."""
    said = {"reason": decision.reason, "message": clean(decision.message, 2048)}
    update: dict[str, Any] = {"run": run.model_copy(update={"finished_at": timestamp(seen.now), **said})}
    result = decision.ending.result if decision.ending is not None else None
    if result is None:
        return update
    return update | {
        "targets": [result.target] if result.target is not None else [],
        "stages": result.stages,
        "report": result.report,
        "findings": _findings([*seen.findings, *result.findings]),
    }


def _findings(found: Iterable[Finding]) -> list[Finding]:
    """The worst of them. A worker leaves out what would mend them: the catalogue knows."""
    return [_in_full(finding) for finding in worst_first(found)[:FINDINGS]]


def _in_full(found: Finding) -> Finding:
    known = CATALOGUE.get(found.check)
    mend = found.mend or (known.mend if known is not None else "")
    return found.model_copy(update={"message": clean(found.message, 256), "mend": clean(mend, 160)})


def _of_check(status: ModelOptimizationStatus, checked: Checked | None) -> ModelOptimizationStatus:
    """With the look that has ended."""
    if checked is None:
        return status
    failures = (status.check_failures or 0) + 1 if checked.problem else None
    return status.model_copy(update={"checked_at": timestamp(checked.at), "check_failures": failures})


def _history(seen: Observed) -> list[PastRun]:
    """The former runs, with the one that the new run replaces in front."""
    before, limit = seen.status, seen.spec.runs_history_limit if seen.spec is not None else 0
    run = before.run
    if run is None or run.finished_at is None:
        return before.runs[:limit]
    reason = outcome(before) or Reason.WORKER_FAILED
    past = PastRun(id=run.id, reason=reason, finished_at=run.finished_at, report=before.report)
    return [past, *before.runs][:limit]


def _progress(before: Progress | None, seen: Observed, reason: Reason, due: bool) -> Progress | None:
    """Told only while the worker runs; small steps wait until they are worth a write."""
    if reason is not Reason.RUNNING:
        return None
    if seen.progress is None:
        return before
    now = seen.progress.progress
    now = now.model_copy(update={"message": clean(now.message, 256), "stage": clean(now.stage, 80)})
    if before is None:
        return now
    moved = now.stage != before.stage or abs(now.percent - before.percent) >= POINTS
    return now if moved and due else before


def _summary(targets: list[TargetStatus], progress: Progress | None) -> Summary | None:
    first = targets[0] if targets else None
    made = Summary(
        speedup=f"{float(first.speedup.ratio):.2f}x" if first is not None and first.speedup is not None else "",
        drop=f"{float(first.metric.drop_points):.2f}" if first is not None and first.metric is not None else "",
        progress=f"{progress.stage} {progress.percent}%" if progress is not None else "",
    )
    return made if made != Summary() else None


def dump(status: ModelOptimizationStatus) -> dict[str, Any]:
    """As it goes to the API server."""
    document = status.model_dump(mode="json", by_alias=True, exclude_none=True)
    if status.summary is not None:
        document["summary"] = {name: text for name, text in document["summary"].items() if text}
    return {name: value for name, value in document.items() if value not in ([], {})}


def merge_patch(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The smallest RFC 7386 patch from one to the other; empty when there is nothing to say."""
    patch: dict[str, Any] = {name: None for name in before if name not in after}
    for name, value in after.items():
        old = before.get(name)
        if isinstance(value, dict) and isinstance(old, dict):
            if inner := merge_patch(old, value):
                patch[name] = inner
        elif name not in before or old != value:
            patch[name] = value
    return patch


def known(data: bytes) -> dict[str, Any]:
    """The packed status, as the API server has it."""
    document = json.loads(unpacked(data))
    return document if isinstance(document, dict) else {}
