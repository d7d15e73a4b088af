"""Garbage collection removes what nobody needs and nothing else."""

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from strop_job.gc import GUARD, Swept, collect
from strop_job.records import Records
from strop_job.stages import Artifact, ArtifactKind

from .conftest import Place


def commit(records: Records, key: str, folder: Path, **files: bytes) -> None:
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    records.commit(key * 64, Artifact(ArtifactKind.DATA, folder, tuple(files)), 1.0)


def later(**delta: float) -> datetime:
    """The sweep's clock is moved instead of the objects' times, which a store sets itself."""
    return datetime.now(UTC) + timedelta(**delta)


def age(folder: Path, days: float) -> None:
    """As if everything had been written that long ago."""
    then = (datetime.now(UTC) - timedelta(days=days)).timestamp()
    for path in folder.rglob("*"):
        os.utime(path, (then, then))


def objects(place: Place) -> int:
    return len(list(place.store.list(place.uri)))


def test_what_a_recent_run_needs_is_kept_and_the_rest_goes(local_place: Place, tmp_path: Path) -> None:
    """Else a sweep would make a running user's next run slow, or free nothing."""
    records = Records(local_place.store, f"{local_place.uri}/ns")
    commit(records, "a", tmp_path, shared=b"shared", mine=b"mine")
    commit(records, "b", tmp_path, shared=b"shared", other=b"other")
    age(tmp_path / "store", days=40)
    records.remember_run("recent", ["a" * 64])
    swept = collect(records, keep_days=30)
    assert (swept.records, swept.blobs, swept.kept_records, swept.kept_blobs) == (1, 1, 1, 2)
    assert records.find("a" * 64) is not None
    assert records.find("b" * 64) is None


def test_everything_goes_once_no_run_is_recent(place: Place, tmp_path: Path) -> None:
    """Else the store would only ever grow."""
    records = Records(place.store, f"{place.uri}/ns")
    commit(records, "a", tmp_path, one=b"1")
    records.remember_run("old", ["a" * 64])
    assert collect(records, keep_days=30, now=later(days=29)) == Swept(kept_records=1, kept_blobs=1)
    swept = collect(records, keep_days=30, now=later(days=31))
    assert (swept.records, swept.blobs, swept.runs) == (1, 1, 1)
    assert swept.size_bytes > 0
    assert objects(place) == 0


def test_a_dry_run_removes_nothing(place: Place, tmp_path: Path) -> None:
    """Else looking would be as dangerous as doing."""
    records = Records(place.store, f"{place.uri}/ns")
    commit(records, "a", tmp_path, one=b"1")
    swept = collect(records, keep_days=1, dry_run=True, now=later(days=3))
    assert (swept.records, swept.blobs) == (1, 1)
    assert records.find("a" * 64) is not None


def test_a_running_upload_is_never_swept(place: Place, tmp_path: Path) -> None:
    """Else a blob would vanish between its upload and its record."""
    records = Records(place.store, f"{place.uri}/ns")
    (tmp_path / "blob").write_bytes(b"no record names me yet")
    place.store.upload(records.blob_uri("sha256:" + "0" * 64), tmp_path / "blob")
    commit(records, "a", tmp_path, one=b"1")
    assert collect(records, keep_days=0, now=later(seconds=GUARD.total_seconds() - 60)).blobs == 0
    assert collect(records, keep_days=0, now=later(seconds=GUARD.total_seconds() + 60)).blobs == 2


def test_a_record_of_another_release_keeps_its_blobs(place: Place, tmp_path: Path) -> None:
    """Else an older `strop gc` would sweep what a newer worker has just made."""
    records = Records(place.store, f"{place.uri}/ns")
    commit(records, "a", tmp_path, one=b"1")
    data = place.store.read(records.record_uri("a" * 64), 1 << 20)
    place.damage(records.record_uri("a" * 64), data.replace(b'"format":1', b'"format":2'))
    records.remember_run("run", ["a" * 64])
    blob = next(place.store.list(f"{place.uri}/ns/blobs"))
    assert collect(records, keep_days=2, now=later(days=1.5)).blobs == 0
    assert place.store.stat(blob.uri) is not None


def test_a_blob_that_a_sweep_might_take_is_uploaded_anew(local_place: Place, tmp_path: Path) -> None:
    """Else a worker could rely on an old blob in the moment it is swept."""
    records = Records(local_place.store, f"{local_place.uri}/ns")
    commit(records, "a", tmp_path, one=b"1")
    age(tmp_path / "store", days=40)
    commit(records, "b", tmp_path, one=b"1")
    swept = collect(records, keep_days=0)
    assert (swept.records, swept.blobs, swept.kept_records, swept.kept_blobs) == (1, 0, 1, 1)
    assert records.find("b" * 64) is not None
