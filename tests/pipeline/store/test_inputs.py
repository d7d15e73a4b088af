"""Bringing inputs in: what is pinned is checked, what is unchanged is not read again, nothing escapes."""

import os
import subprocess
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from strop_api.data import DataSource
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_job import inputs
from strop_job.errors import Evicted, InvalidInput, StropError, Unsupported
from strop_job.inputs import resolve_data_stage, resolve_model_stage
from strop_job.sources import Reach
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext
from strop_job.store.digests import bytes_digest, file_digest, folder_digest
from strop_job.store.local import LocalStore
from strop_job.store.objects import ObjectInfo

from .conftest import Place, access


def a_spec(uri: str, *, digest: str | None = None, format_: str = "Onnx") -> ModelOptimizationSpec:
    document: dict[str, Any] = {
        "model": {"uri": uri, "format": format_, "inputs": [{"name": "x", "dtype": "float32", "shape": [1, 4]}]},
        "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
        "data": {"evaluation": {"uri": "s3://data/eval.npz", "format": "Npz"}},
        "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {}}],
        "output": {"uri": "s3://engines/out"},
    }
    if digest:
        document["model"]["digest"] = digest
    if format_ == "Safetensors":
        document["model"]["architecture"] = {"callable": "zoo:net"}
    return ModelOptimizationSpec.model_validate(document)


def run(stage: Stage, folder: Path) -> Artifact:
    folder.mkdir(parents=True)
    request = a_request()
    heard: list[float] = []
    artifact = stage.run(StageContext(request, folder, {}, lambda share, _: heard.append(share)))
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    return artifact


def a_request() -> RunRequest:
    return RunRequest(namespace="ns", name="m", uid="u", run_id="r", target="cpu", spec=a_spec("s3://models/m"),
                         image="image", store=access("http://127.0.0.1:1"))  # fmt: skip


def put(place: Place, key: str, data: bytes) -> str:
    place.damage(f"{place.uri}/{key}", data)
    return f"{place.uri}/{key}"


def refused(spec: ModelOptimizationSpec, reach: Reach) -> StropError:
    with pytest.raises(StropError) as caught:
        resolve_model_stage(spec, reach)
    return caught.value


def test_a_model_file_comes_in_with_its_digest(place: Place, tmp_path: Path) -> None:
    """Else provenance could not say which model was optimized."""
    uri = put(place, "models/net.onnx", b"graph")
    artifact = run(resolve_model_stage(a_spec(uri), Reach(place.store)), tmp_path / "in")
    assert (artifact.kind, artifact.files, artifact.entry.read_bytes()) == (
        ArtifactKind.SOURCE, ("net.onnx",), b"graph")  # fmt: skip
    assert artifact.facts == {"digest": bytes_digest(b"graph"), "uri": uri, "entry": "net.onnx", "sizeBytes": 5}


def test_a_model_folder_comes_in_whole_and_its_digest_is_sha256sums(place: Place, tmp_path: Path) -> None:
    """Else external data would be left behind, or nobody could compute the pin of a folder."""
    for key, data in {"model.onnx": b"graph", "model.onnx.data": b"weights", "a-b/c d.txt": b"x", "a/z": b"y"}.items():
        put(place, f"models/net/{key}", data)
    artifact = run(resolve_model_stage(a_spec(f"{place.uri}/models/net"), Reach(place.store)), tmp_path / "in")
    assert artifact.files[0] == "model.onnx"
    assert {n: (artifact.folder / n).read_bytes() for n in artifact.files} == {
        "model.onnx": b"graph", "model.onnx.data": b"weights", "a-b/c d.txt": b"x", "a/z": b"y"}  # fmt: skip
    command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"
    printed = subprocess.run(["bash", "-c", command], cwd=artifact.folder, capture_output=True, check=True, text=True)
    assert artifact.facts["digest"] == "sha256:" + printed.stdout.split()[0]


@pytest.mark.parametrize(
    ("format_", "names", "entry"),
    [
        ("Safetensors", ["model.safetensors", "config.json"], "model.safetensors"),
        ("Safetensors", ["model-1.safetensors", "model-2.safetensors", "model.safetensors.index.json"],
         "model.safetensors.index.json"),
        ("Safetensors", ["weights.safetensors"], "weights.safetensors"),
        ("Onnx", ["model.onnx", "other.onnx"], "model.onnx"),
        ("TorchExport", ["net.pt2", "readme"], "net.pt2"),
        ("Onnx", ["a.onnx", "b.onnx"], None),
        ("Onnx", ["model.safetensors"], None),
    ],
)  # fmt: skip
def test_the_entry_of_a_folder_is_found_or_asked_for(
    local_place: Place, format_: str, names: list[str], entry: str | None
) -> None:
    """Else the wrong one of several models would be optimized in silence."""
    for name in names:
        put(local_place, f"m/{name}", b"x")
    spec = a_spec(f"{local_place.uri}/m", format_=format_)
    if entry is None:
        assert refused(spec, Reach(local_place.store)).field == "spec.model.uri"
    else:
        assert resolve_model_stage(spec, Reach(local_place.store)).parameters["entry"] == entry


def test_an_unchanged_source_has_the_same_key_and_a_changed_one_another(place: Place) -> None:
    """Else every run would download the model again, or a new model would be taken for the old one."""
    uri, reach = put(place, "m.onnx", b"one"), Reach(place.store)
    first = resolve_model_stage(a_spec(uri), reach).parameters
    assert resolve_model_stage(a_spec(uri), reach).parameters == first
    put(place, "m.onnx", b"two")
    assert resolve_model_stage(a_spec(uri), reach).parameters != first


def test_a_pin_that_does_not_match_names_both_digests(place: Place, tmp_path: Path) -> None:
    """Else a swapped model would be optimized as if it were the one that was reviewed."""
    uri = put(place, "m.onnx", b"swapped")
    stage = resolve_model_stage(a_spec(uri, digest=bytes_digest(b"reviewed")), Reach(place.store))
    with pytest.raises(InvalidInput) as caught:
        run(stage, tmp_path / "in")
    assert caught.value.field == "spec.model.digest"
    assert bytes_digest(b"swapped") in caught.value.message
    assert bytes_digest(b"reviewed") in caught.value.message
    right = resolve_model_stage(a_spec(uri, digest=bytes_digest(b"swapped")), Reach(place.store))
    assert run(right, tmp_path / "right").facts["digest"] == bytes_digest(b"swapped")


def test_a_source_that_changes_while_it_is_read_is_refused(place: Place, tmp_path: Path) -> None:
    """Else the old key would be given to the new content, for ever."""
    uri = put(place, "m.onnx", b"listed")
    stage = resolve_model_stage(a_spec(uri), Reach(place.store))
    put(place, "m.onnx", b"read")
    with pytest.raises(InvalidInput, match="changed while it was read"):
        run(stage, tmp_path / "in")


def test_data_comes_in_with_its_tokenizer_beside_it(place: Place, tmp_path: Path) -> None:
    """Else text could not be turned into the model's inputs."""
    source = DataSource.model_validate({
        "uri": put(place, "eval.parquet", b"rows"), "format": "Parquet",
        "tokenizer": {"uri": put(place, "tok/bert.json", b"{}"), "digest": bytes_digest(b"{}"), "column": "text"},
    })  # fmt: skip
    stage = resolve_data_stage("evaluation", source, Reach(place.store))
    artifact = run(stage, tmp_path / "in")
    assert (stage.name, artifact.kind, artifact.files) == (
        "resolve-evaluation", ArtifactKind.DATA, ("eval.parquet", "tokenizer.json"))  # fmt: skip
    assert (artifact.folder / "tokenizer.json").read_bytes() == b"{}"
    assert artifact.facts["digest"] == bytes_digest(b"rows")
    assert artifact.facts["tokenizerDigest"] == bytes_digest(b"{}")


def test_a_tokenizers_pin_is_checked_under_its_own_field(place: Place, tmp_path: Path) -> None:
    """Else the message would send people to the wrong line of the spec."""
    source = DataSource.model_validate({
        "uri": put(place, "eval.txt", b"a\n"), "format": "Text",
        "tokenizer": {"uri": put(place, "tok.json", b"{}"), "digest": bytes_digest(b"other")},
    })  # fmt: skip
    with pytest.raises(InvalidInput) as caught:
        run(resolve_data_stage("calibration", source, Reach(place.store)), tmp_path / "in")
    assert caught.value.field == "spec.data.calibration.tokenizer.digest"


def test_a_folder_of_images_stays_a_folder(place: Place, tmp_path: Path) -> None:
    """Else the classes, which are the folders' names, would be lost."""
    digests = {}
    for name in ("cat/1.png", "cat/2.png", "dog/1.png"):
        put(place, f"images/{name}", name.encode())
        digests[name] = bytes_digest(name.encode())
    source = DataSource.model_validate({"uri": f"{place.uri}/images", "format": "ImageFolder", "image": {"resize": 8}})
    artifact = run(resolve_data_stage("evaluation", source, Reach(place.store)), tmp_path / "in")
    assert artifact.files == ("cat/1.png", "cat/2.png", "dog/1.png")
    assert artifact.facts["entry"] == "."
    assert artifact.facts["digest"] == folder_digest(digests)


def test_nothing_at_the_uri_names_the_field(place: Place) -> None:
    """Else a typo would be found only by reading the worker's log."""
    error = refused(a_spec(f"{place.uri}/absent"), Reach(place.store))
    assert isinstance(error, InvalidInput)
    assert error.field == "spec.model.uri"
    assert "nothing lies at" in str(error)


def test_too_much_is_refused_before_it_is_read(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a wrong uri could fill the node's disk."""
    monkeypatch.setattr(inputs, "MODEL_LIMIT_BYTES", 4)
    error = refused(a_spec(put(place, "m.onnx", b"12345")), Reach(place.store))
    assert isinstance(error, InvalidInput)
    assert "more than the 4" in error.message


@pytest.mark.parametrize("uri", ["hf://owner/name", "oci://host/name", "file:///etc/passwd"])
def test_a_scheme_that_cannot_be_read_is_refused_by_name(local_place: Place, uri: str) -> None:
    """Else a run would fail with something unforeseen, or read the pod's own files."""
    error = refused(a_spec(uri), Reach(local_place.store))
    assert isinstance(error, Unsupported)
    assert error.field == "spec.model.uri"
    assert error.mend


@pytest.mark.parametrize("key", ["m/../../x", "m//x", "./m"])
def test_a_uri_that_escapes_is_refused_for_every_scheme(local_place: Place, tmp_path: Path, key: str) -> None:
    """Else a spec could read another claim's or the node's files."""
    (tmp_path / "pvc" / "claim").mkdir(parents=True)
    (tmp_path / "pvc" / "x").write_bytes(b"another claim's")
    reach = Reach(local_place.store, volumes=tmp_path / "pvc")
    for uri in (f"s3://bucket/{key}", f"pvc://claim/{key}", "pvc://../claim", "pvc://claim/../x"):
        error = refused(a_spec(uri), reach)
        assert isinstance(error, InvalidInput)
        assert error.field == "spec.model.uri"


def test_a_model_on_a_volume_comes_in(local_place: Place, tmp_path: Path) -> None:
    """Else pvc:// would be a promise of the API only."""
    folder = tmp_path / "pvc" / "claim" / "nets"
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph")
    reach = Reach(local_place.store, volumes=tmp_path / "pvc")
    for uri, name in (("pvc://claim/nets/model.onnx", "one"), ("pvc://claim/nets", "two"), ("pvc://claim/nets/", "3")):
        artifact = run(resolve_model_stage(a_spec(uri), reach), tmp_path / name)
        assert artifact.entry.read_bytes() == b"graph"
    assert "not mounted" in str(refused(a_spec("pvc://other/m.onnx"), reach))


def test_a_link_out_of_a_volume_is_refused(local_place: Place, tmp_path: Path) -> None:
    """Else whoever writes to a claim could read the worker's credentials."""
    folder = tmp_path / "pvc" / "claim"
    folder.mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    (folder / "model.onnx").symlink_to(tmp_path / "secret")
    for uri in ("pvc://claim/model.onnx", "pvc://claim"):
        error = refused(a_spec(uri), Reach(local_place.store, volumes=tmp_path / "pvc"))
        assert isinstance(error, InvalidInput)
        assert "link out of the volume" in error.message


def test_what_is_no_regular_file_is_refused(local_place: Place, tmp_path: Path) -> None:
    """Else a pipe in a folder would hang the worker for ever."""
    (tmp_path / "m").mkdir()
    os.mkfifo(tmp_path / "m" / "model.onnx")
    error = refused(a_spec(f"file://{tmp_path}/m"), Reach(local_place.store, command_line=True))
    assert "not a regular file" in str(error)


def test_the_command_line_reads_the_users_own_disk(local_place: Place, tmp_path: Path) -> None:
    """Else nobody could try Strop without copying files first."""
    (tmp_path / "my model.onnx").write_bytes(b"graph")
    uri = f"file://{tmp_path}/my%20model.onnx"
    artifact = run(resolve_model_stage(a_spec(uri), Reach(local_place.store, command_line=True)), tmp_path / "in")
    assert file_digest(artifact.entry) == bytes_digest(b"graph")


def test_an_eviction_begins_no_further_copy(local_place: Place, tmp_path: Path) -> None:
    """Else a pod that must leave would go on downloading until it is killed."""
    for n in range(50):
        put(local_place, f"m/{n}", b"x")
    put(local_place, "m/model.onnx", b"x")
    stage = resolve_model_stage(a_spec(f"{local_place.uri}/m"), Reach(local_place.store))

    def evicted(*_: object) -> None:
        raise Evicted("the pod must leave")

    context, before = StageContext(a_request(), tmp_path / "in", {}, evicted), threading.active_count()
    with pytest.raises(Evicted):
        stage.run(context)
    assert threading.active_count() <= before


class FlatStore(LocalStore):
    """Lists keys as S3 itself may hold them; MinIO and file systems cannot."""

    def list(self, prefix_uri: str, *, field: str | None = None) -> Iterator[ObjectInfo]:
        for key in ("a", "a/b", "model.onnx"):
            yield ObjectInfo(f"{prefix_uri}/{key}", 1, "e", datetime.now(UTC))


def test_a_name_that_is_both_file_and_folder_is_refused(tmp_path: Path) -> None:
    """Else a download would end in something unforeseen, after minutes."""
    error = refused(a_spec("s3://models/m"), Reach(FlatStore(tmp_path)))
    assert isinstance(error, InvalidInput)
    assert "'a' is a file and a folder" in error.message
