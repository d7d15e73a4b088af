"""What a run leaves beside its records, in a folder of its own: the report, the result, an engine that nobody measured.

Every outcome is reported, published or not. The newest result of a run counts.
"""

import logging

from pydantic import ValidationError

from strop_api.checks import worst_first
from strop_api.checks.evidence import GATE_POWER_UNKNOWN
from strop_api.findings import Finding
from strop_api.result import Outcome, Result
from strop_api.status import ArtifactRef
from strop_job.audit.facts import read
from strop_job.errors import InvalidInput
from strop_job.judged import Judged, provenance_of
from strop_job.outcome import now, redact
from strop_job.report import HTML_FILE, JSON_FILE, RunReport, tells_the_same, write_report
from strop_job.stages import ArtifactKind
from strop_job.store.digests import file_digest
from strop_job.store.objects import ObjectMissing, ObjectStore, join
from strop_job.walk import Walk, size_bytes

MODELS = frozenset(
    {
        ArtifactKind.SOURCE,
        ArtifactKind.ONNX_GRAPH,
        ArtifactKind.OPENVINO_IR,
        ArtifactKind.EXPORTED_PROGRAM,
        ArtifactKind.ENGINE,
    }
)
"""What the report tells the size of."""
UNMEASURED = "unmeasured"
"""Folder beside the report with an engine that was built and not measured."""
RESULT, RESULT_LIMIT_BYTES = "result.json", 1 << 20
REPORT_LIMIT_BYTES = 64 << 20
CLAIM = "claim.json"

log = logging.getLogger(__name__)


def reports_uri(walk: Walk) -> str:
    """Folder of this run's report and result."""
    return join(walk.shop.records.prefix_uri, "reports", walk.plan.request.run_id)


def claim_uri(walk: Walk) -> str:
    """What this run publishes, noted before it does."""
    return join(reports_uri(walk), CLAIM)


def write(walk: Walk, outcome: Outcome, message: str, judged: Judged | None = None) -> tuple[str, ...]:
    """Writes the report, for every outcome; returns the addresses of HTML and JSON."""
    report = _report(walk, outcome, message, judged)
    uris = tuple(join(reports_uri(walk), name) for name in (HTML_FILE, JSON_FILE))
    if not _is_told(walk.shop.store, uris, report):
        folder = walk.folder / "report"
        folder.mkdir()
        for uri, path in zip(uris, write_report(folder, report), strict=True):
            walk.shop.store.upload(uri, path)
    return uris


def write_if_possible(walk: Walk, outcome: Outcome, message: str) -> tuple[str, ...]:
    """The report of a run that ended early; none when there is no time, no store or no room for it."""
    if outcome in (Outcome.EVICTED, Outcome.STORE_FAILED, Outcome.DISK_FULL):
        return ()
    try:
        kept = kept_result(walk)  # a measurement that is taken again and cut short takes nothing of that back
        return () if kept is not None and kept.outcome is Outcome.PUBLISHED else write(walk, outcome, message)
    except Exception as error:  # the run's own trouble is what must be told
        log.warning("no report was written: %s", redact(repr(error), walk.shop.secrets))
        return ()


def findings_of(walk: Walk, judged: Judged | None = None) -> list[Finding]:
    """What the plan said at first, every stage so far has found, and the figures tell, worst first."""
    return worst_first((*walk.plan.findings, *recorded_findings(walk, judged)))


def recorded_findings(walk: Walk, judged: Judged | None = None) -> list[Finding]:
    """The same without the plan's: what records alone decide, on whatever machine they are read.

    What was not known before the metric was measured is left out once it was.
    """
    answered = {GATE_POWER_UNKNOWN.name} if judged is not None and judged.verify is not None else set()
    found = (one for done in walk.done.values() for one in read(done.record.facts) if one.check not in answered)
    return worst_first((*found, *(judged.doubts if judged else ())))


def keep_result(walk: Walk, result: Result) -> None:
    """Leaves the result beside the report."""
    uri = join(reports_uri(walk), RESULT)
    found = walk.shop.store.stat(uri)
    walk.shop.store.replace(uri, result.model_dump_json(by_alias=True).encode(), found.etag if found else None)


def kept_result(walk: Walk) -> Result | None:
    """What this very run left before; None where there is none that can be read."""
    try:
        return Result.model_validate_json(walk.shop.store.read(join(reports_uri(walk), RESULT), RESULT_LIMIT_BYTES))
    except (ObjectMissing, ValidationError):
        return None


def keep_unmeasured(walk: Walk) -> ArtifactRef:
    """Puts the engine beside the report, where nobody who looks for published engines will find it."""
    engine, folder = walk.artifact(walk.plan.engine), join(reports_uri(walk), UNMEASURED)
    for name in engine.files:
        walk.shop.store.upload(join(folder, name), engine.folder / name)
    size = sum((engine.folder / name).stat().st_size for name in engine.files)
    return ArtifactRef(uri=join(folder, engine.files[0]), digest=file_digest(engine.entry), size_bytes=size)


def _report(walk: Walk, outcome: Outcome, message: str, judged: Judged | None) -> RunReport:
    records = {name: done.record for name, done in walk.done.items()}
    return RunReport(
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
        provenance=judged.provenance if judged else provenance_of(walk, None),
        findings=tuple(findings_of(walk, judged)),
        artifact=judged.artifact if judged else None,
        built=judged.built if judged else None,
        unmeasured=walk.plan.unmeasured,
        plan_notes=walk.plan.notes,
    )


def _is_told(store: ObjectStore, uris: tuple[str, ...], report: RunReport) -> bool:
    """Whether this very run left the same report before: drawing it again would take longer than all the rest."""
    html, json = uris
    try:
        return store.stat(html) is not None and tells_the_same(store.read(json, REPORT_LIMIT_BYTES), report)
    except (ObjectMissing, InvalidInput):
        return False
