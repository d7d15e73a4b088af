"""Whether quantizing ruined the model, and whether the quantized graph or its compilation is at fault. Pure."""

import math
from collections.abc import Iterator

from strop_api.checks.evidence import QUANTIZATION_RUINED
from strop_api.findings import Finding
from strop_api.optimization import ModelOptimizationSpec
from strop_api.steps import Calibrator, Precision, QuantizeMethod, QuantizeStep
from strop_api.support import QUANTIZATIONS, THIS_BUILD, Quantization
from strop_api.targets import Target
from strop_job.judgement.evidence import Evidence, MetricEvidence
from strop_job.judgement.figures import metric_text, percent_text
from strop_job.judgement.losses import loss_relative
from strop_job.judgement.statistics import LEVEL, Interval

FAR = {"sqnrDecibels": 10.0, "cosine": 0.9, "agreement": 0.8}
"""Below any of these the outputs are another model's: at 10 dB the error has a tenth of the signal's power."""
FELL = 0.05
"""Share of the metric that the interval's lower end must have lost: outputs may differ where answers do not."""


def ruined(
    spec: ModelOptimizationSpec, target: Target, seen: Evidence, metric: MetricEvidence | None
) -> Iterator[Finding]:
    """One finding where a step quantizes, the outputs are far from the original's, and the metric surely fell."""
    step = next((step.quantize for step in reversed(spec.steps) if step.quantize is not None), None)
    if step is None or metric is None or not any(seen.fidelity.get(name, least) < least for name, least in FAR.items()):
        return
    lost = loss_relative(metric, LEVEL, spec.seed)
    if lost is None or not lost.low > FELL:
        return
    yield QUANTIZATION_RUINED.finding(
        f"the engine's outputs are far from the original's ({_distance(seen)}), and {_fall(metric, lost)}; "
        f"{_fault(seen)}",
        mend=_mend(spec, target, step, seen),
    )


def _distance(seen: Evidence) -> str:
    near = seen.fidelity
    parts = (
        f"SQNR {near['sqnrDecibels']:.1f} dB" if "sqnrDecibels" in near else "",
        f"cosine {near['cosine']:.2f}" if "cosine" in near else "",
        f"agreement {percent_text(near['agreement'])}" if "agreement" in near else "",
    )
    return ", ".join(part for part in parts if part)


def _fall(metric: MetricEvidence, lost: Interval) -> str:
    figures = f"{metric.name} went from {metric_text(metric.original)} to {metric_text(metric.optimized)}"
    return f"{figures} ({percent_text(lost.low)} to {percent_text(lost.high)} of it lost)"


def _fault(seen: Evidence) -> str:
    """What compile parity tells."""
    if (passed := _parity_passed(seen)) is None:
        return "whether the graph or the compiler is at fault was not measured"
    if passed:
        return "the engine computes what its graph says, so the quantized graph is at fault, not the compiler"
    return "the engine also differs from its own graph, so the compiler may be at fault"


def _parity_passed(seen: Evidence) -> bool | None:
    worst, bound = (seen.parity or {}).get("worst"), (seen.parity or {}).get("tolerance")
    if seen.parity is None or not isinstance(bound, int | float):
        return None
    return isinstance(worst, int | float) and math.isfinite(worst) and worst <= bound


def _mend(spec: ModelOptimizationSpec, target: Target, step: QuantizeStep, seen: Evidence) -> str:
    """What this target takes and the step does not ask for yet."""
    if _parity_passed(seen) is False:
        return "see compileParity in the report first: try another version or fewer graph optimizations of the runtime"
    if step.method is QuantizeMethod.CAST:
        return "values may overflow: keep the model in fp32, or cast to bf16 where the target has it"
    return "; ".join(_mends(target, step))


def _mends(target: Target, step: QuantizeStep) -> Iterator[str]:
    static = step.method is QuantizeMethod.STATIC
    dynamic = Quantization(Precision.INT8, QuantizeMethod.DYNAMIC)
    if static and dynamic in QUANTIZATIONS[target.runtime] and target.accelerator is None:
        yield "for encoders use method Dynamic"
    yield "keep layers high by excludeNodes or opTypes"
    if static and step.calibrator is Calibrator.MIN_MAX and Calibrator.PERCENTILE in THIS_BUILD.calibrators:
        yield "try calibrator Percentile"
    if not step.per_channel:
        yield "set perChannel: true"
