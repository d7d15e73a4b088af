"""What anybody may have written: keys, envelopes and folders of any content are answered in words, never by a trace."""

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console

from strop_api.failures import ExitCode
from strop_job.errors import InvalidInput
from strop_job.local import Wishes
from strop_job.trust.command import Question, answer
from strop_job.trust.keys import ENCRYPTED_TYPES, KEY_LIMIT_BYTES, private_key, public_key
from strop_job.trust.signing import read_public_key, read_signer

PAPERS = ("current.json", "r1/manifest.json", "r1/provenance.json", "r1/provenance.dsse.json")
SHARED = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12)
VALUES = st.recursive(
    SCALARS | st.sampled_from(["../../etc/passwd", "/etc/passwd", "sha256:" + "0" * 64, "\x00", "r1", "engine.onnx"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


def places(document: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Path of every value of a JSON document."""
    inside = (
        document.items() if isinstance(document, dict) else enumerate(document if isinstance(document, list) else ())
    )
    return [at, *(path for key, value in inside for path in places(value, (*at, key)))]


def put(document: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The document with another value there."""
    if not path:
        return value
    copy = list(document) if isinstance(document, list) else dict(document)
    copy[path[0]] = put(document[path[0]], path[1:], value)
    return copy


@pytest.fixture
def folder(local, signer) -> Path:
    """A published and signed folder on a disk."""
    local.publish(signer=signer)
    return Path(local.store.root) / "bucket" / "out"


def asked(folder: Path, key: Path) -> ExitCode:
    """`strop verify`, in words and as JSON."""
    codes = set()
    for as_json in (False, True):
        console = Console(file=io.StringIO(), width=80)
        codes.add(answer(Question(str(folder), Wishes("out"), key=key, as_json=as_json), console))
    [code] = codes
    return code


@SHARED
@given(data=st.data())
def test_a_folder_with_any_value_changed_is_answered_in_words(folder, parts, data):
    """Whoever wrote the folder could hide behind a trace, or be believed."""
    name = data.draw(st.sampled_from(PAPERS))
    kept = (folder / name).read_bytes()
    document = json.loads(kept)
    path = data.draw(st.sampled_from(places(document)))
    changed = json.dumps(put(document, path, data.draw(VALUES))).encode()
    (folder / name).write_bytes(changed)
    try:
        code = asked(folder, parts.cosign / "cosign.pub")
    finally:
        (folder / name).write_bytes(kept)
    harmless = name in ("current.json", "r1/provenance.dsse.json")  # moments and hints are nobody's claim
    assert code is ExitCode.INVALID_INPUT or json.loads(changed) == document or harmless


@SHARED
@given(name=st.sampled_from(PAPERS), data=st.binary(max_size=64))
def test_a_paper_of_any_bytes_is_answered_in_words(folder, parts, name, data):
    """A folder that was damaged on its way would end in a trace."""
    kept = (folder / name).read_bytes()
    (folder / name).write_bytes(data)
    try:
        assert asked(folder, parts.cosign / "cosign.pub") is ExitCode.INVALID_INPUT
    finally:
        (folder / name).write_bytes(kept)


@SHARED
@given(value=VALUES)
def test_an_envelope_of_any_content_is_refused(public, value):
    """A signature's file would end the command in a trace."""
    with pytest.raises(InvalidInput):
        public.open(json.dumps(value).encode())


def pem(kind: str, body: bytes) -> bytes:
    return f"-----BEGIN {kind}-----\n".encode() + base64.encodebytes(body) + f"-----END {kind}-----\n".encode()


KINDS = st.sampled_from([*ENCRYPTED_TYPES, "PRIVATE KEY", "ENCRYPTED PRIVATE KEY", "EC PRIVATE KEY", "PUBLIC KEY"])


@SHARED
@given(
    data=st.binary(max_size=80) | st.builds(pem, KINDS, st.binary(max_size=80)),
    password=st.none() | st.binary(max_size=4),
)
def test_a_key_of_any_bytes_is_refused_and_nothing_of_it_is_told(data, password):
    """The run would end in a trace that shows the key."""
    for read in (lambda: private_key(data, password, "k"), lambda: public_key(data, "k")):
        with pytest.raises(InvalidInput) as caught:
            read()
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


@SHARED
@given(data=st.data())
def test_a_key_of_cosign_with_any_value_changed_is_refused(parts, data):
    """A Secret that was edited would end in a trace, or take all memory."""
    whole = (parts.cosign / "cosign.key").read_bytes()
    document = json.loads(base64.b64decode(whole.split(b"-----")[2]))
    path = data.draw(st.sampled_from(places(document)))
    value = data.draw(VALUES)
    changed = pem(ENCRYPTED_TYPES[0], json.dumps(put(document, path, value)).encode())
    assert parts.password.decode() not in refusal(changed, parts.password)


def refusal(key: bytes, password: bytes) -> str:
    """What is said of a key; empty where it was taken: not every value is read."""
    try:
        private_key(key, password, "k")
    except InvalidInput as refused:
        return repr(refused) + repr(refused.__cause__)
    return ""


def test_a_file_without_an_end_is_no_key(tmp_path):
    """A device, or a file of a gigabyte, would be read until memory is gone."""
    large = tmp_path / "large"
    with large.open("wb") as made:
        made.truncate(1 << 30)
    for path in (large, Path("/dev/zero")):
        for read in (read_public_key, lambda path: read_signer(path, None)):
            with pytest.raises(InvalidInput, match="too large for a key"):
                read(path)
    assert KEY_LIMIT_BYTES < 1 << 20


def test_a_key_that_cannot_be_read_is_told(tmp_path):
    """A Secret with the wrong mode, or a folder named for a key, would end in a trace."""
    (tmp_path / "shut").touch(mode=0)
    unreadable = ["folder", "missing", *(() if os.geteuid() == 0 else ("shut",))]
    (tmp_path / "folder").mkdir()
    for name in unreadable:
        with pytest.raises(InvalidInput, match=f"{name} cannot be read"):
            read_public_key(tmp_path / name)
