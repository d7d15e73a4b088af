"""Private and public keys: plain PEM, or encrypted as `cosign generate-key-pair` writes them. No key enters a message.

The format of cosign's file is that of go-securesystemslib's package `encrypted`: JSON in PEM, with a key derived by
scrypt and a NaCl secretbox around the PKCS #8 form of the private key.
"""

import base64
import hashlib
import json
from typing import Any

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    load_der_private_key,
    load_pem_private_key,
    load_pem_public_key,
)
from nacl.exceptions import CryptoError
from nacl.secret import SecretBox

from strop_job.errors import InvalidInput

PrivateKey = EllipticCurvePrivateKey | Ed25519PrivateKey
PublicKey = EllipticCurvePublicKey | Ed25519PublicKey

ENCRYPTED_TYPES = ("ENCRYPTED SIGSTORE PRIVATE KEY", "ENCRYPTED COSIGN PRIVATE KEY")
MOST_SCRYPT_N, MOST_SCRYPT_R, MOST_SCRYPT_P = 1 << 18, 8, 16
"""A file that asks for more would take all memory: cosign writes N = 2^16, r = 8, p = 1."""
KEY_LIMIT_BYTES = 64 << 10
KINDS = "ECDSA on P-256, or Ed25519"


def private_key(pem: bytes, password: bytes | None, where: str) -> PrivateKey:
    """The key in a file that is called `where` in messages. Raises InvalidInput when it is none or stays shut."""
    found: Any
    try:
        if any(f"-----BEGIN {kind}-----".encode() in pem for kind in ENCRYPTED_TYPES):
            found = load_der_private_key(_opened(_body(pem), password, where), None)
        else:
            found = _plain(pem, password or None, where)
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError, UnsupportedAlgorithm):
        message = f"{where} is no private key in PEM" + (", or the password is wrong" if password else "")
        raise InvalidInput(message, mend="make one with `cosign generate-key-pair`") from None
    if isinstance(found, Ed25519PrivateKey) or _on_p256(found):
        checked: PrivateKey = found
        return checked
    raise InvalidInput(f"{where} is of a kind that is not signed with here", mend=f"use {KINDS}")


def _plain(pem: bytes, password: bytes | None, where: str) -> Any:
    try:
        return load_pem_private_key(pem, password)
    except TypeError:  # one of the two is there without the other
        words = "is encrypted, and no password is given" if password is None else "is not encrypted"
        raise InvalidInput(f"{where} {words}", mend="give the key and the password that belong together") from None


def public_key(pem: bytes, where: str) -> PublicKey:
    """The key in a file that is called `where` in messages. Raises InvalidInput when it is none."""
    try:
        found: Any = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise InvalidInput(f"{where} is no public key in PEM", mend="give the cosign.pub beside the key") from None
    if isinstance(found, Ed25519PublicKey) or _on_p256(found):
        checked: PublicKey = found
        return checked
    raise InvalidInput(f"{where} is of a kind that is not signed with here", mend=f"use {KINDS}")


def _on_p256(key: Any) -> bool:
    return isinstance(key, EllipticCurvePrivateKey | EllipticCurvePublicKey) and isinstance(key.curve, SECP256R1)


def _body(pem: bytes) -> dict[str, Any]:
    inside = pem.split(b"-----")[2]
    found: dict[str, Any] = json.loads(base64.b64decode(inside))
    return found


def _opened(body: dict[str, Any], password: bytes | None, where: str) -> bytes:
    """The private key in PKCS #8. Raises ValueError and the like where the file is not as cosign writes it."""
    if password is None:
        raise InvalidInput(f"{where} is encrypted, and no password is given", mend="give cosign.password")
    kdf, cipher = body["kdf"], body["cipher"]
    if (kdf["name"], cipher["name"]) != ("scrypt", "nacl/secretbox"):
        raise ValueError("another form")
    n, r, p = (int(kdf["params"][name]) for name in ("N", "r", "p"))
    if not (2 <= n <= MOST_SCRYPT_N and 1 <= r <= MOST_SCRYPT_R and 1 <= p <= MOST_SCRYPT_P):
        raise ValueError("unreasonable cost")
    derived = hashlib.scrypt(
        password, salt=base64.b64decode(kdf["salt"]), n=n, r=r, p=p, maxmem=256 * n * r + (1 << 20), dklen=32
    )
    try:
        return SecretBox(derived).decrypt(base64.b64decode(body["ciphertext"]), base64.b64decode(cipher["nonce"]))
    except CryptoError:
        raise InvalidInput(f"the password does not open {where}", mend="correct cosign.password") from None
