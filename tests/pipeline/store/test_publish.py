"""Publishing: immutable folders, one pointer, one owner, and nothing lost or doubled by a crash."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from strop_api.status import ArtifactRef
from strop_job.errors import InvalidInput, StropError, Unsupported
from strop_job.publish import Manifest, Owner, Pointer, current, publish
from strop_job.store.digests import bytes_digest

from .conftest import Place


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    found = {"model.onnx": tmp_path / "m", "model.onnx.data": tmp_path / "d", "config/triton.pbtxt": tmp_path / "t"}
    for name, path in found.items():
        path.write_bytes(b"content of " + name.encode())
    return found


OWNER = Owner(namespace="team", name="tiny", uid="uid-1")


def send(place: Place, files: dict[str, Path], run_id: str = "r1", owner: Owner = OWNER, note: str = "") -> ArtifactRef:
    measured = {"model.onnx", "model.onnx.data"}
    return publish(place.store, f"{place.uri}/out", run_id, owner, files, {"madeAt": note}, measured=measured)


def tree(place: Place) -> dict[str, str]:
    return {i.uri.removeprefix(f"{place.uri}/out/"): i.etag for i in place.store.list(f"{place.uri}/out")}


def test_a_run_is_published_with_its_manifest_and_the_pointer_leads_to_it(place: Place, files: dict[str, Path]) -> None:
    """Else whoever follows current.json could not find or check what was promised."""
    artifact = send(place, files, note="made so")
    pointer = current(place.store, f"{place.uri}/out")
    assert isinstance(pointer, Pointer)
    assert (pointer.run_id, pointer.owner, pointer.artifact) == ("r1", OWNER, artifact)
    assert artifact.uri == f"{place.uri}/out/r1/model.onnx"
    assert artifact.digest == bytes_digest(b"content of model.onnx")
    assert artifact.size_bytes == len(b"content of model.onnx" + b"content of model.onnx.data")
    data = place.store.read(f"{pointer.uri}/manifest.json", 1 << 20)
    assert bytes_digest(data) == pointer.manifest_digest
    manifest = Manifest.model_validate_json(data)
    assert {f.name: f.role.value for f in manifest.files} == {
        "model.onnx": "measured",
        "model.onnx.data": "measured",
        "config/triton.pbtxt": "companion",
        "provenance.json": "companion",
    }
    for file in manifest.files:
        assert place.store.digest(f"{pointer.uri}/{file.name}") == file.digest
    stated = json.loads(place.store.read(f"{pointer.uri}/provenance.json", 1 << 20))
    assert stated["predicate"]["runDetails"]["metadata"]["finishedOn"] == "made so"
    names = {subject["name"]: subject["digest"]["sha256"] for subject in stated["subject"]}
    assert names == {f.name: f.digest[7:] for f in manifest.files if f.name != "provenance.json"}


class Killed(BaseException):
    """Stands for SIGKILL at a chosen moment."""


def _killing(after: int, original: Callable[..., bool]) -> Callable[..., bool]:
    """A store's method that works `after` times and kills the worker then."""
    left = [after]

    def method(*arguments: object, **named: object) -> bool:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return original(*arguments, **named)

    return method


@pytest.mark.parametrize("writes", range(6))
def test_publishing_again_after_a_crash_finishes_the_work(
    place: Place, files: dict[str, Path], writes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker killed in the middle would leave a folder that nobody can finish, or a pointer to half of it."""
    with monkeypatch.context() as patch:
        patch.setattr(place.store, "create", _killing(writes, place.store.create))
        patch.setattr(place.store, "replace", _killing(0, place.store.replace))
        with pytest.raises(Killed):
            send(place, files, note="first")
    assert current(place.store, f"{place.uri}/out") is None
    artifact = send(place, files, note="second")
    once = tree(place)
    assert send(place, files, note="third") == artifact
    assert tree(place) == once
    assert len(once) == 6


def test_a_published_file_never_changes(place: Place, files: dict[str, Path]) -> None:
    """Else somebody who has the uri and the digest would suddenly load something else."""
    send(place, files)
    before = tree(place)
    files["model.onnx"].write_bytes(b"another engine")
    with pytest.raises(InvalidInput, match="never change") as caught:
        send(place, files)
    assert caught.value.field == "spec.output.uri"
    assert tree(place) == before


def test_the_pointer_of_another_owner_is_refused_before_anything_is_written(
    place: Place, files: dict[str, Path]
) -> None:
    """Else one resource could take over what another one serves."""
    send(place, files)
    before = tree(place)
    for change in ({"name": "other"}, {"namespace": "others"}):
        with pytest.raises(InvalidInput, match="belongs to team/tiny") as caught:
            send(place, files, run_id="r2", owner=OWNER.model_copy(update=change))
        assert caught.value.field == "spec.output.uri"
    assert tree(place) == before


def test_a_resource_that_was_deleted_and_applied_again_publishes_on(place: Place, files: dict[str, Path]) -> None:
    """Else what GitOps re-creates, with a new UID, could never publish to its own folder again."""
    send(place, files)
    again = OWNER.model_copy(update={"uid": "uid-2"})
    send(place, files, run_id="r2", owner=again)
    pointer = current(place.store, f"{place.uri}/out")
    assert pointer is not None
    assert (pointer.run_id, pointer.owner) == ("r2", again)
    assert {name.split("/")[0] for name in tree(place)} == {"r1", "r2", "current.json"}


def test_something_else_under_the_pointers_name_is_left_alone(place: Place, files: dict[str, Path]) -> None:
    """Else a user's own current.json would be overwritten."""
    assert place.store.create(f"{place.uri}/out/current.json", b'{"mine": true}')
    with pytest.raises(InvalidInput, match="not a pointer of Strop"):
        send(place, files)
    assert list(tree(place)) == ["current.json"]


def test_a_later_run_moves_the_pointer_and_leaves_the_earlier_folder(place: Place, files: dict[str, Path]) -> None:
    """Else rolling back would be impossible."""
    send(place, files)
    before = {name: etag for name, etag in tree(place).items() if name.startswith("r1/")}
    files["model.onnx"].write_bytes(b"better")
    send(place, files, run_id="r2")
    pointer = current(place.store, f"{place.uri}/out")
    assert pointer is not None
    assert pointer.run_id == "r2"
    assert before.items() <= tree(place).items()


def test_of_two_owners_at_once_only_one_gets_the_pointer(place: Place, files: dict[str, Path]) -> None:
    """Else both would be told that they are served."""

    def attempt(n: int) -> ArtifactRef | StropError:
        try:
            return send(place, files, run_id=f"r{n}", owner=OWNER.model_copy(update={"name": f"m{n}"}))
        except StropError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        ended = list(pool.map(attempt, range(4)))
    pointer = current(place.store, f"{place.uri}/out")
    assert pointer is not None
    won = [e for e in ended if isinstance(e, ArtifactRef)]
    assert won == [pointer.artifact]
    assert all(isinstance(e, InvalidInput) for e in ended if not isinstance(e, ArtifactRef))


@pytest.mark.parametrize("name", ["../engine", "/engine", "manifest.json", "provenance.json", "a/../b"])
def test_names_that_escape_or_collide_are_refused(place: Place, files: dict[str, Path], name: str) -> None:
    """Else a file could land outside the run's folder or over its manifest."""
    with pytest.raises(InvalidInput, match="cannot be the name"):
        send(place, {**files, name: files["model.onnx"]})
    assert tree(place) == {}


def test_another_kind_of_address_is_unsupported_by_name(place: Place, files: dict[str, Path]) -> None:
    """Else a run would end with an error that nobody understands, after all its work."""
    with pytest.raises(Unsupported) as caught:
        publish(place.store, "oci://registry/engines", "r1", OWNER, files, {})
    assert caught.value.field == "spec.output.uri"
