"""Publishing with a statement and a signature: nothing unsigned passes for signed, nothing foreign is ever signed."""

import json

import pytest

from strop_job.errors import InvalidInput
from strop_job.publish import current
from strop_job.trust.places import StoredPlace
from strop_job.trust.signing import NotVerified, read_signer
from strop_job.trust.verification import Signature
from strop_job.trust.verify import verify


class Killed(BaseException):
    """Stands for SIGKILL at a chosen moment."""


def killing(after: int, original):
    left = [after]

    def method(*arguments, **named):
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return original(*arguments, **named)

    return method


def test_a_statement_about_every_file_lies_beside_them(place, public, signer):
    """Whoever has one file could not say which run it is of."""
    place.publish(signer=signer)
    assert place.names() == {
        "current.json", "r1/engine.onnx", "r1/onnx/model.onnx", "r1/README.md", "r1/provenance.json",
        "r1/provenance.dsse.json", "r1/manifest.json",
    }  # fmt: skip
    stated = place.read("out/r1/provenance.json")
    assert public.open(place.read("out/r1/provenance.dsse.json")) == stated
    named = {subject["name"] for subject in json.loads(stated)["subject"]}
    assert named == {"engine.onnx", "onnx/model.onnx", "README.md"}


@pytest.mark.parametrize("writes", range(7))
def test_a_crash_at_any_write_is_mended_and_the_signature_holds(place, signer, public, writes, monkeypatch, parts):
    """A worker killed in the middle would leave a folder whose signature and statement disagree for ever."""
    with monkeypatch.context() as patch:
        patch.setattr(place.store, "create", killing(writes, place.store.create))
        patch.setattr(place.store, "replace", killing(0, place.store.replace))
        with pytest.raises(Killed):
            place.publish(signer=signer)
    assert current(place.store, place.output) is None
    later = parts.make_provenance(parts.make_request(parts.make_spec(place.bucket)), reads=1)
    later["madeAt"] = "2030-01-01T00:00:00Z"
    place.publish(signer=signer, provenance=later)
    found = verify(StoredPlace(place.store, place.output), public)
    assert found.faults == ()
    assert found.signature is Signature.VERIFIED


def test_what_was_published_unsigned_is_not_said_to_be_signed_now(local, signer):
    """`--signing-key` on a run that was published before would end well, and there would be no signature."""
    local.publish()
    before = {name: local.read(f"out/{name}") for name in local.names()}
    with pytest.raises(InvalidInput, match="published before, unsigned"):
        local.publish(signer=signer)
    assert {name: local.read(f"out/{name}") for name in local.names()} == before


def test_a_statement_that_merely_lies_there_is_never_signed(local, signer):
    """Who may write to the store could have anything signed by planting it before the run ends."""
    planted = json.dumps({"_type": "https://in-toto.io/Statement/v1"}).encode()
    local.write("out/r1/provenance.json", planted)
    with pytest.raises(InvalidInput, match="other content"):
        local.publish(signer=signer)
    assert current(local.store, local.output) is None


def test_a_signature_by_another_key_is_not_taken_for_ones_own(local, signer, tmp_path):
    """A planted envelope would be published as the admin's."""
    from cryptography.hazmat.primitives.asymmetric import ed25519
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    other = ed25519.Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "other.key").write_bytes(other)
    local.write("out/r1/provenance.dsse.json", read_signer(tmp_path / "other.key", None).sign(b"{}"))
    with pytest.raises(NotVerified):
        local.publish(signer=signer)
    assert current(local.store, local.output) is None


def test_publishing_again_changes_nothing_even_with_other_papers(local, signer):
    """A second run on the command line, whose figures differ by a breath, would be refused or rewrite the first."""
    local.publish(signer=signer)
    before = {name: local.read(f"out/{name}") for name in local.names()}
    local.publish(signer=signer, readme=lambda _: "# other words\n")
    assert {name: local.read(f"out/{name}") for name in local.names()} == before


@pytest.mark.parametrize("name", ["README.md", "provenance.json", "engine.onnx"])
def test_a_published_folder_that_lost_a_file_is_made_whole_or_told(local, name):
    """The pointer would lead to a folder of which something is missing."""
    local.publish()
    local.store.delete(f"{local.output}/r1/{name}")
    if name == "engine.onnx":
        local.publish()
        assert verify(StoredPlace(local.store, local.output)).passed
        return
    with pytest.raises(InvalidInput, match="was removed or changed"):
        local.publish()


@pytest.mark.parametrize("name", ["provenance.dsse.json", "README.md"])
def test_a_file_cannot_have_the_name_of_a_paper(local, name):
    """A bundle could pass for the signature or the card."""
    with pytest.raises(InvalidInput, match="cannot be the name"):
        local.publish(files={"engine.onnx": local.folder / "e", name: local.folder / "e"})
