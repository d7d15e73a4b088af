"""A small Kubernetes client on aiohttp: bounded connections, a token that is read again, errors with a status."""

import base64
import os
import ssl
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from pydantic_core import from_json, to_json

from strop_operator.settings import SERVICE_ACCOUNT

Json = dict[str, Any]
TOKEN_SECONDS = 60.0
REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, sock_connect=10)


class ApiError(Exception):
    """The API server's refusal."""

    def __init__(self, status: int, reason: str, message: str, causes: tuple[str, ...] = (), about: str = "") -> None:
        super().__init__(f"HTTP {status} {reason}: {message}")
        self.status, self.reason, self.message, self.causes = status, reason, message, causes
        self.about = about
        """Name of the object that is spoken of."""

    @property
    def missing(self) -> bool:
        """Whether there is no such object. An API server that has just started does not serve our kinds for a moment:
        its 404 then names no object, and says nothing of any."""
        return self.status == 404 and bool(self.about)

    @property
    def in_ending_namespace(self) -> bool:
        """Whether nothing can be created because the namespace is being deleted."""
        return "NamespaceTerminating" in self.causes


class Token:
    """A bearer token; one in a file is read again every minute, for the kubelet rotates it."""

    def __init__(self, text: str = "", path: Path | None = None) -> None:
        self._text, self._path, self._read_at = text, path, float("-inf")

    def __call__(self) -> str:
        """The token as it is now; empty when there is none."""
        if self._path is not None and time.monotonic() - self._read_at > TOKEN_SECONDS:
            self._text, self._read_at = self._path.read_text().strip(), time.monotonic()
        return self._text


@dataclass(frozen=True)
class Access:
    """How to reach an API server."""

    server: str
    tls: ssl.SSLContext
    token: Token


def in_cluster() -> Access:
    """Access by the pod's service account."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    tls = ssl.create_default_context(cafile=str(SERVICE_ACCOUNT / "ca.crt"))
    return Access(f"https://{host}:{port}", tls, Token(path=SERVICE_ACCOUNT / "token"))


def from_kubeconfig(path: Path) -> Access:
    """Access by the current context of a kubeconfig: tokens and client certificates; no exec plugins."""
    config = yaml.safe_load(path.read_text())
    context = _named(config["contexts"], config["current-context"])["context"]
    cluster = _named(config["clusters"], context["cluster"])["cluster"]
    user = _named(config["users"], context["user"])["user"]
    authority = cluster.get("certificate-authority-data")
    tls = ssl.create_default_context(
        cafile=cluster.get("certificate-authority"),
        cadata=base64.b64decode(authority).decode() if authority else None,
    )
    _load_certificate(tls, user)
    token_file = user.get("tokenFile")
    return Access(
        cluster["server"].rstrip("/"), tls, Token(user.get("token", ""), Path(token_file) if token_file else None)
    )


def _named(entries: Sequence[Json], name: str) -> Json:
    return next(entry for entry in entries if entry["name"] == name)


def _load_certificate(tls: ssl.SSLContext, user: Mapping[str, str]) -> None:
    if "client-certificate" in user:
        tls.load_cert_chain(user["client-certificate"], user["client-key"])
    elif "client-certificate-data" in user:
        with tempfile.TemporaryDirectory() as folder:
            certificate, key = (Path(folder, name) for name in ("client-certificate-data", "client-key-data"))
            for path in (certificate, key):
                path.write_bytes(base64.b64decode(user[path.name]))
            tls.load_cert_chain(certificate, key)


def open_session(
    access: Access,
    limit: int,
    traces: list[aiohttp.TraceConfig] | None = None,
    *middlewares: aiohttp.ClientMiddlewareType,
) -> aiohttp.ClientSession:
    """A session with at most `limit` connections that signs each request with the token of the moment."""

    async def sign(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        if token := access.token():
            request.headers["Authorization"] = f"Bearer {token}"
        return await handler(request)

    connector, chain = aiohttp.TCPConnector(limit=limit, ssl=access.tls), (*middlewares, sign)
    agent = {"User-Agent": "strop-operator"}
    return aiohttp.ClientSession(connector=connector, headers=agent, middlewares=chain, trace_configs=traces)


class Client:
    """Reads and writes objects by their path. Every call raises ApiError, ConnectionError or TimeoutError."""

    def __init__(self, access: Access, limit: int) -> None:
        self._server = access.server
        self._session = open_session(access, limit)

    async def get(self, path: str, **params: str) -> Json:
        """The object or list at a path."""
        return await self._send("GET", path, params=params)

    async def list(self, path: str, **params: str) -> list[Json]:
        """All items of a list, however long, in pages."""
        page = await self.get(path, limit="500", **params)
        items: list[Json] = page["items"]
        while token := page.get("metadata", {}).get("continue"):
            page = await self.get(path, limit="500", **{**params, "continue": token})
            items += page["items"]
        return items

    async def post(self, path: str, body: Json) -> Json:
        """Create an object."""
        return await self._send("POST", path, body)

    async def put(self, path: str, body: Json) -> Json:
        """Replace an object."""
        return await self._send("PUT", path, body)

    async def merge(self, path: str, body: Json) -> Json:
        """Apply a merge patch."""
        return await self._send("PATCH", path, body, "application/merge-patch+json")

    async def delete(self, path: str, options: Json) -> Json:
        """Delete an object."""
        return await self._send("DELETE", path, options)

    async def close(self) -> None:
        """End all connections."""
        await self._session.close()

    async def _send(
        self,
        method: str,
        path: str,
        body: Json | None = None,
        kind: str = "application/json",
        params: Mapping[str, str] | None = None,
    ) -> Json:
        data = None if body is None else to_json(body)
        headers = {} if data is None else {"Content-Type": kind}
        try:
            async with self._session.request(
                method, self._server + path, data=data, headers=headers, params=params, timeout=REQUEST_TIMEOUT
            ) as answer:
                text = await answer.read()
        except aiohttp.ClientError as error:
            raise ConnectionError(f"{type(error).__name__}: {error}") from error
        if answer.status >= 400:
            raise _refusal(answer.status, text)
        result: Json = from_json(text, cache_strings="keys")
        return result


def _refusal(status: int, text: bytes) -> ApiError:
    try:
        said = from_json(text, cache_strings="keys")
        details = said.get("details") or {}
        reasons = tuple(str(cause.get("reason", "")) for cause in details.get("causes") or [])
        message, about = str(said.get("message", ""))[:2000], str(details.get("name", ""))
        return ApiError(status, str(said.get("reason", "")), message, reasons, about)
    except (ValueError, AttributeError, TypeError):
        return ApiError(status, "", text[:500].decode(errors="replace"))
