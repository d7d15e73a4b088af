"""The content-addressed cache of stages: a record names its blobs, is written last, and is the commit point.

Below the prefix lie `blobs/sha256/<hex>`, `records/<key>.json` and `runs/<run id>.json`. A record that cannot be
read, or whose blobs are gone or damaged, is no record: its stage is done again and the record mended.
"""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, JsonValue, ValidationError, model_validator

from strop_api.base import ApiModel, Digest
from strop_job.errors import StoreFailed
from strop_job.stages import Artifact, ArtifactKind, Stage
from strop_job.store.digests import PREFIX, file_digest, folder_digest
from strop_job.store.objects import ObjectInfo, ObjectMissing, ObjectStore, is_safe_name, join
from strop_job.store.parallel import all_done, in_parallel

KEY_VERSION = 1
RECORD_LIMIT_BYTES = 64 << 20
"""A record larger than this is not ours."""
CHECKED_FILES = 256
"""`find` looks at the blobs of records with at most this many files; of others `fetch` finds out."""
REFRESH_AFTER = timedelta(hours=6)
"""A blob older than this is uploaded again rather than relied on, so that `strop gc` cannot sweep it meanwhile."""
ATTEMPTS = 5

log = logging.getLogger(__name__)


class RecordLost(StoreFailed):
    """A record's blob is gone or damaged: treat the record as absent and do its stage again."""


class RecordFile(ApiModel):
    """One file of an artifact."""

    name: Annotated[str, Field(min_length=1, max_length=1024)]
    """Relative POSIX path."""
    digest: Digest
    """Of its content, and so the name of its blob."""
    size_bytes: Annotated[int, Field(ge=0)]
    """Size of its content."""

    @model_validator(mode="after")
    def _stays_below(self) -> Self:
        if not is_safe_name(self.name):
            raise ValueError(f"{self.name!r} is not a plain relative path")
        return self


class MadeFrom(ApiModel):
    """What the record's key was computed from, for provenance and for people."""

    stage: str
    """Name of the stage in the run that made it."""
    kind: str
    """Which handler."""
    version: int
    """Version of the handler."""
    parameters: dict[str, JsonValue]
    """Everything of the spec that decided the result."""
    inputs: dict[str, str]
    """Digest of each artifact that was read, by the name of its stage."""
    libraries: dict[str, str]
    """Versions of the distributions that shaped the bytes."""
    seed: int
    """Seed of everything random."""
    image: str
    """The worker image."""
    fingerprint: str | None
    """The hardware, where it matters."""

    @property
    def key(self) -> str:
        """64 hexadecimal digits. Inputs count in the order of `Stage.needs`: renaming a step changes no key."""
        document = self.model_dump(mode="json", exclude={"stage", "inputs"})
        document |= {"inputs": list(self.inputs.values()), "key_version": KEY_VERSION}
        canonical = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return sha256(canonical.encode()).hexdigest()


class Record(ApiModel):
    """What a stage yielded: files by digest, facts, and what it was made from."""

    format: Literal[1] = 1
    """Version of this layout."""
    key: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """The record's own key."""
    kind: ArtifactKind
    """What the files are."""
    files: Annotated[list[RecordFile], Field(min_length=1)]
    """The artifact's files; the first is the entry point."""
    facts: dict[str, JsonValue]
    """What the stage found out."""
    digest: Digest
    """Over the sorted names and digests of the files; facts do not count."""
    created_at: AwareDatetime
    """When it was committed."""
    seconds: Annotated[float, Field(ge=0)]
    """What making it cost."""
    made_from: MadeFrom | None = None
    """What the key was computed from."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if len({f.name for f in self.files}) != len(self.files):
            raise ValueError("a file is named twice")
        if folder_digest({f.name: f.digest for f in self.files}) != self.digest:
            raise ValueError("the digest is not that of the files")
        return self

    def older_than(self, max_age_seconds: int | None, now: datetime) -> bool:
        """Whether it has expired; None never does, 0 always has."""
        return max_age_seconds is not None and now - self.created_at >= timedelta(seconds=max_age_seconds)


@dataclass(frozen=True)
class _Stored:
    """A readable record and the etag it was read under."""

    record: Record | None
    etag: str


def made_from(
    stage: Stage, input_digests: Mapping[str, str], image: str, seed: int, fingerprint: str | None
) -> MadeFrom:
    """Everything that decides a stage's bytes. `input_digests` holds the artifact digest of each of `stage.needs`."""
    return MadeFrom(
        stage=stage.name,
        kind=stage.kind,
        version=stage.version,
        parameters=dict(stage.parameters),
        inputs={need: input_digests[need] for need in stage.needs},
        libraries={name: _version(name) for name in sorted(stage.libraries)},
        seed=seed,
        image=image,
        fingerprint=fingerprint if stage.hardware else None,
    )


class Records:
    """Records and blobs below one prefix of a store."""

    def __init__(self, store: ObjectStore, prefix_uri: str) -> None:
        self.store, self.prefix_uri = store, prefix_uri.rstrip("/")

    def find(self, key: str, *, max_age_seconds: int | None = None) -> Record | None:
        """The record under a key, if it can be read, has not expired, and its blobs are there."""
        stored = self._read(key)
        return stored.record if stored and self._usable(stored.record, max_age_seconds) else None

    def commit(
        self,
        key: str,
        artifact: Artifact,
        seconds: float,
        *,
        origin: MadeFrom | None = None,
        max_age_seconds: int | None = None,
    ) -> Record:
        """Upload the blobs, then write the record if-none-match.

        Where another's usable record is there first, that one is returned: its `digest` then differs from this
        artifact's if the bytes do, and the run goes on with the winner's (`fetch`). An unusable or expired record is
        replaced by If-Match.
        """
        record = self._described(key, artifact, seconds, origin)
        self._upload(artifact, record)
        data = record.model_dump_json(by_alias=True).encode()
        for _ in range(ATTEMPTS):
            if self.store.create(self.record_uri(key), data):
                return record
            winner = self._read(key)
            if winner is None:
                continue  # it was deleted in between
            if winner.record and self._usable(winner.record, max_age_seconds):
                return winner.record
            if self.store.replace(self.record_uri(key), data, winner.etag):
                return record
        raise StoreFailed(f"record {key} is written and removed by others again and again", mend="try again")

    def fetch(self, record: Record, folder: Path) -> Artifact:
        """The record's files in a folder, each verified; files that are already there are not fetched again.

        Raises RecordLost when a blob is gone or damaged; a damaged blob is removed, so that it is made again.
        """
        all_done(partial(self._fetch_file, folder), record.files)
        return Artifact(record.kind, folder, tuple(f.name for f in record.files), record.facts)

    def remember_run(self, run_id: str, keys: Iterable[str]) -> None:
        """Note that a run needs these records now, so that `strop gc` keeps them. Safe to repeat."""
        uri = join(self.prefix_uri, "runs", f"{run_id}.json")
        for _ in range(ATTEMPTS):
            found = self.store.stat(uri)
            document = {"runId": run_id, "usedAt": _now().isoformat(), "records": sorted(set(keys))}
            if self.store.replace(uri, json.dumps(document).encode(), found.etag if found else None):
                return
        raise StoreFailed(f"run {run_id} is noted by others again and again", mend="try again")

    def record_uri(self, key: str) -> str:
        """Where a record lies."""
        return join(self.prefix_uri, "records", f"{key}.json")

    def blob_uri(self, digest: str) -> str:
        """Where the content with this `sha256:…` lies."""
        return join(self.prefix_uri, "blobs", "sha256", digest.removeprefix(PREFIX))

    def _read(self, key: str) -> _Stored | None:
        """What lies under a key; None if nothing does. Unreadable content is a _Stored without a record."""
        uri = self.record_uri(key)
        found = self.store.stat(uri)
        if found is None:
            return None
        if found.size_bytes > RECORD_LIMIT_BYTES:
            return _Stored(None, found.etag)
        try:
            return _Stored(_parsed(key, self.store.read(uri, RECORD_LIMIT_BYTES)), found.etag)
        except ObjectMissing:
            return None

    def _usable(self, record: Record | None, max_age_seconds: int | None) -> bool:
        if record is None or record.older_than(max_age_seconds, _now()):
            return False
        if len(record.files) > CHECKED_FILES:
            return True
        return all(in_parallel(lambda file: self._blob(file) is not None, record.files))

    def _blob(self, file: RecordFile) -> ObjectInfo | None:
        """The blob of a file if it is there with the right size."""
        found = self.store.stat(self.blob_uri(file.digest))
        return found if found and found.size_bytes == file.size_bytes else None

    def _described(self, key: str, artifact: Artifact, seconds: float, origin: MadeFrom | None) -> Record:
        files = [_described_file(artifact.folder, name) for name in artifact.files]
        return Record(
            key=key,
            kind=artifact.kind,
            files=files,
            facts=dict(artifact.facts),
            digest=folder_digest({f.name: f.digest for f in files}),
            created_at=_now(),
            seconds=seconds,
            made_from=origin,
        )

    def _upload(self, artifact: Artifact, record: Record) -> None:
        distinct = {file.digest: file for file in record.files}
        all_done(partial(self._upload_blob, artifact.folder), distinct.values())

    def _upload_blob(self, folder: Path, file: RecordFile) -> None:
        found = self._blob(file)
        if found is None or _now() - found.modified_at > REFRESH_AFTER:
            self.store.upload(self.blob_uri(file.digest), folder / file.name)

    def _fetch_file(self, folder: Path, file: RecordFile) -> None:
        path = folder / file.name
        if path.is_file() and path.stat().st_size == file.size_bytes and file_digest(path) == file.digest:
            return
        uri = self.blob_uri(file.digest)
        try:
            digest = self.store.download(uri, path)
        except ObjectMissing as missing:
            raise RecordLost(f"the content of {file.name} is gone from the store ({uri})") from missing
        if digest != file.digest:
            path.unlink()
            self.store.delete(uri)
            raise RecordLost(f"the content of {file.name} is damaged in the store ({uri})")


def _parsed(key: str, data: bytes) -> Record | None:
    try:
        record = Record.model_validate_json(data)
    except ValidationError as error:
        log.warning("record %s cannot be read and will be made again: %s", key, error.errors()[0]["msg"])
        return None
    return record if record.key == key else None


def _described_file(folder: Path, name: str) -> RecordFile:
    path = folder / name
    return RecordFile(name=name, digest=file_digest(path), size_bytes=path.stat().st_size)


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "absent"


def _now() -> datetime:
    return datetime.now(UTC)
