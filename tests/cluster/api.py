"""A Kubernetes client of a few lines, for what must run before any package is installed."""

import json
import ssl
import urllib.error
import urllib.request
from http.client import HTTPResponse
from pathlib import Path
from typing import Any

from .shell import ClusterError


class ApiError(ClusterError):
    """The API server's refusal."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"HTTP {status}: {message}")
        self.status = status


class Api:
    """An API server, as one of this package's own kubeconfigs reaches it.

    An unreachable server is an OSError, a refusal an ApiError.
    """

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = cluster["server"]
        self._tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        self._headers = {"Content-Type": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        else:
            self._tls.load_cert_chain(user["client-certificate"], user["client-key"])

    def open(
        self, path: str, method: str = "GET", body: object = None, kind: str = "", timeout: float = 10
    ) -> HTTPResponse:
        """The open answer, to be read line by line and closed; `kind` is the body's content type if not JSON."""
        headers = {**self._headers, "Content-Type": kind} if kind else self._headers
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._server + path, data, headers, method=method)
        try:
            answer: HTTPResponse = urllib.request.urlopen(request, timeout=timeout, context=self._tls)
        except urllib.error.HTTPError as refused:
            with refused:
                raise ApiError(refused.code, refused.read().decode(errors="replace")) from None
        except urllib.error.URLError as failed:
            if isinstance(failed.reason, ssl.SSLCertVerificationError):
                raise ClusterError(f"{self._server}: {failed.reason}") from None  # waiting would not mend it
            raise
        return answer

    def text(self, path: str) -> str:
        """The answer to a GET as text."""
        with self.open(path) as answer:
            return answer.read().decode()

    def get(self, path: str) -> dict[str, Any]:
        """The object or list at a path."""
        return self._send("GET", path, None)

    def post(self, path: str, body: object) -> dict[str, Any]:
        """Create an object, or a subresource such as a token or an eviction."""
        return self._send("POST", path, body)

    def merge(self, path: str, body: object) -> dict[str, Any]:
        """Apply a merge patch."""
        return self._send("PATCH", path, body, "application/merge-patch+json")

    def exists(self, path: str) -> bool:
        """Whether there is an object at a path; no, too, while no server answers."""
        try:
            self.get(path)
        except (OSError, ApiError):
            return False
        return True

    def ready(self) -> bool:
        """Whether the API server says that it is ready."""
        try:
            return self.text("/readyz") == "ok"
        except (OSError, ApiError):
            return False

    def _send(self, method: str, path: str, body: object, kind: str = "") -> dict[str, Any]:
        with self.open(path, method, body, kind) as answer:
            result: dict[str, Any] = json.load(answer)
        return result
