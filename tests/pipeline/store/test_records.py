"""Records: found again exactly when nothing that matters changed, never half-written, mended when damaged."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest

from strop_api.result import Outcome
from strop_job.errors import StoreFailed
from strop_job.records import MadeFrom, RecordLost, Records, made_from
from strop_job.stages import Artifact, ArtifactKind, Stage
from strop_job.store.digests import bytes_digest, file_digest, folder_digest

from .conftest import Place

KEY = "a" * 64


def nothing(_: object) -> Artifact:
    raise AssertionError("never run")


STAGE = Stage("int8", "quantize", 1, nothing, {"precision": "int8"}, needs=("export",), libraries=("numpy",))


def key_of(stage: Stage, inputs: dict[str, str], image: str, seed: int, fingerprint: str | None = None) -> str:
    return made_from(stage, inputs, image, seed, fingerprint).key


def an_artifact(folder: Path, content: bytes = b"weights", **files: bytes) -> Artifact:
    everything = {"model.onnx": content, **files}
    for name, data in everything.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Artifact(ArtifactKind.ONNX_GRAPH, folder, tuple(everything), {"opset": 20, "nodes": [1, 2]})


def records_at(place: Place) -> Records:
    return Records(place.store, f"{place.uri}/ns")


def blob_uris(place: Place) -> list[str]:
    return [i.uri for i in place.store.list(f"{place.uri}/ns/blobs")]


def test_a_committed_artifact_is_found_and_fetched_whole(place: Place, tmp_path: Path) -> None:
    """Else a second run would do everything again, or go on with other bytes."""
    records = records_at(place)
    made = an_artifact(tmp_path / "made", **{"data/weights.bin": os.urandom(1000), "data/twin.bin": b"weights"})
    origin = made_from(STAGE, {"export": bytes_digest(b"x")}, "image", 7, None)
    assert records.find(origin.key) is None
    record = records.commit(origin.key, made, 1.5, origin=origin)
    found = records.find(origin.key)
    assert found == record
    assert found.made_from == origin
    fetched = records.fetch(found, tmp_path / "fetched")
    assert (fetched.kind, fetched.files, fetched.facts) == (made.kind, made.files, made.facts)
    assert all((fetched.folder / n).read_bytes() == (made.folder / n).read_bytes() for n in made.files)
    assert record.digest == folder_digest({n: file_digest(made.folder / n) for n in made.files})
    assert len(blob_uris(place)) == 2, "the same content is kept once"


def test_a_key_changes_with_everything_that_decides_the_bytes() -> None:
    """Else a stale result would be taken for the one asked for."""
    inputs = {"export": bytes_digest(b"graph")}
    keys = [
        key_of(STAGE, inputs, "image", 0),
        key_of(replace(STAGE, kind="cast"), inputs, "image", 0),
        key_of(replace(STAGE, version=2), inputs, "image", 0),
        key_of(replace(STAGE, parameters={"precision": "fp16"}), inputs, "image", 0),
        key_of(replace(STAGE, libraries=("onnx",)), inputs, "image", 0),
        key_of(STAGE, {"export": bytes_digest(b"other")}, "image", 0),
        key_of(STAGE, inputs, "image-2", 0),
        key_of(STAGE, inputs, "image", 1),
        key_of(replace(STAGE, hardware=True), inputs, "image", 0, "cpu-a"),
        key_of(replace(STAGE, hardware=True), inputs, "image", 0, "cpu-b"),
    ]
    assert len(set(keys)) == len(keys)


def test_a_key_ignores_what_decides_nothing() -> None:
    """Else renaming a step or moving to another node would throw results away."""
    key = key_of(STAGE, {"export": bytes_digest(b"graph")}, "image", 0, "cpu-a")
    renamed = replace(STAGE, name="q", needs=("graph",), weight=9.0)
    assert key_of(renamed, {"graph": bytes_digest(b"graph"), "other": "x"}, "image", 0, "cpu-b") == key


def test_the_loser_of_a_race_adopts_the_winner(place: Place, tmp_path: Path) -> None:
    """Else two workers would go on with different bytes under one key."""
    made = [an_artifact(tmp_path / str(n), b"made by %d" % n) for n in range(2)]
    together, committed = threading.Barrier(2), []

    def commit(artifact: Artifact) -> None:
        together.wait()
        committed.append(records_at(place).commit(KEY, artifact, 1.0))

    threads = [threading.Thread(target=commit, args=(a,)) for a in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert committed[0] == committed[1] == records_at(place).find(KEY)
    fetched = records_at(place).fetch(committed[0], tmp_path / "fetched")
    assert fetched.entry.read_bytes() in (b"made by 0", b"made by 1")


class Killed(BaseException):
    """Stands for SIGKILL at a chosen moment."""


def test_a_worker_killed_between_blobs_and_record_leaves_nothing_half_done(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a half-written result could be found, or the next attempt could not finish."""
    records, made = records_at(place), an_artifact(tmp_path / "made")

    def killed(*_: object, **__: object) -> bool:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(place.store, "create", killed)
        with pytest.raises(Killed):
            records.commit(KEY, made, 1.0)
    assert len(blob_uris(place)) == 1
    assert records.find(KEY) is None
    assert records.commit(KEY, made, 1.0) == records.find(KEY)


def test_blobs_that_are_there_are_not_uploaded_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else resuming would cost as much as the first upload."""
    records, made = records_at(place), an_artifact(tmp_path / "made")
    records.commit(KEY, made, 1.0)
    monkeypatch.setattr(place.store, "upload", nothing)
    records.commit("b" * 64, made, 1.0)


def test_an_expired_record_is_made_again_and_replaced(place: Place, tmp_path: Path) -> None:
    """Else a measurement would stay for ever, or the new one would be lost."""
    records = records_at(place)
    old = records.commit(KEY, an_artifact(tmp_path / "old", b"old"), 1.0)
    assert records.find(KEY, max_age_seconds=3600) == old
    assert records.find(KEY, max_age_seconds=0) is None
    new = records.commit(KEY, an_artifact(tmp_path / "new", b"new"), 1.0, max_age_seconds=0)
    assert new.digest != old.digest
    assert records.find(KEY) == new


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"format": 1}', "null", "\xff"])
def test_a_damaged_record_is_a_miss_and_is_mended(place: Place, tmp_path: Path, damage: str) -> None:
    """Else one broken object would stop every run that needs it."""
    records, made = records_at(place), an_artifact(tmp_path / "made")
    records.commit(KEY, made, 1.0)
    place.damage(records.record_uri(KEY), damage.encode("latin-1"))
    assert records.find(KEY) is None
    assert records.commit(KEY, made, 1.0) == records.find(KEY)


def test_a_record_under_anothers_key_is_a_miss(place: Place, tmp_path: Path) -> None:
    """Else a copied record would pass for a result that was never computed."""
    records = records_at(place)
    records.commit(KEY, an_artifact(tmp_path / "made"), 1.0)
    data = place.store.read(records.record_uri(KEY), 1 << 20)
    place.damage(records.record_uri("b" * 64), data)
    assert records.find("b" * 64) is None


@pytest.mark.parametrize("name", ["../escaped", "/tmp/escaped", "a/../../escaped", "", "a\\..\\b"])
def test_a_record_whose_file_names_escape_is_a_miss(place: Place, tmp_path: Path, name: str) -> None:
    """Else whoever can write to the store could write anywhere in the worker."""
    records = records_at(place)
    records.commit(KEY, an_artifact(tmp_path / "made"), 1.0)
    document = json.loads(place.store.read(records.record_uri(KEY), 1 << 20))
    document["files"][0]["name"] = name
    document["digest"] = folder_digest({name: document["files"][0]["digest"]})
    place.damage(records.record_uri(KEY), json.dumps(document).encode())
    assert records.find(KEY) is None


def test_a_lost_blob_is_a_miss_and_is_mended(place: Place, tmp_path: Path) -> None:
    """Else a record would promise what is no longer there."""
    records, made = records_at(place), an_artifact(tmp_path / "made")
    record = records.commit(KEY, made, 1.0)
    place.store.delete(blob_uris(place)[0])
    with pytest.raises(RecordLost, match=r"model\.onnx is gone"):
        records.fetch(record, tmp_path / "fetched")
    assert records.find(KEY) is None
    again = records.commit(KEY, an_artifact(tmp_path / "again", b"other bytes this time"), 1.0)
    assert records.find(KEY) == again != record


def test_a_damaged_blob_is_noticed_and_mended(place: Place, tmp_path: Path) -> None:
    """Else a flipped bit in the store would be optimized, measured and published."""
    records, made = records_at(place), an_artifact(tmp_path / "made")
    record = records.commit(KEY, made, 1.0)
    place.damage(blob_uris(place)[0], b"WEIGHTS")
    assert records.find(KEY) == record, "the size is right, so only reading it tells"
    with pytest.raises(RecordLost, match="damaged"):
        records.fetch(record, tmp_path / "fetched")
    assert not (tmp_path / "fetched" / "model.onnx").exists()
    records.commit(KEY, made, 1.0)
    assert records.fetch(record, tmp_path / "fetched").entry.read_bytes() == b"weights"


def test_files_that_are_already_there_are_not_fetched_again(
    place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker would download what it has just made."""
    records, made = records_at(place), an_artifact(tmp_path / "made")
    record = records.commit(KEY, made, 1.0)
    monkeypatch.setattr(place.store, "download", nothing)
    assert records.fetch(record, tmp_path / "made").entry.read_bytes() == b"weights"


def test_a_lost_record_counts_as_the_stores_failure() -> None:
    """Else a run that cannot mend a record would not be tried again."""
    assert issubclass(RecordLost, StoreFailed)
    assert RecordLost.outcome is Outcome.STORE_FAILED


def test_what_a_record_was_made_from_gives_its_key(place: Place, tmp_path: Path) -> None:
    """Else provenance would tell of something else than what was computed."""
    origin = made_from(STAGE, {"export": bytes_digest(b"x")}, "image", 7, None)
    records = records_at(place)
    records.commit(origin.key, an_artifact(tmp_path / "made"), 1.0, origin=origin)
    read_back = records.find(origin.key)
    assert read_back is not None
    assert isinstance(read_back.made_from, MadeFrom)
    assert read_back.made_from.key == read_back.key
