"""Where the store's credentials come from. Their values appear in no message, no repr and no log."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from strop_job.errors import InvalidInput


@dataclass(frozen=True)
class Credentials:
    """One set of keys."""

    access_key: str = field(repr=False)
    secret_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


class CredentialSource(Protocol):
    """Gives the keys that are valid now; asked before every request, so that rotated keys are taken up."""

    def current(self) -> Credentials:
        """The keys to sign with. Raises InvalidInput when there are none."""


@dataclass(frozen=True)
class FolderCredentials:
    """Files `accessKey`, `secretKey` and perhaps `sessionToken`, as the kubelet mounts a Secret."""

    folder: Path

    def current(self) -> Credentials:
        """The files' content, without surrounding white space."""
        access_key, secret_key = self._read("accessKey"), self._read("secretKey")
        if not access_key or not secret_key:
            missing = "accessKey" if not access_key else "secretKey"
            raise InvalidInput(f"the store's Secret has no {missing}", mend="put accessKey and secretKey into it")
        return Credentials(access_key, secret_key, self._read("sessionToken") or None)

    def _read(self, name: str) -> str:
        try:
            return (self.folder / name).read_text().strip()
        except FileNotFoundError:
            return ""


@dataclass(frozen=True)
class EnvironmentCredentials:
    """`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and perhaps `AWS_SESSION_TOKEN`: for the command line."""

    environment: Mapping[str, str] = field(default_factory=lambda: os.environ, repr=False)

    def current(self) -> Credentials:
        """The variables' values."""
        access_key = self.environment.get("AWS_ACCESS_KEY_ID", "")
        secret_key = self.environment.get("AWS_SECRET_ACCESS_KEY", "")
        if not access_key or not secret_key:
            raise InvalidInput("no credentials for the store", mend="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
        return Credentials(access_key, secret_key, self.environment.get("AWS_SESSION_TOKEN") or None)
