"""What a report is made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import JsonValue

from strop_api.findings import Finding
from strop_api.result import Outcome, RunRequest
from strop_api.status import ArtifactRef
from strop_job.judgement.gates import Judgement
from strop_job.outcome import StageRow
from strop_job.stages import Artifact, Facts


@dataclass(frozen=True)
class RunReport:
    """Everything known at the end of a run, whatever the end was. What is missing is left out of the report."""

    request: RunRequest
    outcome: Outcome
    finished_at: str
    """RFC 3339 in UTC; the only time in the report, so that the same run gives the same bytes."""
    message: str = ""
    """Why it ended so, in words without secrets."""
    judgement: Judgement | None = None
    """None when the run ended before anything was judged."""
    stages: tuple[StageRow, ...] = ()
    """In the order of the plan."""
    facts: Mapping[str, Facts] = field(default_factory=dict)
    """By stage name: what each stage found out."""
    sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes by stage name, of the stages that yield a model: source, graphs, engines."""
    verify: Artifact | None = None
    benchmarks: tuple[Artifact, ...] = ()
    """One for each look at speed."""
    provenance: Mapping[str, JsonValue] = field(default_factory=dict)
    """As published beside the artifact."""
    findings: tuple[Finding, ...] = ()
    """What the checks found, worst first."""
    artifact: ArtifactRef | None = None
    """Present exactly when it was published."""
    built: ArtifactRef | None = None
    """The engine that was built and not measured; present only where nothing was published for that."""
    unmeasured: str = ""
    """Why it was not measured."""
    plan_notes: tuple[str, ...] = ()
    """What the plan chose by itself, and why."""
