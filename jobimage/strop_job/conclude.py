"""The end of a run that was judged: publish if and only if every gate passed, and report what happened."""

from dataclasses import dataclass, replace

from strop_api.result import Outcome, Result, RunRequest
from strop_api.status import ArtifactRef
from strop_job.claims import claim_of, settle
from strop_job.handoff import folder_of
from strop_job.judged import Judged, judge, stage_bytes
from strop_job.judgement.comparison import Row, side_by_side
from strop_job.judgement.evidence import read_latencies
from strop_job.judgement.gates import Judgement
from strop_job.outcome import BUILT, StageRow, make_result, realised_precision
from strop_job.plan import Plan
from strop_job.publish import Owner, publish
from strop_job.reporting import claim_uri, findings_of, keep_result, keep_unmeasured, recorded_findings, write
from strop_job.trust.card import Card
from strop_job.walk import Walk


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


def conclude(walk: Walk, judged: Judged) -> Finished:
    """Publish what passed, and write the report of what happened."""
    _remember(walk)
    if judged.judgement.passed:
        judged = _settled(walk, judged)
    if judged.judgement.passed:
        judged = replace(judged, artifact=_publish(walk, judged))
    elif judged.judgement.outcome is Outcome.NOT_MEASURED and not walk.plan.measurable:
        judged = replace(judged, built=keep_unmeasured(walk))
    return _told(walk, judged)


def _remember(walk: Walk) -> None:
    """Notes the records that this run needs, so that they outlive a sweep."""
    walk.shop.records.remember_run(walk.plan.request.run_id, [done.record.key for done in walk.done.values()])


def owner(request: RunRequest) -> Owner:
    """Whose folder the output is."""
    return Owner(namespace=request.namespace, name=request.name, uid=request.uid)


def _settled(walk: Walk, judged: Judged) -> Judged:
    """As judged here, or as another attempt had measured that was first to claim the run."""
    mine = claim_of(walk, (walk.plan.engine, *walk.plan.companions), judged.provenance)
    claim = settle(walk, claim_uri(walk), mine)
    return replace(judge(walk), provenance=claim.provenance) if walk.adopted else judged


def _told(walk: Walk, judged: Judged) -> Finished:
    """Report and result."""
    plan, request, judgement = walk.plan, walk.plan.request, judged.judgement
    message = _message(plan, judged)
    uris = write(walk, judgement.outcome, message, judged)
    result = make_result(
        request,
        judgement.outcome,
        message=message,
        judgement=judgement,
        artifact=judged.artifact,
        built=judged.built,
        rows=walk.rows,
        findings=findings_of(walk, judged),
        report=uris[0],
        model_digest=walk.done[plan.model].record.digest,
        realised_precision=_realised_precision(walk, judged),
    )
    keep_result(walk, result)
    return Finished(result, walk.rows, judgement, uris, _compared(walk, judged))


def _realised_precision(walk: Walk, judged: Judged) -> str | None:
    """None where the run ended before there was an engine to look into."""
    if walk.plan.engine not in walk.done:
        return None
    facts = judged.verify.facts if judged.verify else {}
    return realised_precision(walk.plan.request.spec, walk.plan.target, facts)


def _message(plan: Plan, judged: Judged) -> str:
    """Why it ended so; an engine that nothing was measured of is not described by gates that had nothing to hold."""
    if judged.built is None:
        return judged.judgement.message
    return f"{BUILT}{plan.unmeasured}; nothing was published"


def _compared(walk: Walk, judged: Judged) -> tuple[Row, ...]:
    """Original and optimized side by side; nothing where only one of them was made."""
    if not judged.benchmarks or walk.plan.original not in walk.done:
        return ()
    original_size, size = (stage_bytes(walk, name) for name in (walk.plan.original, walk.plan.engine))
    latencies = read_latencies(judged.benchmarks)
    return side_by_side(judged.judgement.metric, latencies, original_size, size, walk.plan.request.spec.seed)


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
        owner(request),
        files,
        judged.provenance,
        measured=engine.files,
        readme=Card(
            request, plan.target, judged.judgement, judged.provenance, companions, recorded_findings(walk, judged)
        ),
        signer=walk.shop.signer,
    )
