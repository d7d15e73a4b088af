"""One run from its plan to its end: walk the stages, judge, report, and publish if and only if every gate passed.

Records are the only memory. Once the walk has begun the run ends in a `Finished`, never in an exception.
"""

import logging
import shutil
import tempfile
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import JsonValue, ValidationError

from strop_api.checks import worst_first
from strop_api.findings import Finding
from strop_api.result import Outcome, Result, RunRequest
from strop_api.status import ArtifactRef, GateVerdict
from strop_job.audit.facts import read
from strop_job.claims import claim_of, settle, take_over
from strop_job.errors import InvalidInput
from strop_job.handoff import folder_of
from strop_job.hardware import require
from strop_job.judgement.calibration import calibration_status
from strop_job.judgement.comparison import Row, side_by_side
from strop_job.judgement.evidence import gather, read_latencies
from strop_job.judgement.gates import Judgement, judge_evidence, undecided
from strop_job.judgement.soundness import footprint, soundness
from strop_job.outcome import BUILT, StageRow, diagnose, make_result, now, realised_precision, redact
from strop_job.plan import AUDIT_CALIBRATION, Plan
from strop_job.progress import TAIL, TAIL_WEIGHT
from strop_job.publish import Owner, point_back, publish
from strop_job.report import HTML_FILE, JSON_FILE, RunReport, tells_the_same, write_report
from strop_job.stages import Artifact, ArtifactKind
from strop_job.store.digests import file_digest
from strop_job.store.objects import ObjectMissing, ObjectStore, disk_full_is_named, join
from strop_job.trust.card import Card
from strop_job.trust.ledger import count
from strop_job.trust.provenance import Sighting, provenance
from strop_job.walk import Shop, Walk, size_bytes

MODELS = frozenset(
    {
        ArtifactKind.SOURCE,
        ArtifactKind.ONNX_GRAPH,
        ArtifactKind.OPENVINO_IR,
        ArtifactKind.EXPORTED_PROGRAM,
        ArtifactKind.ENGINE,
    }
)
UNMEASURED = "unmeasured"
"""Folder beside the report with an engine that was built and not measured."""
RESULT, RESULT_LIMIT_BYTES = "result.json", 1 << 20
CLAIM = "claim.json"
REPORT_LIMIT_BYTES = 64 << 20
RESOLVE, EVALUATION = "resolve-", "resolve-evaluation"
"""Stages that bring something in; the one that brings the evaluation data."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Judged:
    """What the judgement saw and what came of it."""

    judgement: Judgement
    verify: Artifact | None
    """None where the engine was built and not measured, or where a gate was missed before that."""
    benchmarks: tuple[Artifact, ...]
    """One for each look."""
    provenance: Mapping[str, JsonValue]
    doubts: tuple[Finding, ...] = ()
    """What the figures say beside the gates; nothing where nothing was timed."""
    artifact: ArtifactRef | None = None
    built: ArtifactRef | None = None
    """The engine that was built and not measured, kept beside the report."""


@dataclass(frozen=True)
class Finished:
    """How the run ended, for the command line and the termination message."""

    result: Result
    rows: tuple[StageRow, ...] = ()
    judgement: Judgement | None = None
    report_uris: tuple[str, ...] = ()
    """HTML and JSON."""
    compared: tuple[Row, ...] = ()
    """Original and optimized side by side."""
    seconds: float = 0.0

    @property
    def outcome(self) -> Outcome:
        """How it ended."""
        return self.result.outcome

    @property
    def places(self) -> tuple[tuple[str, str], ...]:
        """Where to look: name and address of the report's two forms and of the engine."""
        named = zip(("report", "figures"), self.report_uris, strict=False)
        target = self.result.target
        artifact = (target.artifact or target.built) if target else None
        return (*named, *((("engine", artifact.uri),) if artifact else ()))


def run(plan: Plan, shop: Shop) -> Finished:
    """Carries the plan out; what goes wrong becomes the outcome. Raises only when scratch cannot be written at all."""
    began = time.monotonic()
    folder = _folder_in(shop.scratch, plan.request.run_id)
    walk = Walk(plan, shop, folder)
    try:
        finished = _walk(walk)
    except BaseException as error:
        finished = _ended_early(walk, error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return replace(finished, seconds=time.monotonic() - began)


def _folder_in(scratch: Path, run_id: str) -> Path:
    try:
        with disk_full_is_named(scratch):
            scratch.mkdir(parents=True, exist_ok=True)
            return Path(tempfile.mkdtemp(prefix=f"run-{run_id}-", dir=scratch))
    except OSError as error:
        raise InvalidInput(f"{scratch} cannot be written: {error.strerror}", mend="give a folder that can") from error


def _walk(walk: Walk) -> Finished:
    if walk.shop.answer_published and (earlier := _published_before(walk)) is not None:
        return earlier
    if not (walk.shop.answer_published and take_over(walk, _claim_uri(walk))):
        require(walk.plan.target, walk.plan.target_index, walk.shop.hardware)
        for stage in walk.plan.stages:
            walk.step(stage)
            if stage.name == AUDIT_CALIBRATION and _is_missed(walk):
                break
    walk.shop.records.remember_run(walk.plan.request.run_id, [d.record.key for d in walk.done.values()])
    walk.tracker.begin(TAIL, TAIL_WEIGHT)
    finished = _conclude(walk)
    walk.tracker.finish()
    return finished


def _is_missed(walk: Walk) -> bool:
    """Whether the gate on calibration is missed: nothing that follows could mend that."""
    gate, facts = walk.plan.request.spec.gates.calibration, walk.done[AUDIT_CALIBRATION].record.facts
    return gate is not None and calibration_status(gate, facts).verdict is not GateVerdict.PASSED


def _published_before(walk: Walk) -> Finished | None:
    """The result of this very run, if it was published and is still there; the pointer then leads to it again."""
    try:
        result = Result.model_validate_json(walk.shop.store.read(join(reports_uri(walk), RESULT), RESULT_LIMIT_BYTES))
    except (ObjectMissing, ValidationError):
        return None
    artifact = result.target.artifact if result.target else None
    if result.outcome is not Outcome.PUBLISHED or artifact is None:
        return None
    request = walk.plan.request
    if not point_back(walk.shop.store, request.spec.output.uri, request.run_id, _owner(request), artifact):
        return None
    stages = [stage.model_copy(update={"cached": True}) for stage in result.stages]
    rows = tuple(StageRow(stage.name, float(stage.seconds), True, "") for stage in stages)
    return Finished(result.model_copy(update={"stages": stages}), rows)


def _conclude(walk: Walk) -> Finished:
    """Judge, publish what passed, and write the report of what happened."""
    plan, request = walk.plan, walk.plan.request
    judged = _look_again(walk, _judge(walk))
    if judged.judgement.passed:
        mine = claim_of(walk, (plan.engine, *plan.companions), judged.provenance)
        claim = settle(walk, _claim_uri(walk), mine)
        if walk.adopted:
            judged = replace(_judge(walk), provenance=claim.provenance)
    if judged.judgement.passed:
        judged = replace(judged, artifact=_publish(walk, judged))
    elif judged.judgement.outcome is Outcome.NOT_MEASURED and not plan.measurable:
        judged = replace(judged, built=_keep_unmeasured(walk))
    judgement, message = judged.judgement, _message(plan, judged)
    uris = _report(walk, judgement.outcome, message, judged)
    result = make_result(
        request,
        judgement.outcome,
        message=message,
        judgement=judgement,
        artifact=judged.artifact,
        built=judged.built,
        rows=walk.rows,
        findings=_findings(walk, judged),
        report=uris[0],
        model_digest=walk.done[plan.model].record.digest,
        realised_precision=realised_precision(request.spec, plan.target, judged.verify.facts if judged.verify else {}),
    )
    _keep(walk, result)
    return Finished(result, walk.rows, judgement, uris, _compared(walk, judged))


def _look_again(walk: Walk, judged: Judged) -> Judged:
    """Times more calls while that may decide a gate on speed that the calls so far leave open."""
    for look in walk.plan.looks:
        if walk.adopted or not undecided(judged.judgement):
            break
        walk.step(look)
        judged = _judge(walk)
    return judged


def _message(plan: Plan, judged: Judged) -> str:
    """Why it ended so; an engine that nothing was measured of is not described by gates that had nothing to hold."""
    if judged.built is None:
        return judged.judgement.message
    return f"{BUILT}{plan.unmeasured}; nothing was published"


def _compared(walk: Walk, judged: Judged) -> tuple[Row, ...]:
    """Original and optimized side by side; nothing where only one of them was made."""
    if not judged.benchmarks or walk.plan.original not in walk.done:
        return ()
    original_size, size = (_size(walk, name) for name in (walk.plan.original, walk.plan.engine))
    latencies = read_latencies(judged.benchmarks)
    return side_by_side(judged.judgement.metric, latencies, original_size, size, walk.plan.request.spec.seed)


def _keep_unmeasured(walk: Walk) -> ArtifactRef:
    """Puts the engine beside the report, where nobody who looks for published engines will find it."""
    engine, folder = walk.artifact(walk.plan.engine), join(reports_uri(walk), UNMEASURED)
    for name in engine.files:
        walk.shop.store.upload(join(folder, name), engine.folder / name)
    size = sum((engine.folder / name).stat().st_size for name in engine.files)
    return ArtifactRef(uri=join(folder, engine.files[0]), digest=file_digest(engine.entry), size_bytes=size)


def _judge(walk: Walk) -> Judged:
    """Every gate; where nothing was measured, the engine's size is all there is to hold against one."""
    plan = walk.plan
    verify, calibration = (walk.artifact(n) if n in walk.done else None for n in (plan.verify, AUDIT_CALIBRATION))
    looks = (plan.benchmark, *(look.name for look in plan.looks))
    benchmarks = tuple(walk.artifact(name) for name in looks if name in walk.done)
    original_size, size = (_size(walk, n) if n in walk.done else None for n in (plan.original, plan.engine))
    seen = gather(verify, benchmarks, size, calibration)
    judgement = judge_evidence(plan.request.spec, plan.target, seen)
    doubts: tuple[Finding, ...] = ()
    if benchmarks:
        of_original = footprint(original_size, benchmarks[0])
        doubts = (*judgement.findings, *soundness(plan.request.spec, plan.target, seen, of_original))
    return Judged(judgement, verify, benchmarks, _provenance(walk, judgement), doubts)


def _size(walk: Walk, stage: str) -> int:
    """Bytes of all files of a stage."""
    return size_bytes(walk.done[stage].record)


def _publish(walk: Walk, judged: Judged) -> ArtifactRef:
    """Puts the engine, and what the spec lists beside it, where the spec says; only the engine was measured."""
    plan, request = walk.plan, walk.plan.request
    engine = walk.artifact(plan.engine)
    files = {name: engine.folder / name for name in engine.files}
    companions = {stage: walk.artifact(stage) for stage in plan.companions}
    for stage, companion in companions.items():
        files |= {f"{folder_of(stage)}/{name}": companion.folder / name for name in companion.files}
    return publish(
        walk.shop.store,
        request.spec.output.uri,
        request.run_id,
        _owner(request),
        files,
        judged.provenance,
        measured=engine.files,
        readme=Card(request, plan.target, judged.judgement, judged.provenance, companions),
        signer=walk.shop.signer,
    )


def _report(walk: Walk, outcome: Outcome, message: str, judged: Judged | None = None) -> tuple[str, ...]:
    """Writes the report beside the records, for every outcome; returns the addresses of HTML and JSON."""
    records = {name: done.record for name, done in walk.done.items()}
    report = RunReport(
        request=walk.plan.request,
        outcome=outcome,
        finished_at=now(),
        message=message,
        judgement=judged.judgement if judged else None,
        stages=walk.rows,
        facts={name: record.facts for name, record in records.items()},
        sizes={name: size_bytes(r) for name, r in records.items() if r.kind in MODELS},
        verify=judged.verify if judged else None,
        benchmarks=judged.benchmarks if judged else (),
        provenance=judged.provenance if judged else _provenance(walk, None),
        findings=tuple(_findings(walk, judged)),
        artifact=judged.artifact if judged else None,
        built=judged.built if judged else None,
        unmeasured=walk.plan.unmeasured,
        plan_notes=walk.plan.notes,
    )
    uris = tuple(join(reports_uri(walk), name) for name in (HTML_FILE, JSON_FILE))
    if not _is_told(walk.shop.store, uris, report):
        folder = walk.folder / "report"
        folder.mkdir()
        for uri, path in zip(uris, write_report(folder, report), strict=True):
            walk.shop.store.upload(uri, path)
    return uris


def _findings(walk: Walk, judged: Judged | None = None) -> list[Finding]:
    """What the plan said at first, every stage so far has found, and the figures tell, worst first."""
    found = (one for done in walk.done.values() for one in read(done.record.facts))
    return worst_first((*walk.plan.findings, *found, *(judged.doubts if judged else ())))


def _is_told(store: ObjectStore, uris: tuple[str, ...], report: RunReport) -> bool:
    """Whether this very run left the same report before: drawing it again would take longer than all the rest."""
    html, json = uris
    try:
        return store.stat(html) is not None and tells_the_same(store.read(json, REPORT_LIMIT_BYTES), report)
    except (ObjectMissing, InvalidInput):
        return False


def _ended_early(walk: Walk, error: BaseException) -> Finished:
    """What happened, in words without secrets; the trace goes to the log of the worker alone."""
    trouble = diagnose(error, walk.current, walk.shop.secrets)
    if trouble.outcome is Outcome.FAILED:
        log.error("%s", redact("".join(traceback.format_exception(error)), walk.shop.secrets))
    message = trouble.message + (f" ({trouble.mend})" if trouble.mend else "")
    uris = _report_if_possible(walk, trouble.outcome, message)
    model = walk.done.get(walk.plan.model)
    result = make_result(
        walk.plan.request,
        trouble.outcome,
        message=message,
        field=trouble.field,
        rows=walk.rows,
        findings=_findings(walk),
        report=uris[0] if uris else None,
        model_digest=model.record.digest if model else None,
    )
    return Finished(result, walk.rows, None, uris)


def _report_if_possible(walk: Walk, outcome: Outcome, message: str) -> tuple[str, ...]:
    """The report of a run that ended early; none when there is no time, no store or no room for it."""
    if outcome in (Outcome.EVICTED, Outcome.STORE_FAILED, Outcome.DISK_FULL):
        return ()
    try:
        if _has_published(walk):  # a measurement that is taken again and cut short takes nothing of that back
            return ()
        return _report(walk, outcome, message)
    except Exception as error:  # the run's own trouble is what must be told
        log.warning("no report was written: %s", redact(repr(error), walk.shop.secrets))
        return ()


def _has_published(walk: Walk) -> bool:
    """Whether this very run was published before, and its report says so."""
    try:
        result = Result.model_validate_json(walk.shop.store.read(join(reports_uri(walk), RESULT), RESULT_LIMIT_BYTES))
    except (ObjectMissing, ValidationError):
        return False
    return result.outcome is Outcome.PUBLISHED


def reports_uri(walk: Walk) -> str:
    """Folder of this run's report and result."""
    return join(walk.shop.records.prefix_uri, "reports", walk.plan.request.run_id)


def _claim_uri(walk: Walk) -> str:
    return join(reports_uri(walk), CLAIM)


def _owner(request: RunRequest) -> Owner:
    return Owner(namespace=request.namespace, name=request.name, uid=request.uid)


def _keep(walk: Walk, result: Result) -> None:
    """Leaves the result beside the report: the newest one of this run counts."""
    uri = join(reports_uri(walk), RESULT)
    found = walk.shop.store.stat(uri)
    walk.shop.store.replace(uri, result.model_dump_json(by_alias=True).encode(), found.etag if found else None)


def _provenance(walk: Walk, judgement: Judgement | None) -> dict[str, JsonValue]:
    """Where everything so far comes from."""
    origins = {name: done.record.made_from for name, done in walk.done.items()}
    digests = {name: done.record.digest for name, done in walk.done.items()}
    contents = {name: str(d.record.facts["digest"]) for name, d in walk.done.items() if name.startswith(RESOLVE)}
    seen = Sighting(walk.started_at, contents)
    if judgement is not None and walk.plan.verify in walk.done and (digest := contents.get(EVALUATION)) is not None:
        runs = count(walk.shop.store, walk.shop.records.prefix_uri, digest, walk.plan.request.run_id)
        seen = replace(seen, evaluation_digest=digest, evaluation_runs=runs)
    return provenance(walk.plan.request, walk.shop.hardware, digests, origins, judgement, seen)
