"""Publishing: an immutable folder for the run, then one pointer moved with If-Match. Only after every gate passed.

`<output>/<run id>/` holds the files, their papers (`README.md`, `provenance.json`, with a key `provenance.dsse.json`)
and `manifest.json`; `<output>/current.json` points to it. The manifest is written after the files, the pointer after
the manifest: whoever follows the pointer finds all of it. A folder that has its manifest is never written again.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AwareDatetime, Field, JsonValue, ValidationError

from strop_api.base import ApiModel, Digest
from strop_api.status import ArtifactRef
from strop_job.errors import InvalidInput, StoreFailed, Unsupported
from strop_job.store.digests import bytes_digest, file_digest
from strop_job.store.objects import ObjectInfo, ObjectMissing, ObjectStore, is_safe_name, join
from strop_job.trust.statement import PROVENANCE_LIMIT_BYTES, read, statement

if TYPE_CHECKING:
    from strop_job.trust.signing import Signer

OUTPUT_FIELD = "spec.output.uri"
MANIFEST, PROVENANCE, POINTER, README = "manifest.json", "provenance.json", "current.json", "README.md"
SIGNATURE = "provenance.dsse.json"
PAPERS = (README, PROVENANCE, SIGNATURE, MANIFEST)
"""Names that no published file may have."""
POINTER_LIMIT_BYTES = 64 << 10
MANIFEST_LIMIT_BYTES = 16 << 20
ATTEMPTS = 5


class Role(StrEnum):
    """What was promised of a file."""

    MEASURED = "measured"
    """These very bytes passed the gates."""
    COMPANION = "companion"
    """Useful beside it; nothing was measured of it."""


class PublishedFile(ApiModel):
    """One file of a published folder."""

    name: str
    """Relative POSIX path."""
    digest: Digest
    """Of its content."""
    size_bytes: Annotated[int, Field(ge=0)]
    """Size of its content."""
    role: Role
    """Measured or companion."""


class Owner(ApiModel):
    """The resource a run was made for. Its UID is for information: deleted and applied again, it is the same owner."""

    namespace: str
    """Namespace of the resource."""
    name: str
    """Name of the resource."""
    uid: str
    """UID it had."""

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"

    def is_same(self, other: "Owner") -> bool:
        """Whether both are the same namespace and name."""
        return (self.namespace, self.name) == (other.namespace, other.name)


class Manifest(ApiModel):
    """`manifest.json`: what a published folder holds. The same run writes the same manifest."""

    format: Literal[1] = 1
    """Version of this layout."""
    run_id: str
    """The run that made it."""
    owner: Owner
    """The resource it was made for."""
    files: list[PublishedFile]
    """Sorted by name."""


class Pointer(ApiModel):
    """`current.json`: the newest published run of one owner."""

    format: Literal[1] = 1
    """Version of this layout."""
    owner: Owner
    """The resource that may move it."""
    run_id: str
    """The run it points to."""
    uri: str
    """The run's folder."""
    manifest_digest: Digest
    """SHA-256 of the folder's `manifest.json`."""
    artifact: ArtifactRef
    """The measured artifact."""
    published_at: AwareDatetime
    """When it was moved here."""


def publish(
    store: ObjectStore,
    output_uri: str,
    run_id: str,
    owner: Owner,
    files: Mapping[str, Path],
    provenance: Mapping[str, JsonValue],
    *,
    measured: Collection[str] | None = None,
    readme: Callable[[Sequence[PublishedFile]], str] | None = None,
    signer: "Signer | None" = None,
) -> ArtifactRef:
    """Publish `files` (by relative name; the first is the engine) and move the pointer.

    `measured` names the files that passed the gates, by default the first alone. Others with the very bytes of one of
    these are as measured; all others are companions. What `readme` says of the files becomes `README.md`; `provenance`
    becomes a statement about all of them, signed if there is a `signer`. After a crash the same call finishes the work.
    Raises InvalidInput when the pointer is another owner's or the run's folder holds other bytes or another signature,
    StoreFailed when the store fails; in both cases the pointer has not moved.
    """
    engine = next(iter(files))
    measured = {engine, *(measured or ())}
    _check_names(output_uri, run_id, files)
    _owned_pointer(store, output_uri, owner)
    folder = join(output_uri, run_id)
    found = _with_roles([_put(store, folder, name, path) for name, path in files.items()], measured)
    if (before := _read_manifest(store, folder)) is None:
        papers = _put_papers(store, folder, found, provenance, readme, signer)
        manifest = Manifest(run_id=run_id, owner=owner, files=sorted((*found, *papers), key=lambda f: f.name))
        manifest_digest = _put_manifest(store, folder, manifest)
    else:
        _check_same(store, folder, before[0], Manifest(run_id=run_id, owner=owner, files=found), signer)
        manifest_digest = before[1]
    size = sum(f.size_bytes for f in found if f.name in measured)
    artifact = ArtifactRef(uri=join(folder, engine), digest=found[0].digest, size_bytes=size)
    pointer = Pointer(owner=owner, run_id=run_id, uri=folder, manifest_digest=manifest_digest,
                      artifact=artifact, published_at=datetime.now(UTC))  # fmt: skip
    _move(store, output_uri, pointer)
    return artifact


def point_back(store: ObjectStore, output_uri: str, run_id: str, owner: Owner, artifact: ArtifactRef) -> bool:
    """Make the pointer lead to a run that was published before, as its status says.

    False when the run's folder does not hold, any more, what its manifest and `artifact` promise; then nothing was
    moved. Content is read through only if the pointer leads elsewhere: moving it is a promise made anew. Raises
    InvalidInput when the pointer is another owner's.
    """
    folder = join(output_uri, run_id)
    found = _read_manifest(store, folder)
    if found is None:
        return False
    manifest, digest = found
    pointer, _ = _owned_pointer(store, output_uri, owner)
    leads_here = pointer is not None and (pointer.run_id, pointer.manifest_digest) == (run_id, digest)
    promised = any(_is_promised(folder, file, artifact) for file in manifest.files)
    if manifest.run_id != run_id or not manifest.owner.is_same(owner) or not promised:
        return False
    if not all(_is_there(store, folder, file, read=not leads_here) for file in manifest.files):
        return False
    _move(store, output_uri, Pointer(owner=owner, run_id=run_id, uri=folder, manifest_digest=digest,
                                     artifact=artifact, published_at=datetime.now(UTC)))  # fmt: skip
    return True


def _read_manifest(store: ObjectStore, folder: str) -> tuple[Manifest, str] | None:
    """The manifest and its digest; None if it is gone or not ours."""
    try:
        data = store.read(join(folder, MANIFEST), MANIFEST_LIMIT_BYTES, field=OUTPUT_FIELD)
        return Manifest.model_validate_json(data), bytes_digest(data)
    except (InvalidInput, ValidationError):
        return None


def _is_promised(folder: str, file: PublishedFile, artifact: ArtifactRef) -> bool:
    return (join(folder, file.name), file.digest, file.role) == (artifact.uri, artifact.digest, Role.MEASURED)


def _is_there(store: ObjectStore, folder: str, file: PublishedFile, *, read: bool) -> bool:
    """Whether a file still has its size; its content too, if it is read."""
    uri = join(folder, file.name)
    found = store.stat(uri, field=OUTPUT_FIELD)
    if found is None or found.size_bytes != file.size_bytes:
        return False
    return not read or store.digest(uri, field=OUTPUT_FIELD) == file.digest


def current(store: ObjectStore, output_uri: str) -> Pointer | None:
    """What `<output>/current.json` points to; None if nothing was published. Raises InvalidInput if it is not ours."""
    return _read_pointer(store, join(output_uri, POINTER))


def _check_names(output_uri: str, run_id: str, files: Mapping[str, Path]) -> None:
    if not output_uri.startswith("s3://"):
        raise Unsupported(f"this release does not publish to {output_uri}", field=OUTPUT_FIELD, mend="use s3://")
    for name in (run_id, *files):
        if not is_safe_name(name) or name in PAPERS:
            raise InvalidInput(f"{name!r} cannot be the name of a published file")


def _with_roles(files: Sequence[PublishedFile], measured: Collection[str]) -> list[PublishedFile]:
    """What was measured are bytes, under whatever name they lie."""
    promised = {file.digest for file in files if file.name in measured}
    return [file.model_copy(update={"role": Role.MEASURED}) if file.digest in promised else file for file in files]


def _put(store: ObjectStore, folder: str, name: str, path: Path) -> PublishedFile:
    """Create the file, or see that it is there already, byte for byte."""
    uri, digest = join(folder, name), file_digest(path)
    if not store.create(uri, path, field=OUTPUT_FIELD) and store.digest(uri, field=OUTPUT_FIELD) != digest:
        raise _other_bytes(uri)
    return PublishedFile(name=name, digest=digest, size_bytes=path.stat().st_size, role=Role.COMPANION)


def _put_papers(
    store: ObjectStore,
    folder: str,
    files: Sequence[PublishedFile],
    provenance: Mapping[str, JsonValue],
    readme: Callable[[Sequence[PublishedFile]], str] | None,
    signer: "Signer | None",
) -> list[PublishedFile]:
    """What is said of the files: README.md, then the statement about all of these, signed if there is a key."""
    said = [] if readme is None else [_put_bytes(store, folder, README, readme(files).encode())]
    subjects = {file.name: file.digest for file in (*files, *said)}
    made = statement(provenance, subjects, [file.name for file in files if file.role is Role.MEASURED])
    if signer is None:
        return [*said, _put_first(store, folder, made, subjects)]
    signature, made = _put_signature(store, folder, made, subjects, signer)
    return [*said, signature, _put_bytes(store, folder, PROVENANCE, made)]


def _put_bytes(store: ObjectStore, folder: str, name: str, data: bytes) -> PublishedFile:
    """Create the object, or see that it is there already, byte for byte."""
    uri, digest = join(folder, name), bytes_digest(data)
    if not store.create(uri, data, field=OUTPUT_FIELD) and store.digest(uri, field=OUTPUT_FIELD) != digest:
        raise _other_bytes(uri)
    return PublishedFile(name=name, digest=digest, size_bytes=len(data), role=Role.COMPANION)


def _put_first(store: ObjectStore, folder: str, made: bytes, subjects: Mapping[str, str]) -> PublishedFile:
    """Create provenance.json; one from before a crash stays, as it tells of the same files at their first making."""
    uri = join(folder, PROVENANCE)
    if not store.create(uri, made, field=OUTPUT_FIELD):
        made = store.read(uri, PROVENANCE_LIMIT_BYTES, field=OUTPUT_FIELD)
        if read(made).subjects != subjects:
            raise _other_bytes(uri)
    return PublishedFile(name=PROVENANCE, digest=bytes_digest(made), size_bytes=len(made), role=Role.COMPANION)


def _put_signature(
    store: ObjectStore, folder: str, made: bytes, subjects: Mapping[str, str], signer: "Signer"
) -> tuple[PublishedFile, bytes]:
    """Create the envelope and yield the statement in it. One from before a crash stays if this very key made it:
    nothing that merely lay there is ever signed."""
    uri, data = join(folder, SIGNATURE), signer.sign(made)
    if not store.create(uri, data, field=OUTPUT_FIELD):
        data = store.read(uri, 2 * PROVENANCE_LIMIT_BYTES, field=OUTPUT_FIELD)
        made = signer.public.open(data)
        if read(made).subjects != subjects:
            raise _other_bytes(uri)
    return PublishedFile(name=SIGNATURE, digest=bytes_digest(data), size_bytes=len(data), role=Role.COMPANION), made


def _check_same(store: ObjectStore, folder: str, before: Manifest, now: Manifest, signer: "Signer | None") -> None:
    """That the folder which was published before is this run's, still whole, and signed if it must be."""
    listed = {file.name: file for file in before.files}
    same = all(file.name in listed and listed[file.name].digest == file.digest for file in now.files)
    if before.run_id != now.run_id or not before.owner.is_same(now.owner) or not same:
        raise _other_bytes(join(folder, MANIFEST))
    gone = next((file.name for file in before.files if not _is_there(store, folder, file, read=False)), None)
    if gone is not None:
        message = f"{join(folder, gone)} was removed or changed since it was published"
        raise InvalidInput(message, field=OUTPUT_FIELD, mend="ask for a new run, or publish elsewhere")
    if signer is not None:
        _check_signed(store, folder, listed, signer)


def _check_signed(store: ObjectStore, folder: str, listed: Mapping[str, PublishedFile], signer: "Signer") -> None:
    if SIGNATURE not in listed:
        message = f"{folder} was published before, unsigned, and published folders never change"
        raise InvalidInput(message, field=OUTPUT_FIELD, mend="ask for a new run, or publish elsewhere")
    signed = signer.public.open(store.read(join(folder, SIGNATURE), 2 * PROVENANCE_LIMIT_BYTES, field=OUTPUT_FIELD))
    if PROVENANCE not in listed or bytes_digest(signed) != listed[PROVENANCE].digest:
        raise _other_bytes(join(folder, SIGNATURE))


def _put_manifest(store: ObjectStore, folder: str, manifest: Manifest) -> str:
    return _put_bytes(store, folder, MANIFEST, manifest.model_dump_json(by_alias=True, indent=2).encode()).digest


def _other_bytes(uri: str) -> InvalidInput:
    message = f"{uri} is published already, with other content; published folders never change"
    return InvalidInput(message, field=OUTPUT_FIELD, mend="ask for a new run, or publish elsewhere")


def _owned_pointer(store: ObjectStore, output_uri: str, owner: Owner) -> tuple[Pointer | None, ObjectInfo | None]:
    """The pointer as it is, and its state; raises InvalidInput if it is another owner's."""
    uri = join(output_uri, POINTER)
    seen = store.stat(uri, field=OUTPUT_FIELD)  # before reading: what is read is then at least as new
    pointer = _read_pointer(store, uri) if seen else None
    if pointer is not None and not pointer.owner.is_same(owner):
        message = f"{uri} belongs to {pointer.owner}, this resource is {owner}"
        raise InvalidInput(message, field=OUTPUT_FIELD, mend="choose another folder")
    return pointer, seen


def _read_pointer(store: ObjectStore, uri: str) -> Pointer | None:
    try:
        data = store.read(uri, POINTER_LIMIT_BYTES, field=OUTPUT_FIELD)
    except ObjectMissing:
        return None
    try:
        return Pointer.model_validate_json(data)
    except ValidationError:
        message = f"{uri} is not a pointer of Strop"
        raise InvalidInput(message, field=OUTPUT_FIELD, mend="choose another folder") from None


def _move(store: ObjectStore, output_uri: str, wanted: Pointer) -> None:
    data = wanted.model_dump_json(by_alias=True, indent=2).encode()
    for _ in range(ATTEMPTS):
        found, seen = _owned_pointer(store, output_uri, wanted.owner)
        if found and (found.run_id, found.manifest_digest) == (wanted.run_id, wanted.manifest_digest):
            return
        if store.replace(join(output_uri, POINTER), data, seen.etag if seen else None, field=OUTPUT_FIELD):
            return
    raise StoreFailed(f"{join(output_uri, POINTER)} is moved by others again and again", field=OUTPUT_FIELD)
