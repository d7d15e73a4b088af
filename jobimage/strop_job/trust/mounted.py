"""The key that an admin has mounted into the worker. The libraries that sign are imported only where there is one."""

from pathlib import Path
from typing import TYPE_CHECKING

from strop_job.errors import InvalidInput

if TYPE_CHECKING:
    from strop_job.trust.signing import Signer

KEY_FILE, PASSWORD_FILE = "cosign.key", "cosign.password"


def mounted_signer(folder: Path) -> tuple["Signer | None", tuple[str, ...]]:
    """The key of the policy's Secret, and the texts that must appear in no message. None where none is mounted.

    A Secret without a usable key is InvalidInput: what an admin wants signed is not published unsigned.
    """
    if not folder.exists():
        return None, ()
    from strop_job.trust.signing import read_bytes, read_signer

    if not (folder / KEY_FILE).exists():
        message = f"the Secret of the policy's `signing` has no {KEY_FILE}"
        raise InvalidInput(message, mend="make it with `cosign generate-key-pair k8s://namespace/name`")
    secret = folder / PASSWORD_FILE
    password = read_bytes(secret).rstrip(b"\r\n") if secret.exists() else None
    signer = read_signer(folder / KEY_FILE, password)
    return signer, (password.decode(errors="replace"),) if password else ()
