"""Keys and envelopes: cosign's own files are read, everything else is refused in words, and no key is ever told."""

import base64
import json
import os

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from strop_job.errors import InvalidInput
from strop_job.trust.keys import private_key
from strop_job.trust.mounted import mounted_signer
from strop_job.trust.signing import NotVerified, command_line_signer, read_public_key, read_signer

STATEMENT = b'{"_type": "https://in-toto.io/Statement/v1"}'


def pem(key, password: bytes | None = None) -> bytes:
    shut = NoEncryption() if password is None else BestAvailableEncryption(password)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, shut)


def public_pem(key) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture
def plain(tmp_path):
    """A fresh key in a plain file."""
    path = tmp_path / "plain.key"
    path.write_bytes(pem(ec.generate_private_key(ec.SECP256R1())))
    return path


def test_what_the_real_cosign_signed_is_opened_with_its_key(parts, public):
    """The envelope's encoding would be our own, and nobody else's tools would read it."""
    payload = json.loads(public.open((parts.cosign / "blob.dsse.json").read_bytes()))
    assert payload["subject"][0]["name"] == "blob"


def test_a_key_of_the_real_cosign_signs_what_its_public_half_opens(signer, public):
    """Whoever keeps keys as cosign writes them could not sign."""
    assert public.open(signer.sign(STATEMENT)) == STATEMENT


@pytest.mark.parametrize("make", [lambda: ec.generate_private_key(ec.SECP256R1()), ed25519.Ed25519PrivateKey.generate])
@pytest.mark.parametrize("password", [None, b"secret"])
def test_plain_and_encrypted_pem_keys_sign(tmp_path, make, password):
    """An admin whose keys come from another tool could not sign."""
    key = make()
    (tmp_path / "k").write_bytes(pem(key, password))
    (tmp_path / "k.pub").write_bytes(public_pem(key))
    envelope = read_signer(tmp_path / "k", password).sign(STATEMENT)
    assert read_public_key(tmp_path / "k.pub").open(envelope) == STATEMENT


def test_another_key_opens_nothing(signer, plain):
    """Anybody's signature would do."""
    with pytest.raises(NotVerified, match="no signature was made with this key"):
        read_signer(plain, None).public.open(signer.sign(STATEMENT))


def _payload(envelope: dict) -> None:
    envelope["payload"] = base64.b64encode(STATEMENT + b" ").decode()


def _kind(envelope: dict) -> None:
    envelope["payloadType"] = "application/json"


def _no_signature(envelope: dict) -> None:
    envelope["signatures"] = []


def _bent(envelope: dict) -> None:
    raw = bytearray(base64.b64decode(envelope["signatures"][0]["sig"]))
    raw[-1] ^= 1
    envelope["signatures"][0]["sig"] = base64.b64encode(raw).decode()


@pytest.mark.parametrize("change", [_payload, _kind, _no_signature, _bent])
def test_an_envelope_that_was_changed_is_not_opened(signer, public, change):
    """A signature would vouch for what was never signed."""
    envelope = json.loads(signer.sign(STATEMENT))
    change(envelope)
    with pytest.raises(NotVerified):
        public.open(json.dumps(envelope).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'{"payload": 1}', b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_envelope_is_refused_in_words(public, data):
    """A damaged signature would end in a trace."""
    with pytest.raises(InvalidInput, match="not a DSSE envelope"):
        public.open(data)


def test_a_second_signature_does_not_hide_the_first(signer, public, plain):
    """An envelope that two parties signed would be opened by only one of them."""
    first, second = (json.loads(s.sign(STATEMENT)) for s in (read_signer(plain, None), signer))
    for one in (*first["signatures"], *second["signatures"]):
        one["keyid"] = ""
    both = {**first, "signatures": [*first["signatures"], *second["signatures"]]}
    assert public.open(json.dumps(both).encode()) == STATEMENT


def _without_line(data: bytes) -> bytes:
    lines = data.split(b"\n")
    return b"\n".join(lines[:3] + lines[4:])


def _costly(data: bytes) -> bytes:
    head, body, tail = (
        data.partition(b"-----\n")[0],
        data.split(b"-----")[2],
        b"-----END ENCRYPTED SIGSTORE PRIVATE KEY-----\n",
    )
    document = json.loads(base64.b64decode(body))
    document["kdf"]["params"]["N"] = 1 << 30
    return head + b"-----\n" + base64.encodebytes(json.dumps(document).encode()) + tail


BROKEN = {
    "cut": lambda data: data[: len(data) // 2],
    "a line is missing": _without_line,
    "asks for a terabyte": _costly,
    "something else": lambda _: b"hello",
    "empty": lambda _: b"",
    "no base64": lambda data: data.replace(b"eyJ", b"!!!"),
    "not an object": lambda _: (
        b"-----BEGIN ENCRYPTED COSIGN PRIVATE KEY-----\nMQ==\n-----END ENCRYPTED COSIGN PRIVATE KEY-----\n"
    ),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_a_malformed_key_is_refused_and_nothing_of_it_is_told(parts, change):
    """The run would end in a trace, or its log would hold the key."""
    data = change((parts.cosign / "cosign.key").read_bytes())
    with pytest.raises(InvalidInput, match=r"cosign\.key is no private key") as caught:
        private_key(data, parts.password, "cosign.key")
    assert caught.value.__cause__ is None
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize("password", [b"wrong", b"", None])
def test_a_wrong_password_is_told_as_that(parts, password):
    """The key would be searched for a fault that it has not."""
    with pytest.raises(InvalidInput, match="password"):
        read_signer(parts.cosign / "cosign.key", password)


@pytest.mark.parametrize(
    "key", [rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP384R1())], ids=["rsa", "p384"]
)
def test_a_key_of_another_kind_is_refused_by_name(tmp_path, key):
    """cosign would be given signatures that it was never tried on."""
    (tmp_path / "k").write_bytes(pem(key))
    (tmp_path / "k.pub").write_bytes(public_pem(key))
    for read in (lambda: read_signer(tmp_path / "k", None), lambda: read_public_key(tmp_path / "k.pub")):
        with pytest.raises(InvalidInput, match="not signed with here"):
            read()


def test_nothing_secret_is_in_a_signers_text(signer):
    """A log of the run's values would hold the key."""
    assert repr(signer) == "Signer()"


def test_without_a_mounted_secret_nothing_is_signed(tmp_path):
    """Where no admin asks for signatures, runs publish as before."""
    assert mounted_signer(tmp_path / "absent") == (None, ())


def test_a_mounted_secret_signs_and_its_password_is_kept_out_of_messages(parts, tmp_path, public):
    """A newline at a file's end, as editors leave one, would make the password wrong."""
    (tmp_path / "cosign.key").write_bytes((parts.cosign / "cosign.key").read_bytes())
    (tmp_path / "cosign.password").write_bytes(parts.password + b"\n")
    signer, hidden = mounted_signer(tmp_path)
    assert signer is not None
    assert public.open(signer.sign(STATEMENT)) == STATEMENT
    assert hidden == ("hunter2",)


def test_a_mounted_secret_without_a_key_is_an_error(tmp_path):
    """What an admin wants signed would be published unsigned, in silence."""
    with pytest.raises(InvalidInput, match=r"has no cosign\.key"):
        mounted_signer(tmp_path)


def test_the_command_line_forgets_the_password(parts, monkeypatch):
    """Every process that a run starts would inherit it."""
    monkeypatch.setenv("COSIGN_PASSWORD", "hunter2")
    _, hidden = command_line_signer(parts.cosign / "cosign.key")
    assert hidden == ("hunter2",)
    assert "COSIGN_PASSWORD" not in os.environ
