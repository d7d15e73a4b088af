"""The OCI artifact, opened by ORAS's own program."""

import json
import subprocess
from pathlib import Path

from cluster import binaries
from strop_job.handoff.oci import ARTIFACT_TYPE
from strop_job.store.digests import bytes_digest, file_digest


def oras(*words: str) -> str:
    """What the program prints; it fails where it finds a blob that is not what its digest says."""
    done = subprocess.run([str(binaries.find("oras")), *words], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_oras_pulls_the_measured_engine_out_of_it(scores, tmp_path):
    """Another program must find the engine under its name, byte for byte."""
    oras("pull", "--oci-layout", f"{scores['oci'].folder}:0123456789", "--output", str(tmp_path / "pulled"))
    engine = scores["engine"]
    pulled = sorted(path.name for path in (tmp_path / "pulled").iterdir())
    assert pulled == sorted(engine.files)
    assert file_digest(tmp_path / "pulled" / engine.files[0]) == file_digest(engine.entry)


def test_oras_reads_the_type_and_the_provenance(scores):
    """Who finds the artifact in a registry has nothing but these annotations."""
    layout = f"{scores['oci'].folder}:0123456789"
    manifest = json.loads(oras("manifest", "fetch", "--oci-layout", layout))
    assert manifest["artifactType"] == ARTIFACT_TYPE
    noted = manifest["annotations"]
    assert noted["dev.strop.resource"] == "team/scores"
    assert noted["dev.strop.model.uri"] == "s3://models/scores/model.onnx"
    assert noted["dev.strop.runtime.version"] == scores["engine"].facts["version"]
    assert json.loads(noted["dev.strop.spec"])["targets"][0]["runtime"] == "ONNXRuntime"
    assert noted["dev.strop.model.digest"].startswith("sha256:")
    assert all(isinstance(value, str) for value in noted.values())


def test_oras_copies_it_to_another_layout_and_finds_the_same_digest(scores, tmp_path):
    """A copy is how it gets into a registry; a manifest of another digest would be another artifact."""
    target = f"{tmp_path / 'copy'}:v1"
    oras("cp", "--from-oci-layout", f"{scores['oci'].folder}:0123456789", "--to-oci-layout", target)
    copied = json.loads(oras("manifest", "fetch", "--oci-layout", target, "--descriptor"))
    assert copied["digest"] == scores["oci"].facts["digest"]


def test_the_same_engine_gives_the_same_bytes(scores, bench, parts):
    """A run that is asked again publishes into the same folder, which never changes."""
    request = parts.request_of(parts.spec_of())
    again = bench.run(
        parts.stages_of(request)["bundle-oci"], request, compile=scores["engine"], resolve_model=bench.source()
    )
    assert again.files == scores["oci"].files
    assert contents(again.folder) == contents(scores["oci"].folder)


def test_every_blob_is_named_by_its_digest(scores):
    """A registry refuses a blob whose content is not what its name says."""
    blobs = list((scores["oci"].folder / "blobs" / "sha256").iterdir())
    assert len(blobs) == 3
    assert all(bytes_digest(blob.read_bytes()) == f"sha256:{blob.name}" for blob in blobs)


def contents(folder: Path) -> dict[str, bytes]:
    """Every file's bytes."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
