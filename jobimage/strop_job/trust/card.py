"""The model card of a published run: `README.md` with Hugging Face metadata. It tells what was measured and no more.

The metadata's form: https://github.com/huggingface/hub-docs/blob/main/modelcard.md.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from pydantic import JsonValue

from strop_api.findings import Finding, Severity
from strop_api.markdown import table
from strop_api.model import TaskType
from strop_api.result import RunRequest
from strop_api.status import GateStatus
from strop_api.steps import StepType
from strop_api.targets import Runtime, SpeedupOver, Target
from strop_job.handoff.readme import bundles, files_table
from strop_job.judgement.case import asked_precision
from strop_job.judgement.figures import bytes_text, microseconds_text, points_text, ratio_text
from strop_job.judgement.gates import Judgement
from strop_job.judgement.headline import PHRASES
from strop_job.publish import PublishedFile
from strop_job.stages import Artifact
from strop_job.trust.drift import DISTRIBUTIONS
from strop_job.trust.markup import code, plain
from strop_job.trust.statement import Provenance

LIBRARIES = {
    Runtime.ONNX_RUNTIME: "onnx",
    Runtime.OPENVINO: "openvino",
    Runtime.TENSORRT: "tensorrt",
    Runtime.TENSORRT_RTX: "tensorrt",
    Runtime.INDUCTOR: "pytorch",
}
PIPELINES = {TaskType.TOKEN_CLASSIFICATION: "token-classification", TaskType.RETRIEVAL: "feature-extraction"}
"""Where the task alone says which of the hub's pipelines it is; a classification may be of text, image or sound."""
HUB = "hf://"

BODY = """\
---
{metadata}---

# {title}

{source}

## What was measured

{conditions}

{figures}

These figures are of the files marked *measured* below, on this machine and this data. What is not listed was not
measured; other hardware, other versions and other data were not either.

## Gates

{gates}

{findings}## Files

What the files were made from stands in `provenance.json`, an in-toto statement about all of them. `strop verify` checks
the files against it, and its signature if there is one.

{files}{bundles}"""

FINDINGS = """\
## Findings

The checks of the run saw this; no gate refused it.

{rows}

"""


@dataclass(frozen=True)
class Card:
    """What a card is made from."""

    request: RunRequest
    target: Target
    judgement: Judgement
    provenance: Mapping[str, JsonValue]
    """Of the attempt that measured."""
    companions: Mapping[str, Artifact]
    """By stage."""
    findings: Sequence[Finding] = ()
    """Of the stages and the figures, worst first: nothing that depends on the machine which publishes."""

    def __call__(self, files: Sequence[PublishedFile]) -> str:
        """The card, for these published files. The same run gives the same bytes."""
        seen = Provenance.model_validate(self.provenance)
        return BODY.format(
            metadata=yaml.safe_dump(_metadata(self, seen), sort_keys=False, allow_unicode=True),
            title=plain(f"{self.request.namespace}/{self.request.name}, run {self.request.run_id}"),
            source=_source(self, seen),
            conditions=_conditions(self.target, seen),
            figures=table(("figure", "value", "of"), _figures(self.judgement)),
            gates=table(("gate", "verdict", "in words"), map(_gate_row, self.judgement.gates)),
            findings=_findings(self.findings),
            files=files_table(files),
            bundles=bundles(self.companions),
        )


def _metadata(card: Card, seen: Provenance) -> dict[str, Any]:
    spec, precision = card.request.spec, asked_precision(card.request.spec)
    tags = ["strop", "model-optimization", card.target.runtime.value.lower(), *([str(precision)] if precision else [])]
    found: dict[str, Any] = {"library_name": LIBRARIES[card.target.runtime], "tags": tags}
    if spec.model.uri.startswith(HUB):  # nothing else is a name on the hub
        found["base_model"] = "/".join(spec.model.uri.removeprefix(HUB).split("/")[:2])
        if any(step.type is StepType.QUANTIZE for step in spec.steps):
            found["base_model_relation"] = "quantized"
    if spec.task.type in PIPELINES:
        found["pipeline_tag"] = PIPELINES[spec.task.type]
    if card.judgement.metric is not None:
        found["model-index"] = [{"name": card.request.name, "results": [_result(card, seen)]}]
    return found


def _result(card: Card, seen: Provenance) -> dict[str, Any]:
    """The one metric that was measured, with the data it was measured on."""
    spec, metric = card.request.spec, card.judgement.metric
    evaluation = seen.stage("resolve-evaluation")
    dataset = {"type": spec.data.evaluation.uri, "name": "evaluation data of the run"}
    if evaluation is not None:
        dataset["revision"] = evaluation.content or evaluation.digest
    measured = {"type": metric.name, "value": float(metric.optimized), "name": metric.name} if metric else {}
    return {"task": {"type": _kebab(spec.task.type)}, "dataset": dataset, "metrics": [measured]}


def _kebab(task: TaskType) -> str:
    return PIPELINES.get(task) or "".join(f"-{c.lower()}" if c.isupper() else c for c in task.value).lstrip("-")


def _source(card: Card, seen: Provenance) -> str:
    spec, model = card.request.spec, seen.stage("resolve-model")
    steps = ", ".join(plain(f"{step.name} ({step.type})") for step in spec.steps) or "none"
    digest = f" ({code(model.content or model.digest)})" if model else ""
    return (
        f"Made by Strop from {code(spec.model.uri)}{digest} for {card.target.runtime}, "
        f"target {code(card.target.name)}. Steps: {steps}."
    )


def _conditions(target: Target, seen: Provenance) -> str:
    """The machine, the runtime, and how often the evaluation data had been looked at."""
    hardware = seen.hardware
    gpus = hardware.get("gpus")
    devices = [plain(g.get("name")) for g in gpus if isinstance(g, dict)] if isinstance(gpus, list) else []
    where = f"{plain(hardware.get('cpu_model', 'unknown processor'))} ({plain(hardware.get('arch', ''))})"
    runtime = [f"{n} {plain(seen.versions[n])}" for n in DISTRIBUTIONS[target.runtime] if n in seen.versions]
    threads = (target.cpu.threads if target.cpu else None) or hardware.get("threads")
    many = "thread" if threads == 1 else "threads"
    at_once = f", {plain(threads)} {many}" if threads and target.accelerator is None else ""
    said = f"On {', '.join((where, *devices))}{at_once}, with {', '.join(runtime) or target.runtime}."
    if seen.evaluation is not None:
        said += f" Models measured on this evaluation data so far, this one included: {seen.evaluation.reads}."
    return said


def _figures(judged: Judgement) -> Iterator[tuple[str, str, str]]:
    """One row for each figure that was measured."""
    if (metric := judged.metric) is not None:
        samples = f"{metric.samples} evaluation samples"
        yield plain(metric.name), plain(metric.optimized), samples
        yield f"{plain(metric.name)} of the original", plain(metric.original), samples
        ends = f", 95% {_points(metric.low)} to {_points(metric.high)}" if metric.low and metric.high else ""
        yield "loss in points", f"{_points(metric.drop_points)}{ends}", samples
    if (latency := judged.latency) is not None:
        calls = f"{latency.calls} calls"
        yield "latency, median", microseconds_text(latency.p50_microseconds), calls
        if latency.p99_microseconds is not None:
            yield "latency, p99", microseconds_text(latency.p99_microseconds), calls
    if (speedup := judged.speedup) is not None:
        ratio, low, high = (ratio_text(float(end)) for end in (speedup.ratio, speedup.low, speedup.high))
        yield "speed-up", f"{ratio}, 95% {low} to {high}", plain(f"over {PHRASES[SpeedupOver(speedup.over)]}")
    if (rate := judged.throughput) is not None:
        yield "throughput", f"{float(rate.samples_per_second):,.0f} samples/s", f"batch {rate.batch}"
    if judged.peak_memory_bytes is not None:
        yield "peak memory", bytes_text(judged.peak_memory_bytes), "while serving"


def _points(figure: str) -> str:
    return points_text(float(figure))


def _gate_row(gate: GateStatus) -> tuple[str, ...]:
    """The figures and the bound are in the words; `provenance.json` has them for machines."""
    return plain(gate.gate), str(gate.verdict), plain(gate.message)


def _findings(found: Sequence[Finding]) -> str:
    """What whoever uses the model should know though no gate refused it; what is Low is left to the report."""
    told = [one for one in found if one.severity is not Severity.LOW]
    if not told:
        return ""
    rows = ((str(one.severity), plain(one.check), plain(one.message)) for one in told)
    return FINDINGS.format(rows=table(("severity", "check", "what was seen"), rows))
