"""What the measurements of a run amount to: read back from its records, judged, and looked at again while open."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from pydantic import JsonValue

from strop_api.findings import Finding
from strop_api.status import ArtifactRef, GateVerdict
from strop_job.judgement.calibration import calibration_status
from strop_job.judgement.evidence import Evidence, gather
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
    """Every gate, after as many looks at speed as it takes; what is said beside the gates and of their origin once.

    Where nothing was measured, the engine's size is all there is to hold against one.
    """
    seen, judgement = _judgement(walk)
    for look in walk.plan.looks:
        if walk.adopted or not undecided(judgement):
            break
        walk.tracker.expect(look.weight)
        walk.step(look)  # one that is on record is taken from there: an attempt goes on where an earlier one was killed
        seen, judgement = _judgement(walk)
    verify, benchmarks = _artifact(walk, walk.plan.verify), _benchmarks(walk)
    doubts: tuple[Finding, ...] = ()
    if benchmarks:
        of_original = footprint(_bytes(walk, walk.plan.original), benchmarks[0])
        doubts = (*judgement.findings, *soundness(walk.plan.request.spec, walk.plan.target, seen, of_original))
    return Judged(judgement, verify, benchmarks, provenance_of(walk, judgement), doubts)


def _judgement(walk: Walk) -> tuple[Evidence, Judgement]:
    """What was measured so far, and every gate held against it."""
    plan = walk.plan
    verify, calibration = _artifact(walk, plan.verify), _artifact(walk, AUDIT_CALIBRATION)
    seen = gather(verify, _benchmarks(walk), _bytes(walk, plan.engine), calibration)
    judgement = judge_evidence(plan.request.spec, plan.target, seen)
    return seen, judgement if plan.engine in walk.done else not_reached(judgement, "calibration data")


def _benchmarks(walk: Walk) -> tuple[Artifact, ...]:
    """One for each look that was taken."""
    names = (walk.plan.benchmark, *(look.name for look in walk.plan.looks))
    return tuple(walk.artifact(name) for name in names if name in walk.done)


def _artifact(walk: Walk, stage: str) -> Artifact | None:
    """None where the run did not come to it."""
    return walk.artifact(stage) if stage in walk.done else None


def _bytes(walk: Walk, stage: str) -> int | None:
    return stage_bytes(walk, stage) if stage in walk.done else None


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
