"""What the measurements of a run amount to: read back from its records, judged, and looked at again while open."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from strop_api.findings import Finding
from strop_api.status import ArtifactRef, GateVerdict
from strop_job.judgement.calibration import calibration_status
from strop_job.judgement.evidence import gather
from strop_job.judgement.gates import Judgement, judge_evidence, not_reached, undecided
from strop_job.judgement.soundness import footprint, soundness
from strop_job.plan import AUDIT_CALIBRATION
from strop_job.stages import Artifact
from strop_job.trust.ledger import count
from strop_job.trust.provenance import Sighting, provenance
from strop_job.walk import Walk, size_bytes

RESOLVE, EVALUATION = "resolve-", "resolve-evaluation"
"""Stages that bring something in; the one that brings the evaluation data."""


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


def misses_calibration(walk: Walk) -> bool:
    """Whether the gate on calibration data, whose audit is done, is missed: nothing that follows could mend that."""
    gate, facts = walk.plan.request.spec.gates.calibration, walk.done[AUDIT_CALIBRATION].record.facts
    return gate is not None and calibration_status(gate, facts).verdict is not GateVerdict.PASSED


def judge(walk: Walk) -> Judged:
    """Every gate; where nothing was measured, the engine's size is all there is to hold against one."""
    plan = walk.plan
    verify, calibration = (walk.artifact(n) if n in walk.done else None for n in (plan.verify, AUDIT_CALIBRATION))
    looks = (plan.benchmark, *(look.name for look in plan.looks))
    benchmarks = tuple(walk.artifact(name) for name in looks if name in walk.done)
    original_size, size = (stage_bytes(walk, n) if n in walk.done else None for n in (plan.original, plan.engine))
    seen = gather(verify, benchmarks, size, calibration)
    judgement = judge_evidence(plan.request.spec, plan.target, seen)
    if plan.engine not in walk.done:
        judgement = not_reached(judgement, "calibration data")
    doubts: tuple[Finding, ...] = ()
    if benchmarks:
        of_original = footprint(original_size, benchmarks[0])
        doubts = (*judgement.findings, *soundness(plan.request.spec, plan.target, seen, of_original))
    return Judged(judgement, verify, benchmarks, provenance_of(walk, judgement), doubts)


def look_again(walk: Walk, judged: Judged) -> Judged:
    """Times more calls while that may decide a gate on speed that the calls so far leave open.

    A look that is on record is taken from there, so that an attempt goes on where an earlier one was killed.
    """
    for look in walk.plan.looks:
        if walk.adopted or not undecided(judged.judgement):
            break
        walk.tracker.expect(look.weight)
        walk.step(look)
        judged = judge(walk)
    return judged


def stage_bytes(walk: Walk, stage: str) -> int:
    """Of all files of a stage."""
    return size_bytes(walk.done[stage].record)


def provenance_of(walk: Walk, judgement: Judgement | None) -> dict[str, JsonValue]:
    """Where everything so far comes from, and how often the evaluation data has been judged on."""
    origins = {name: done.record.made_from for name, done in walk.done.items()}
    digests = {name: done.record.digest for name, done in walk.done.items()}
    contents = {name: str(d.record.facts["digest"]) for name, d in walk.done.items() if name.startswith(RESOLVE)}
    seen = Sighting(walk.started_at, contents)
    if judgement is not None and walk.plan.verify in walk.done and (digest := contents.get(EVALUATION)) is not None:
        measurement = walk.done[walk.plan.verify].record.key
        seen = replace(
            seen,
            evaluation_digest=digest,
            evaluation_reads=count(walk.shop.store, walk.shop.records.prefix_uri, digest, measurement),
            evaluation_readers=tuple(name for name, done in walk.done.items() if EVALUATION in done.stage.needs),
        )
    return provenance(walk.plan.request, walk.shop.hardware, digests, origins, judgement, seen)
