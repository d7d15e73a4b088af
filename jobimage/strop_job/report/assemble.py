"""From what is known at the end of a run to the report's document: selecting and naming, no judging."""

from collections.abc import Iterator, Mapping
from typing import Any, TypeVar

from strop_api.identity import spec_hash
from strop_api.result import RunRequest
from strop_api.targets import Target
from strop_job.benchmark.variants import LEAST_CALLS_FOR_P99, Variant
from strop_job.judgement.evidence import Latencies, gather
from strop_job.judgement.losses import method
from strop_job.judgement.statistics import LEVEL, quantile_interval
from strop_job.outcome import realised_precision
from strop_job.report.document import (
    Calibration,
    ReportDocument,
    RunFacts,
    SizeFigure,
    StageFigure,
    ThroughputFigure,
    VariantFigures,
)
from strop_job.report.run import RunReport
from strop_job.stages import Facts
from strop_job.trust.provenance import shown_spec

T = TypeVar("T")

SIZE_LABELS = {
    "resolve-model": "source",
    "export": "exported graph",
    "compile-original": "original, compiled",
    "compile-fp16": "FP16, compiled",
    "compile-bf16": "BF16, compiled",
    "compile": "engine",
}
"""What a stage's files are called; a step's are called by its name."""
CHECK_GRAPH = "check-graph"
"""The stage whose figures are of the graph alone."""
CONDITIONS = (
    "threads", "spinning", "inputs", "shapes", "order", "looks", "rounds", "callsPerTurn", "stoppedEarly", "batch",
    "mostBatch", "throughputNotes", "gpusBefore", "gpusAfter",
)  # fmt: skip
OF_VARIANT = (
    "peakMemoryBytes", "bareMemoryBytes", "peakDeviceMemoryBytes", "waitingCpuShare", "copyInMicroseconds",
    "computeMicroseconds", "copyOutMicroseconds", "cudaGraphComputeMicroseconds",
)  # fmt: skip
"""Facts of a variant that the document carries as they are."""


def assemble(run: RunReport, latencies: Mapping[str, Latencies]) -> ReportDocument:
    """The document of a run that ended in whatever way."""
    judgement, request = run.judgement, run.request
    verify = run.verify.facts if run.verify else {}
    timed = _timed(run)
    metric = gather(run.verify, None, None).metric
    return ReportDocument(
        run=_run_facts(run),
        outcome=run.outcome,
        message=run.message,
        gates=list(judgement.gates) if judgement else [],
        metric=judgement.metric if judgement else None,
        metric_method=method(metric) if metric else "",
        latency=judgement.latency if judgement else None,
        speedup=judgement.speedup if judgement else None,
        variants=[_variant(name, found, _mapping(timed.get("variants"))) for name, found in engine_last(latencies)],
        throughput=[ThroughputFigure.model_validate(row) for row in _rows(timed.get("throughput"))],
        conditions={name: timed[name] for name in CONDITIONS if name in timed},
        sizes=[
            SizeFigure(stage=stage, label=SIZE_LABELS.get(stage, f"after {stage}"), size_bytes=size)
            for stage, size in engine_last(run.sizes)
        ],
        fidelity=_mapping(verify.get("fidelity")),
        parity=_mapping(verify.get("parity")),
        inspection=_mapping(verify.get("inspection")) or _uninspected(run),
        graph=_mapping(_mapping(run.facts.get(CHECK_GRAPH)).get("graph")),
        realised_precision=_realised_precision(run, verify),
        calibration=list(_calibrations(run)),
        stages=[StageFigure(name=s.name, seconds=s.seconds, cached=s.cached, digest=s.digest) for s in run.stages],
        findings=list(run.findings),
        plan=list(run.plan_notes),
        artifact=run.artifact,
        built=run.built,
        provenance={**run.provenance} if run.provenance else {"spec": shown_spec(request.spec)},
    )


def _realised_precision(run: RunReport, verify: Facts) -> str:
    """Empty where the run ended before there was an engine to look into."""
    if run.verify is None and not run.unmeasured:
        return ""
    return realised_precision(run.request.spec, target_of(run.request), verify) or ""


def _timed(run: RunReport) -> Facts:
    """Of the first look, with the rounds of all of them: later ones are taken alike."""
    if len(run.benchmarks) < 2:
        return run.benchmarks[0].facts if run.benchmarks else {}
    every = [look.facts for look in run.benchmarks]
    rounds = sum(int(str(facts.get("rounds", 0))) for facts in every)
    stopped = any(facts.get("stoppedEarly") for facts in every)
    return {**every[0], "looks": len(every), "rounds": rounds, "stoppedEarly": stopped}


def _uninspected(run: RunReport) -> dict[str, Any]:
    """Of an engine that was built and could not be loaded."""
    return {"inspected": False, "note": f"not inspected: {run.unmeasured}"} if run.unmeasured else {}


def engine_last(items: Mapping[str, T]) -> list[tuple[str, T]]:
    """What was made stands after what it was made from and compared with."""
    return sorted(items.items(), key=lambda item: item[0] in (Variant.OPTIMIZED, "compile"))


def target_of(request: RunRequest) -> Target:
    """The target the run serves."""
    return next(t for t in request.spec.targets if t.name == request.target)


def _run_facts(run: RunReport) -> RunFacts:
    request, target = run.request, target_of(run.request)
    return RunFacts(
        id=request.run_id,
        namespace=request.namespace,
        name=request.name,
        target=request.target,
        runtime=target.runtime.value,
        image=request.image,
        spec_hash=spec_hash(request.spec),
        model_uri=request.spec.model.uri,
        finished_at=run.finished_at,
    )


def _variant(name: str, found: Latencies, facts: Mapping[str, Any]) -> VariantFigures:
    calls, more = len(found.microseconds), _mapping(facts.get(name))
    median = quantile_interval(found.microseconds, 0.5, LEVEL)
    figures = VariantFigures(
        name=name,
        calls=calls,
        p50_microseconds=median.point,
        low_microseconds=_finite(median.low),
        high_microseconds=_finite(median.high),
        p90_microseconds=found.quantile(0.9),
        p99_microseconds=found.quantile(0.99) if calls >= LEAST_CALLS_FOR_P99 else None,
    )
    known = figures.model_dump(by_alias=True) | {field: more[field] for field in OF_VARIANT if field in more}
    return VariantFigures.model_validate(known)


def _calibrations(run: RunReport) -> Iterator[Calibration]:
    for stage, facts in run.facts.items():
        found = _mapping(facts.get("calibration"))
        if found.get("tensors"):
            yield Calibration.model_validate(
                {
                    "step": stage,
                    "calibrator": found.get("calibrator", ""),
                    "samples": found.get("samples", 0),
                    "tensors": found["tensors"],
                }
            )


def _finite(value: float) -> float | None:
    return value if abs(value) < float("inf") else None


def _rows(value: object) -> list[Any]:
    return list(value) if isinstance(value, list) else []


def _mapping(value: object) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
