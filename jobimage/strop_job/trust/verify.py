"""Verification of a published folder by whoever wants to use it: digests, signature, claims. Nothing is taken on trust.

What is read is taken to be hostile: a name that leaves the folder is never opened.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import ValidationError

from strop_api.status import GateVerdict
from strop_job.errors import InvalidInput
from strop_job.publish import (
    MANIFEST,
    MANIFEST_LIMIT_BYTES,
    POINTER,
    POINTER_LIMIT_BYTES,
    PROVENANCE,
    SIGNATURE,
    Manifest,
    Pointer,
    PublishedFile,
    Role,
)
from strop_job.store.digests import bytes_digest
from strop_job.store.objects import is_safe_name
from strop_job.store.parallel import in_parallel
from strop_job.trust.places import Place
from strop_job.trust.statement import PROVENANCE_LIMIT_BYTES, Provenance, read
from strop_job.trust.verification import Fault, Problem, Signature, Verification

if TYPE_CHECKING:
    from strop_job.trust.signing import PublicKey


@dataclass(frozen=True)
class Found:
    """The folder's papers as they were read; what is None is missing or unreadable, and a fault says so."""

    place: Place
    pointer: Pointer | None
    manifest: Manifest | None
    manifest_digest: str
    provenance: Provenance | None
    statement: bytes | None
    envelope: bytes | None

    @property
    def files(self) -> dict[str, PublishedFile]:
        """What the manifest promises, by name."""
        return {file.name: file for file in self.manifest.files} if self.manifest else {}


def verify(place: Place, key: "PublicKey | None" = None, required: Sequence[str] = ()) -> Verification:
    """Check the run that a place's pointer leads to, or the run's folder itself; all faults are told, not the first.

    `required` are gates, such as `metricDrop`, that must be among those passed. Raises StoreFailed.
    """
    folder, pointer, faults = _follow(place)
    if folder is None:
        return Verification(place.uri, tuple(faults))
    found, unread = _papers(folder, pointer)
    signature, wrong = _signature(found, key)
    checked = [fault for check in CHECKS for fault in check(found)]
    claims = () if found.provenance is None else (*_verdicts(found.provenance), *_required(found.provenance, required))
    return Verification(
        uri=folder.uri,
        faults=(*faults, *unread, *checked, *wrong, *claims),
        notes=tuple(_notes(found, signature)),
        signature=signature,
        engine=found.pointer.artifact.digest if found.pointer else None,
        files=len(found.files),
        provenance=found.provenance,
        gates=tuple(found.provenance.gates) if found.provenance else (),
    )


def _follow(place: Place) -> tuple[Place | None, Pointer | None, list[Fault]]:
    """The run's folder and the pointer that leads there; no pointer where the place is a run's folder itself."""
    try:
        data = place.read(POINTER, POINTER_LIMIT_BYTES)
        pointer = Pointer.model_validate_json(data) if data is not None else None
    except (InvalidInput, ValidationError):
        return None, None, [Fault(Problem.POINTER_CHANGED, f"{place.uri}/{POINTER} is not a pointer of Strop")]
    if pointer is None:
        if place.read(MANIFEST, MANIFEST_LIMIT_BYTES) is not None or place.read(PROVENANCE, PROVENANCE_LIMIT_BYTES):
            return place, None, []
        words = f"nothing is published at {place.uri}: there is neither {POINTER} nor {MANIFEST}"
        return None, None, [Fault(Problem.NOTHING_PUBLISHED, words)]
    if "/" in pointer.run_id or not is_safe_name(pointer.run_id):
        words = f"{POINTER} leads to {pointer.run_id!r}, which is not a run beside it"
        return None, None, [Fault(Problem.POINTER_CHANGED, words)]
    return place.below(pointer.run_id), pointer, []


def _papers(folder: Place, pointer: Pointer | None) -> tuple[Found, list[Fault]]:
    """Everything that is said of the files, and what of it cannot be read."""
    faults: list[Fault] = []

    def read_one(name: str, limit_bytes: int, missing: Problem, changed: Problem) -> bytes | None:
        try:
            data = folder.read(name, limit_bytes)
        except InvalidInput as large:
            faults.append(Fault(changed, str(large)))
            return None
        if data is None and missing is not Problem.UNSIGNED:
            faults.append(Fault(missing, f"{name} is missing"))
        return data

    listed = read_one(MANIFEST, MANIFEST_LIMIT_BYTES, Problem.MANIFEST_MISSING, Problem.MANIFEST_CHANGED)
    said = read_one(PROVENANCE, PROVENANCE_LIMIT_BYTES, Problem.PROVENANCE_MISSING, Problem.PROVENANCE_CHANGED)
    envelope = read_one(SIGNATURE, 2 * PROVENANCE_LIMIT_BYTES, Problem.UNSIGNED, Problem.SIGNATURE_WRONG)
    manifest = provenance = None
    if listed is not None:
        try:
            manifest = Manifest.model_validate_json(listed)
        except ValidationError:
            faults.append(Fault(Problem.MANIFEST_CHANGED, f"{MANIFEST} is not a manifest of Strop"))
    if said is not None:
        try:
            provenance = read(said)
        except InvalidInput as error:
            faults.append(Fault(Problem.PROVENANCE_CHANGED, f"{PROVENANCE}: {error.message}"))
    digest = bytes_digest(listed) if listed is not None else ""
    return Found(folder, pointer, manifest, digest, provenance, said, envelope), faults


def _pointer_agrees(found: Found) -> Iterator[Fault]:
    """The pointer says of the folder what the folder says of itself."""
    pointer, manifest = found.pointer, found.manifest
    if pointer is None or manifest is None:
        return
    if found.manifest_digest != pointer.manifest_digest:
        yield Fault(Problem.MANIFEST_CHANGED, f"{MANIFEST} is not the one that {POINTER} promises")
    if pointer.run_id != manifest.run_id or not pointer.owner.is_same(manifest.owner):
        words = (
            f"{POINTER} says run {pointer.run_id} of {pointer.owner}, the folder {manifest.run_id} of {manifest.owner}"
        )
        yield Fault(Problem.POINTER_CHANGED, words)
    if not pointer.uri.endswith(f"/{pointer.run_id}"):
        yield Fault(Problem.POINTER_CHANGED, f"{POINTER} leads to {pointer.uri}, and its run is {pointer.run_id}")
    name = pointer.artifact.uri.removeprefix(f"{pointer.uri}/")
    engine = found.files.get(name)
    if engine is None or (engine.digest, engine.role) != (pointer.artifact.digest, Role.MEASURED):
        words = f"the engine that {POINTER} names, {pointer.artifact.uri}, is not a measured file of {MANIFEST}"
        yield Fault(Problem.POINTER_CHANGED, words)


def _content_agrees(found: Found) -> Iterator[Fault]:
    """Every file is there with the bytes that the manifest promises, and no other file is."""
    if found.manifest is None:
        return
    safe = [file for file in found.manifest.files if is_safe_name(file.name)]
    for file in found.manifest.files:
        if not is_safe_name(file.name):
            yield Fault(Problem.MANIFEST_CHANGED, f"{MANIFEST} lists {file.name!r}, which is not a plain relative path")
    digests = in_parallel(lambda file: found.place.digest(file.name), safe)
    for file, digest in zip(safe, digests, strict=True):
        if digest is None:
            yield Fault(Problem.FILE_MISSING, f"{file.name} is missing")
        elif digest != file.digest:
            yield Fault(Problem.FILE_CHANGED, f"{file.name} has the digest {digest}, {MANIFEST} says {file.digest}")
    for name in found.place.names():
        if name not in found.files and name != MANIFEST:
            yield Fault(Problem.FILE_UNKNOWN, f"{name} lies in the folder and was not published with it")


def _statement_agrees(found: Found) -> Iterator[Fault]:
    """Provenance speaks of this run and of exactly these files."""
    seen, manifest = found.provenance, found.manifest
    if seen is None or manifest is None:
        return
    run, owner = seen.run, manifest.owner
    if (run.namespace, run.name, run.id) != (owner.namespace, owner.name, manifest.run_id):
        words = f"{PROVENANCE} speaks of run {run.id} of {run.namespace}/{run.name}"
        yield Fault(Problem.PROVENANCE_CHANGED, f"{words}, {MANIFEST} of {manifest.run_id} of {owner}")
    if seen.subjects is None:
        return
    files = {name: file.digest for name, file in found.files.items() if name not in (PROVENANCE, SIGNATURE)}
    for name in sorted(files.keys() | seen.subjects.keys()):
        stated, listed = seen.subjects.get(name, "nothing"), files.get(name, "nothing")
        if stated != listed:
            yield Fault(Problem.PROVENANCE_CHANGED, f"of {name}, {PROVENANCE} says {stated}, {MANIFEST} {listed}")
    measured = sorted(name for name, file in found.files.items() if file.role is Role.MEASURED)
    if measured != sorted(seen.measured):
        words = f"{MANIFEST} calls {', '.join(measured)} measured, {PROVENANCE} {', '.join(seen.measured) or 'nothing'}"
        yield Fault(Problem.MANIFEST_CHANGED, words)


CHECKS: tuple[Callable[[Found], Iterator[Fault]], ...] = (_pointer_agrees, _content_agrees, _statement_agrees)


def _signature(found: Found, key: "PublicKey | None") -> tuple[Signature, list[Fault]]:
    """Whether the key signed the very statement that lies in the folder."""
    if found.envelope is None:
        unsigned = [Fault(Problem.UNSIGNED, f"a key was given, and there is no {SIGNATURE}")] if key else []
        return Signature.NONE, unsigned
    if key is None:
        return Signature.NOT_CHECKED, []
    try:
        signed = key.open(found.envelope)
    except InvalidInput as error:
        return Signature.WRONG, [Fault(Problem.SIGNATURE_WRONG, f"{SIGNATURE}: {error.message}")]
    if signed != found.statement:
        words = f"{SIGNATURE} is over another statement than {PROVENANCE}"
        return Signature.WRONG, [Fault(Problem.SIGNATURE_WRONG, words)]
    return Signature.VERIFIED, []


def _verdicts(seen: Provenance) -> Iterator[Fault]:
    """Every gate that was asked for has a verdict, and every verdict is Passed."""
    if not seen.gates:
        yield Fault(Problem.GATE_NOT_PASSED, f"{PROVENANCE} holds no verdict of any gate")
    for gate in seen.gates:
        if gate.verdict is not GateVerdict.PASSED:
            yield Fault(Problem.GATE_NOT_PASSED, f"{gate.gate}: {gate.verdict}; {gate.message}")
    asked = seen.spec.get("gates")
    for name in asked if isinstance(asked, dict) else ():
        if seen.gates and not _is_judged(seen, name):
            yield Fault(Problem.GATE_NOT_PASSED, f"{name}: the spec asked for it, and there is no verdict")


def _required(seen: Provenance, required: Sequence[str]) -> Iterator[Fault]:
    for name in required:
        if not _is_judged(seen, name):
            yield Fault(Problem.GATE_NOT_ASKED, f"{name}: required, and not among the gates of this run")


def _is_judged(seen: Provenance, name: str) -> bool:
    """Whether a verdict is of this gate, or of one of its parts (`latency.p99MaxMicroseconds`)."""
    return any(gate.gate == name or gate.gate.startswith(f"{name}.") for gate in seen.gates)


def _notes(found: Found, signature: Signature) -> Iterator[str]:
    if signature is Signature.NONE:
        yield "unsigned: whoever may write to the store may have made all of this"
    if signature is Signature.NOT_CHECKED:
        yield f"{SIGNATURE} was not checked: give --key"
    if found.pointer is None:
        yield "a run's folder was checked, and not whether the pointer leads to it"
    if found.provenance is not None and found.provenance.subjects is None:
        yield "published by release 0.1, whose provenance names no files: only the manifest vouches for their digests"
