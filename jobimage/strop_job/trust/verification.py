"""What a verification says: what was checked, what is wrong, what could not be checked."""

from dataclasses import dataclass, field
from enum import StrEnum

from pydantic import JsonValue

from strop_api.status import GateStatus
from strop_job.trust.statement import Provenance


class Problem(StrEnum):
    """What can be wrong with a published folder."""

    NOTHING_PUBLISHED = "NothingPublished"
    POINTER_CHANGED = "PointerChanged"
    """The pointer cannot be read, or does not say what the folder does."""
    MANIFEST_MISSING = "ManifestMissing"
    MANIFEST_CHANGED = "ManifestChanged"
    """It cannot be read, or is not the one that the pointer promises."""
    FILE_MISSING = "FileMissing"
    FILE_CHANGED = "FileChanged"
    FILE_UNKNOWN = "FileUnknown"
    """It lies in the folder, and was not published."""
    PROVENANCE_MISSING = "ProvenanceMissing"
    PROVENANCE_CHANGED = "ProvenanceChanged"
    """It cannot be read, or speaks of other files, another run or another resource than the manifest."""
    UNSIGNED = "Unsigned"
    """A key was given, and there is no signature."""
    SIGNATURE_WRONG = "SignatureWrong"
    """The key did not make the signature, or made it over something else."""
    GATE_NOT_PASSED = "GateNotPassed"
    GATE_NOT_ASKED = "GateNotAsked"
    """A gate that must have been passed was not among those of the run."""


class Signature(StrEnum):
    """What is known of the signature."""

    VERIFIED = "Verified"
    """The given key signed the statement."""
    NOT_CHECKED = "NotChecked"
    """There is one, and no key was given."""
    NONE = "None"
    """There is none."""
    WRONG = "Wrong"
    """The given key did not sign the statement."""


@dataclass(frozen=True)
class Fault:
    """One thing that is not as it should be."""

    problem: Problem
    message: str


@dataclass(frozen=True)
class Verification:
    """What was found. With no fault, everything that is said here was checked but for what `notes` tell."""

    uri: str
    """The run's folder."""
    faults: tuple[Fault, ...] = ()
    notes: tuple[str, ...] = ()
    """What could not be checked, and why."""
    signature: Signature = Signature.NONE
    engine: str | None = None
    """Digest of the engine."""
    files: int = 0
    """Files whose digests were compared."""
    provenance: Provenance | None = None
    gates: tuple[GateStatus, ...] = field(default=())

    @property
    def passed(self) -> bool:
        """Whether nothing is wrong."""
        return not self.faults

    def document(self) -> dict[str, JsonValue]:
        """As `-o json` prints it."""
        seen = self.provenance or Provenance()
        run = seen.run
        return {
            "uri": self.uri,
            "passed": self.passed,
            "faults": [{"problem": str(f.problem), "message": f.message} for f in self.faults],
            "notes": list(self.notes),
            "signature": str(self.signature),
            "engine": self.engine,
            "files": self.files,
            "run": {"id": run.id, "namespace": run.namespace, "name": run.name, "target": run.target},
            "hardware": seen.hardware,
            "evaluationReads": seen.evaluation.reads if seen.evaluation else None,
            "gates": [gate.model_dump(mode="json", by_alias=True, exclude_none=True) for gate in self.gates],
        }
