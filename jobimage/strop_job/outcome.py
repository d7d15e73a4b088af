"""How a run ended: errors become outcomes with short messages that hold no secret, and figures become the Result."""

import errno
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic import JsonValue

from strop_api.checks import worst_first
from strop_api.failures import OUTCOME_EXIT_CODES, ExitCode
from strop_api.findings import Finding
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Outcome, Result, RunRequest
from strop_api.status import (
    ArtifactRef,
    StageStatus,
    TargetStatus,
    TargetVerdict,
)
from strop_api.steps import Precision
from strop_api.targets import Runtime, Target
from strop_job.backends.base import ASKED_FORMATS
from strop_job.errors import DiskFull, Evicted, StoreFailed, StropError
from strop_job.judgement.case import asked_precision
from strop_job.judgement.figures import percent_text
from strop_job.memory import chain, exhausted, is_exhaustion

if TYPE_CHECKING:
    from strop_job.judgement.gates import Judgement

MESSAGE_LIMIT = 600
SECRET = re.compile(
    r"(?i)((?:x-amz-[a-z-]*(?:signature|credential|token)|aws_?[a-z_]*(?:key|token)[a-z_]*|secret[a-z_-]*|password|"
    r"passwd|token|authorization|accesskey)\s*[=:]\s*)(?:bearer\s+|basic\s+)?[^\s&,;'\"]+"
)
USER_INFO = re.compile(r"(?i)([a-z][a-z0-9+.-]*://)[^/\s@]+@")
NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
FP32_KERNELS = "ONNX Runtime's CPU kernels compute in fp32"
"""Why fp16 weights gain no speed there; the whole sentence must fit the status's 64 characters."""
NOT_INSPECTED = "not inspected"
BUILT = "built, not measured: "
"""How the message of such a run begins; the reason follows."""
VERDICTS = {
    Outcome.PUBLISHED: TargetVerdict.PUBLISHED,
    Outcome.GATE_MISSED: TargetVerdict.GATE_MISSED,
    Outcome.NOT_MEASURED: TargetVerdict.NOT_MEASURED,
}


@dataclass(frozen=True)
class StageRow:
    """One stage of the run as it went."""

    name: str
    seconds: float
    """Wall time; for a cached stage what it had cost when it ran."""
    cached: bool
    digest: str
    size_bytes: int = 0
    """Of all files it yielded."""


@dataclass(frozen=True)
class Trouble:
    """Why a run ended early."""

    outcome: Outcome
    message: str
    field: str | None = None
    mend: str | None = None


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """The text without the given secrets, signatures, tokens and user names in addresses."""
    for secret in secrets:
        if len(secret) >= 4:
            text = text.replace(secret, "[hidden]")
    return USER_INFO.sub(r"\1[hidden]@", SECRET.sub(r"\1[hidden]", text))


def diagnose(error: BaseException, stage: str, secrets: Iterable[str] = ()) -> Trouble:
    """What an exception means: foreseen errors speak for themselves; a full disk and spent memory are found in all of
    the chain."""
    if is_exhaustion(error) and not isinstance(error, (DiskFull, Evicted, StoreFailed)):
        error = exhausted(stage)
    if isinstance(error, StropError) and not isinstance(error, DiskFull):
        return Trouble(error.outcome, redact(error.message, secrets)[:MESSAGE_LIMIT], error.field, error.mend)
    if any(_no_space(e) for e in chain(error)):
        return Trouble(
            Outcome.DISK_FULL,
            f"no space left on the scratch volume during {stage}",
            "spec.worker.scratch",
            "give the run more scratch",
        )
    first = next(iter(str(error).strip().splitlines()), "")
    return Trouble(Outcome.FAILED, redact(f"{stage}: {type(error).__name__}: {first}", secrets)[:MESSAGE_LIMIT])


def _no_space(error: BaseException) -> bool:
    if isinstance(error, DiskFull):
        return True
    if isinstance(error, OSError) and error.errno in NO_SPACE:
        return True
    return "No space left on device" in str(error)


def exit_code(outcome: Outcome) -> ExitCode:
    """The process's exit code, as the failure table has it."""
    return OUTCOME_EXIT_CODES[outcome]


def now() -> str:
    """The time as the API writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def figure(value: float) -> str:
    """Seconds as a decimal string."""
    return f"{value:.2f}"


def realised_precision(spec: ModelOptimizationSpec, target: Target, facts: Mapping[str, JsonValue]) -> str | None:
    """How much of the engine's compute really runs at the precision that was asked last, from verify's inspection."""
    asked = asked_precision(spec)
    if asked is None:
        return None
    inspection = facts.get("inspection")
    if not isinstance(inspection, Mapping):
        return NOT_INSPECTED
    done, whole = inspection.get("macsByFormat"), inspection.get("macs")
    if not isinstance(done, Mapping) or not isinstance(whole, int) or whole <= 0:
        return NOT_INSPECTED
    part = done.get(ASKED_FORMATS[asked].value, 0)
    if not isinstance(part, int):
        return NOT_INSPECTED
    on_cpu = target.runtime is Runtime.ONNX_RUNTIME and target.accelerator is None
    if asked is Precision.FP16 and part == 0 and on_cpu:
        return f"0% in fp16: {FP32_KERNELS}"
    counted = "counted multiply-accumulates" if inspection.get("uncounted") else "multiply-accumulates"
    return f"{percent_text(part / whole)} of {counted} in {asked}"


def make_result(
    request: RunRequest,
    outcome: Outcome,
    *,
    message: str = "",
    field: str | None = None,
    judgement: "Judgement | None" = None,
    artifact: ArtifactRef | None = None,
    built: ArtifactRef | None = None,
    rows: Sequence[StageRow] = (),
    findings: Sequence[Finding] = (),
    report: str | None = None,
    model_digest: str | None = None,
    realised_precision: str | None = None,
) -> Result:
    """The Result; an artifact is named exactly when it was published, a built one exactly when it was not measured."""
    target = None
    if judgement is not None:
        target = TargetStatus(
            name=request.target,
            verdict=VERDICTS.get(outcome, TargetVerdict.FAILED),
            artifact=artifact if outcome is Outcome.PUBLISHED else None,
            built=built if outcome is Outcome.NOT_MEASURED else None,
            metric=judgement.metric,
            latency=judgement.latency,
            speedup=judgement.speedup,
            throughput=judgement.throughput,
            peak_memory_bytes=judgement.peak_memory_bytes,
            realised_precision=realised_precision,
            gates=list(judgement.gates),
        )
    return Result(
        run_id=request.run_id,
        outcome=outcome,
        message=message[:2048],
        field=field[:256] if field else None,
        target=target,
        stages=[StageStatus(name=r.name[:80], seconds=figure(r.seconds), cached=r.cached) for r in rows][:64],
        findings=worst_first(findings)[:16],
        report=report,
        model_digest=model_digest,
        finished_at=now(),
    )
