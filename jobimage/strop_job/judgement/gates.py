"""The judgement: every gate of a spec held against what was measured. Pure: nothing is measured or published here.

One small function per gate, in the order of GATES; each yields its verdicts, or nothing when the spec does not ask.
A gate whose figure is missing is NotMeasured, one whose confidence the samples leave open is Inconclusive: neither
passes. All must pass, so no correction for the number of gates is needed (an intersection-union test, Berger 1982).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from strop_api.base import quantity
from strop_api.findings import Finding
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Outcome
from strop_api.status import GateStatus, GateVerdict, Latency, MetricFigures, Speedup, Throughput
from strop_api.targets import Gates, MetricDropGate, SpeedupOver, Target
from strop_job.benchmark.variants import Variant
from strop_job.judgement.calibration import calibration
from strop_job.judgement.capacity import peak_memory, throughput, throughput_figures
from strop_job.judgement.case import Case, asked_precision
from strop_job.judgement.evidence import Evidence, Looks, gather
from strop_job.judgement.figures import bytes_text
from strop_job.judgement.headline import (
    baseline,
    compare,
    latency_figures,
    metric_figures,
    sparsity_findings,
    speed_findings,
    speedup_figures,
)
from strop_job.judgement.metric import metric_drop, metric_min
from strop_job.judgement.speed import LOOKED_AT_AGAIN, latency, out_of_reach, speedup
from strop_job.judgement.statistics import LEVEL
from strop_job.judgement.truth import compile_parity, fidelity, realised_precision
from strop_job.judgement.verdicts import unmeasured, verdict
from strop_job.stages import Artifact

DEFAULT_DROP = MetricDropGate(max_points="1.0")
"""Applies when a spec names no gate at all."""
REFUSING = (GateVerdict.MISSED, GateVerdict.INCONCLUSIVE)
"""What was measured and is not good enough, or not sure enough."""


@dataclass(frozen=True)
class Judgement:
    """Every gate's verdict and the headline figures. A figure that was not measured is None."""

    gates: list[GateStatus]
    passed: bool
    metric: MetricFigures | None
    latency: Latency | None
    speedup: Speedup | None
    throughput: Throughput | None = None
    peak_memory_bytes: int | None = None
    """Where the engine lives: resident on a processor, else on the device."""
    findings: tuple[Finding, ...] = ()
    """What a reader must be told though no gate asked, such as "not faster"."""
    out_of_reach: frozenset[str] = frozenset()
    """Gates that are inconclusive and would be after every look."""

    @property
    def outcome(self) -> Outcome:
        """Published when every gate passed; GateMissed when one was missed or is inconclusive; else NotMeasured."""
        if self.passed:
            return Outcome.PUBLISHED
        missed = any(gate.verdict in REFUSING for gate in self.gates)
        return Outcome.GATE_MISSED if missed else Outcome.NOT_MEASURED

    @property
    def message(self) -> str:
        """The first things to say: each gate that refuses, else each without a figure, or that all passed."""
        if self.passed:
            return f"all {len(self.gates)} gates passed"
        missed = [gate.message for gate in self.gates if gate.verdict in REFUSING]
        return "; ".join(missed or [gate.message for gate in self.gates if gate.verdict is not GateVerdict.PASSED])


def judge(
    spec: ModelOptimizationSpec,
    target: Target,
    verify: Artifact | None,
    benchmark: Looks | None,
    engine_size_bytes: int | None,
    calibration: Artifact | None = None,
) -> Judgement:
    """Reads the raw samples back and judges them; running it again costs no measurement.

    `benchmark` is the benchmark, or one of each look; `calibration` the audit of the calibration data.
    """
    return judge_evidence(spec, target, gather(verify, benchmark, engine_size_bytes, calibration))


def judge_evidence(spec: ModelOptimizationSpec, target: Target, seen: Evidence) -> Judgement:
    """Every gate in the order of GATES, and the headline figures. Raises InvalidInput for a senseless confidence."""
    gates = Gates(metric_drop=DEFAULT_DROP) if spec.gates == Gates() else spec.gates
    case = Case(gates, target, seen, spec.seed, asked_precision(spec), spec.benchmark.max_looks)
    verdicts = [status for gate in GATES for status in gate(case)]
    over = gates.speedup.over if gates.speedup else SpeedupOver.BEST_UNQUANTIZED
    comparison = compare(seen.latencies, over, LEVEL, spec.seed)
    return Judgement(
        gates=verdicts,
        passed=all(status.verdict is GateVerdict.PASSED for status in verdicts),
        metric=metric_figures(seen.metric, spec.seed),
        latency=latency_figures(seen.latencies.get(Variant.OPTIMIZED)),
        speedup=speedup_figures(comparison, over),
        throughput=throughput_figures(seen.capacity),
        peak_memory_bytes=seen.capacity.held_bytes(on_device=target.accelerator is not None) if seen.capacity else None,
        findings=(
            *speed_findings(
                seen.latencies,
                case.asked,
                spec.seed,
                said=baseline(seen.latencies, over) if _speed_is_said(verdicts) else None,
            ),
            *sparsity_findings(seen.latencies, spec.seed),
        ),
        out_of_reach=frozenset(out_of_reach(case)),
    )


def not_reached(judgement: Judgement, gate: str) -> Judgement:
    """Of a run that ended at `gate`, before there was an engine: whatever has no figure has it for that."""
    words = f"not reached: the run ended at the gate on {gate}"
    gates = [
        unmeasured(status.gate, words) if status.verdict is GateVerdict.NOT_MEASURED else status
        for status in judgement.gates
    ]
    return replace(judgement, gates=gates)


def undecided(judgement: Judgement) -> bool:
    """Whether another look at latency may decide: all that does not pass are gates on speed that are inconclusive.

    Not where one of them would stay so after every look that is left: time is then better spent on asking for less.
    """
    open_ = [gate for gate in judgement.gates if gate.verdict is not GateVerdict.PASSED]
    may_pass = LOOKED_AT_AGAIN - judgement.out_of_reach
    return bool(open_) and all(gate.verdict is GateVerdict.INCONCLUSIVE and gate.gate in may_pass for gate in open_)


def _speed_is_said(verdicts: list[GateStatus]) -> bool:
    """A speed gate that did not pass has said all there is to say."""
    return any(status.gate == "speedup" and status.verdict is not GateVerdict.PASSED for status in verdicts)


# --- the gates ------------------------------------------------------------------------------------------------------


def size(case: Case) -> Iterator[GateStatus]:
    """Bound on the engine's bytes."""
    gate, measured = case.gates.size, case.seen.engine_size_bytes
    if gate is None:
        return
    if measured is None:
        yield unmeasured("size", "there is no engine to weigh")
        return
    bound = quantity(gate.max)
    side = "is within" if measured <= bound else "is above"
    message = f"the engine's {bytes_text(measured)} {side} {bytes_text(bound)}"
    yield verdict("size", measured <= bound, measured, bound, message)


Gate = Callable[[Case], Iterator[GateStatus]]
GATES: tuple[Gate, ...] = (
    compile_parity,
    calibration,
    metric_drop,
    metric_min,
    speedup,
    latency,
    throughput,
    size,
    peak_memory,
    fidelity,
    realised_precision,
)
"""The whole judgement, in the order of the report."""
