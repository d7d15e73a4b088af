"""Counts what reconciles bring about: how runs ended and what they measured, waits, failed attempts, errands."""

from strop_api.checks import CATALOGUE
from strop_api.errands import ErrandKind
from strop_api.findings import Finding
from strop_api.optimization import ModelOptimizationSpec
from strop_api.reasons import Reason
from strop_api.result import Result
from strop_api.status import GateStatus, ModelOptimizationStatus, StageStatus, TargetStatus
from strop_api.steps import RESERVED, RESERVED_PREFIXES
from strop_operator.apply import Applied
from strop_operator.decide import ready
from strop_operator.decision import Action, Decision
from strop_operator.facts import Key
from strop_operator.metrics import CAUSES, DISRUPTED, GATES, OTHER, Metrics, known
from strop_operator.observe import Observed
from strop_operator.pods import explain

WAITING = frozenset(
    {Reason.QUEUED, Reason.LAUNCHED, Reason.UNSCHEDULABLE, Reason.IMAGE_PULL_FAILED, Reason.POD_REFUSED}
)
"""Reasons under which a run is wanted and no worker is at work."""
KINDS = frozenset(name.partition("-")[0] for name in (*RESERVED, *RESERVED_PREFIXES))


class Tally:
    """Feeds the metrics. All it remembers is since when somebody waits, and who was let go."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._waiting: dict[Key, float] = {}
        self._released: set[Key] = set()

    def add(self, key: Key, seen: Observed, applied: Applied) -> None:
        """A reconcile has done its work."""
        decision = applied.decision
        self._count_wait(key, seen, decision)
        if decision.action is Action.RELEASE:
            self._count_release(key, seen, decision)
        if not applied.patched:
            return
        if decision.ending is not None and seen.spec is not None:
            self._count_run(seen, seen.spec, decision)
        if decision.checked is not None:
            changed = "Changed" if decision.checked.changes else "Unchanged"
            self._errand(ErrandKind.DRIFT, "Failed" if decision.checked.problem else changed)
        self._count_failure(seen, decision, applied.status)

    def forget(self, key: Key) -> None:
        """The resource is gone."""
        self._waiting.pop(key, None)
        self._released.discard(key)

    def _count_wait(self, key: Key, seen: Observed, decision: Decision) -> None:
        """From creation for a new resource, else from the first reconcile that found it waiting, to the first that saw
        its worker at work. A worker that ended unseen tells nothing of the wait."""
        if decision.reason in WAITING:
            self._waiting.setdefault(key, seen.now if seen.status.conditions else seen.fact.created_at)
        elif decision.reason is not None:
            since = self._waiting.pop(key, None)
            if since is not None and decision.reason is Reason.RUNNING and seen.job_pods[-1].live:
                self._metrics.wait.observe(max(seen.now - since, 0.0))

    def _count_release(self, key: Key, seen: Observed, decision: Decision) -> None:
        """A resource goes: its artifacts were removed, or are left on purpose. Counted once, however often tried."""
        if key in self._released:
            return
        self._released.add(key)
        if decision.left:
            self._errand(ErrandKind.CLEAN_UP, "Abandoned")
        elif any(job.errand == ErrandKind.CLEAN_UP for job in seen.errands):
            self._errand(ErrandKind.CLEAN_UP, "Done")

    def _errand(self, kind: ErrandKind, outcome: str) -> None:
        self._metrics.errands.labels(str(kind), outcome).inc()

    def _count_run(self, seen: Observed, spec: ModelOptimizationSpec, decision: Decision) -> None:
        runtime, outcome = str(spec.targets[0].runtime), str(decision.reason)
        self._metrics.runs.labels(runtime, precision(spec), outcome).inc()
        started = seen.job.created_at if seen.job is not None else seen.now
        self._metrics.duration.labels(runtime, outcome).observe(max(seen.now - started, 0.0))
        if decision.ending is not None and (result := decision.ending.result) is not None:
            self._count_result(spec, result)

    def _count_result(self, spec: ModelOptimizationSpec, result: Result) -> None:
        for stage in result.stages:
            self._count_stage(spec, stage)
        for finding in result.findings:
            self._count_finding(finding)
        if result.target is not None:
            self._count_target(spec, result.target)

    def _count_stage(self, spec: ModelOptimizationSpec, stage: StageStatus) -> None:
        kind = stage_kind(stage.name, spec)
        self._metrics.stages.labels(kind, str(stage.cached).lower()).inc()
        if not stage.cached:
            self._metrics.stage_seconds.labels(kind).observe(float(stage.seconds))

    def _count_finding(self, finding: Finding) -> None:
        self._metrics.findings.labels(known(finding.check, CATALOGUE), str(finding.severity)).inc()

    def _count_target(self, spec: ModelOptimizationSpec, target: TargetStatus) -> None:
        runtime = str(spec.targets[0].runtime)
        if target.speedup is not None:
            self._metrics.speedup.labels(runtime).observe(float(target.speedup.ratio))
        if target.metric is not None:
            self._metrics.drop.labels(precision(spec)).observe(float(target.metric.drop_points))
        if target.artifact is not None:
            self._metrics.published.labels(runtime).inc(target.artifact.size_bytes)
        for gate in target.gates:
            self._metrics.gates.labels(gate_name(gate), str(gate.verdict)).inc()

    def _count_failure(self, seen: Observed, decision: Decision, after: ModelOptimizationStatus) -> None:
        """An attempt that another follows, at the transition; a clean-up that came to nothing, at each new word."""
        before = ready(seen.status)
        if decision.reason is Reason.CLEAN_UP_FAILED and before != ready(after):
            self._errand(ErrandKind.CLEAN_UP, "Failed")
        if before[0] is decision.reason:
            return
        if decision.reason is Reason.RETRYING:
            self._metrics.attempts.labels(cause(seen)).inc()
        if decision.reason is Reason.RESULT_LOST:
            self._metrics.attempts.labels(str(Reason.RESULT_LOST)).inc()


def precision(spec: ModelOptimizationSpec) -> str:
    """The precision that is asked for: `none` without a quantizing step, `mixed` with several."""
    found = {str(step.quantize.precision) for step in spec.steps if step.quantize is not None}
    return found.pop() if len(found) == 1 else ("mixed" if found else "none")


def stage_kind(name: str, spec: ModelOptimizationSpec) -> str:
    """What kind of stage it is: a step's type, else the verb that the stage's name begins with."""
    step = next((step for step in spec.steps if step.name == name), None)
    return str(step.type).lower() if step is not None else known(name.partition("-")[0], KINDS)


def gate_name(gate: GateStatus) -> str:
    """The gate's field below `spec.gates`, without what is below that."""
    return known(gate.gate.partition(".")[0], GATES)


def cause(seen: Observed) -> str:
    """Why the newest pod that ended did."""
    pod = next((pod for pod in reversed(seen.job_pods) if not pod.live), None)
    reason = explain(pod).reason if pod is not None else None
    if reason is Reason.RETRYING:
        return DISRUPTED
    return str(reason) if reason in CAUSES else OTHER
