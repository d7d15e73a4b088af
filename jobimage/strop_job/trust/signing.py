"""Signing and opening statements: DSSE envelopes as cosign and in-toto read them.

Source: https://github.com/secure-systems-lab/dsse. The key identifier is a hint that nobody may rely on: whatever an
envelope says, a signature counts when the given key verifies it.
"""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import CryptoSigner, Signature, SSlibKey  # type: ignore[attr-defined]  # no __all__

from strop_job.errors import InvalidInput
from strop_job.trust.keys import KEY_LIMIT_BYTES, private_key, public_key
from strop_job.trust.statement import PAYLOAD_TYPE

PASSWORD_VARIABLE = "COSIGN_PASSWORD"  # noqa: S105 - the variable's name, as cosign calls it


class NotVerified(InvalidInput):
    """The signature is not one of the given key over the given content."""


@dataclass(frozen=True)
class PublicKey:
    """Opens envelopes."""

    key: SSlibKey

    def open(self, envelope: bytes) -> bytes:
        """The payload that was signed. Raises NotVerified, and InvalidInput when it is no envelope."""
        found = _envelope(envelope)
        if found.payload_type != PAYLOAD_TYPE:
            raise NotVerified(f"the signature is over {found.payload_type!r}, and not over an in-toto statement")
        for signature in found.signatures.values():
            try:
                self.key.verify_signature(Signature(self.key.keyid, signature.signature), found.pae())
            except UnverifiedSignatureError:
                continue
            return found.payload
        raise NotVerified("no signature was made with this key", mend="give the public key of the one that signed")


@dataclass(frozen=True)
class Signer:
    """Signs with one private key, which appears in no repr."""

    _signer: CryptoSigner = field(repr=False)

    @property
    def public(self) -> PublicKey:
        """The key that opens what this one signs."""
        return PublicKey(self._signer.public_key)

    def sign(self, payload: bytes) -> bytes:
        """A DSSE envelope around a statement, as JSON."""
        envelope = Envelope(payload, PAYLOAD_TYPE, {})
        envelope.sign(self._signer)
        return json.dumps(envelope.to_dict()).encode()


def read_signer(path: Path, password: bytes | None) -> Signer:
    """The key in a file. Raises InvalidInput when it cannot be used."""
    return Signer(CryptoSigner(private_key(read_bytes(path), password, path.name)))


def command_line_signer(path: Path) -> tuple[Signer, tuple[str, ...]]:
    """The key that `--signing-key` names, opened with the variable COSIGN_PASSWORD, which is then forgotten."""
    said = os.environ.pop(PASSWORD_VARIABLE, None)
    signer = read_signer(path, said.encode() if said is not None else None)
    return signer, (said,) if said else ()


def read_public_key(path: Path) -> PublicKey:
    """The key in a file. Raises InvalidInput when it is none."""
    return PublicKey(SSlibKey.from_crypto(public_key(read_bytes(path), path.name)))


def read_bytes(path: Path) -> bytes:
    """A small file whole. Raises InvalidInput when it cannot be read or is none: a device has no size and no end."""
    try:
        with path.open("rb") as source:
            found = source.read(KEY_LIMIT_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{path.name} cannot be read: {error.strerror}", mend="give the path of a key") from None
    if len(found) > KEY_LIMIT_BYTES:
        raise InvalidInput(f"{path.name} is too large for a key", mend="give a key in PEM")
    return found


def _envelope(data: bytes) -> Envelope:
    """Signatures with no identifier, as cosign writes them, are told apart by their place."""
    try:
        found = json.loads(data)
        listed = [{**one, "keyid": str(place)} for place, one in enumerate(found["signatures"])]
        return Envelope.from_dict({**found, "signatures": listed})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidInput("the signature's file is not a DSSE envelope") from None
