"""The API server as its user reaches it, through the official client: kubeconfig, plugins for logging in, TLS, proxies.

Objects are plain documents. Every refusal is a CliError that says what to do.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
from kubernetes import client, config

from strop_cli.errors import CliError, Unreachable
from strop_cli.kinds import Ask, Kind
from strop_cli.refusals import refused
from strop_cli.words import hidden

Object = dict[str, Any]
Timeout = tuple[float, float]
CONNECT_SECONDS, READ_SECONDS = 10.0, 30.0
PAGE = 500
MERGE = "application/merge-patch+json"
APPLY = "application/apply-patch+yaml"
MANAGER = "kubectl-strop"
SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
FOREIGN = "the kubeconfig's certificate-authority is not the one that signed this server's certificate"


@dataclass(frozen=True)
class Where:
    """Which cluster, and which namespace of it; None is what kubectl would take."""

    kubeconfig: Path | None = None
    context: str | None = None
    namespace: str | None = None


class Cluster:
    """An API server and the namespace that is meant where none is named."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._api, self.namespace = api, namespace

    @property
    def server(self) -> str:
        """Its address, without user or password."""
        return hidden(str(self._api.configuration.host))

    def get(self, kind: Kind, name: str, namespace: str | None = None) -> Object:
        """One object. Raises Missing."""
        return self._json(Ask("get", kind, namespace or self.namespace, name))

    def list(self, kind: Kind, namespace: str | None, selector: str = "") -> list[Object]:
        """All objects of a namespace, or, with None, of the cluster; in pages."""
        found: list[Object] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": selector} if selector else {})
        while True:
            page = self._json(Ask("list", kind, namespace), query)
            found += page["items"]
            if not (token := page["metadata"].get("continue")):
                return found
            query |= {"continue": token}

    def inside(self, namespace: str) -> "Cluster":
        """The same API server, and another namespace where none is named."""
        return Cluster(self._api, namespace)

    def apply_dry(self, kind: Kind, name: str, manifest: str) -> Object:
        """What a server-side apply would yield; nothing is stored. Raises CliError with what admission says."""
        ask = Ask("patch", kind, self.namespace, name)
        query = {"dryRun": "All", "fieldManager": MANAGER, "force": "true", "fieldValidation": "Strict"}
        return self._json(ask, query, method="PATCH", body=manifest, content=APPLY)

    def merge(self, kind: Kind, name: str, patch: Object) -> Object:
        """Apply a merge patch as this program. Raises Conflict when the patch holds an old resourceVersion."""
        ask = Ask("patch", kind, self.namespace, name)
        return self._json(ask, {"fieldManager": MANAGER}, method="PATCH", body=patch, content=MERGE)

    def watch(self, kind: Kind, name: str, version: str, deadline: float | None) -> Iterator[tuple[str, Object]]:
        """Changes of one object after a version, as (type, object), until the server ends it or the deadline
        (`time.monotonic`) has come. What broke is asked again by whoever watches, from a fresh object."""
        left = 240.0 if deadline is None else min(240.0, max(deadline - time.monotonic(), 1.0))
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": str(round(left + 0.5)),
        }
        # The server ends the watch; a little later it is taken to be lost.
        for line in self.lines(Ask("watch", kind, self.namespace), query, (CONNECT_SECONDS, left + 5)):
            event = json.loads(line)
            if event["type"] == "ERROR":
                return
            yield event["type"], event["object"]

    def lines(self, ask: Ask, query: Mapping[str, str], timeout: Timeout) -> Iterator[bytes]:
        """An answer line by line as it comes. It ends where the connection does."""
        answer = self._send(ask, query, timeout=timeout)
        rest = b""
        try:
            for chunk in answer.response.stream(None, decode_content=True):
                *whole, rest = (rest + chunk).split(b"\n")
                yield from whole
        except (urllib3.exceptions.ProtocolError, urllib3.exceptions.ReadTimeoutError):
            pass
        finally:
            answer.response.close()
        if rest:
            yield rest

    def _json(
        self,
        ask: Ask,
        query: Mapping[str, str] | None = None,
        *,
        method: str = "GET",
        body: Object | str | None = None,
        content: str = "",
    ) -> Object:
        answer = self._send(ask, query or {}, method=method, body=body, content=content)
        found: Object = json.loads(answer.read())
        return found

    def _send(
        self,
        ask: Ask,
        query: Mapping[str, str],
        *,
        method: str = "GET",
        body: Object | str | None = None,
        content: str = "",
        timeout: Timeout = (CONNECT_SECONDS, READ_SECONDS),
    ) -> Any:
        headers = {"Accept": "application/json", "User-Agent": MANAGER} | ({"Content-Type": content} if content else {})
        call = self._api.param_serialize(
            method,
            ask.path,
            query_params=list(query.items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        answer = self._reach(lambda: self._api.call_api(*call, _request_timeout=timeout))
        if answer.status >= 400:
            raise refused(ask, answer.status, answer.read() or b"")
        return answer

    def _reach(self, call: Callable[[], Any]) -> Any:
        try:
            return call()
        except (urllib3.exceptions.HTTPError, client.ApiException, OSError) as error:
            why = _why(error)
            mend = FOREIGN if "CERTIFICATE_VERIFY_FAILED" in str(error) else "check --context, and your network or VPN"
            raise Unreachable(f"cannot reach the API server {self.server}: {why}", mend=mend) from None


def _why(error: BaseException) -> str:
    """The innermost cause in short words; the library's own name the object in memory."""
    seen: BaseException = error
    while (inner := getattr(seen, "reason", None) or seen.__cause__ or seen.__context__) and isinstance(
        inner, BaseException
    ):
        seen = inner
    said = seen.reason if isinstance(seen, client.ApiException) else str(seen)
    words = hidden(str(said)).strip().rpartition("\n")[2]
    return (words.rpartition(": ")[2] if "object at 0x" in words else words) or type(seen).__name__


def connect(where: Where) -> Cluster:
    """The cluster that a kubeconfig means, or, in a pod without one, that which it runs in. Raises CliError."""
    settings = client.Configuration()
    try:
        namespace = _configured(settings, where)
    except (config.ConfigException, OSError, ValueError, KeyError, TypeError) as error:
        raise _unusable(where, error) from None
    settings.retries = False
    return Cluster(client.ApiClient(settings), where.namespace or namespace or "default")


def _configured(settings: client.Configuration, where: Where) -> str | None:
    """Fills the settings; the namespace that is meant."""
    file = str(where.kubeconfig) if where.kubeconfig is not None else None
    if file is None and where.context is None and not _has_kubeconfig() and SERVICE_ACCOUNT.is_file():
        config.load_incluster_config(settings)  # type: ignore[no-untyped-call]
        return SERVICE_ACCOUNT.read_text().strip()
    config.load_kube_config(file, where.context, client_configuration=settings, persist_config=False)  # type: ignore[no-untyped-call]
    contexts, active = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    chosen = next((c for c in contexts if c["name"] == where.context), active)
    found: str | None = chosen["context"].get("namespace")
    return found


def _has_kubeconfig() -> bool:
    return any(Path(p).expanduser().is_file() for p in config.KUBE_CONFIG_DEFAULT_LOCATION.split(":") if p)


def _unusable(where: Where, error: Exception) -> CliError:
    file = where.kubeconfig or config.KUBE_CONFIG_DEFAULT_LOCATION
    names = context_names(where)
    if where.context is not None and names and where.context not in names:
        return CliError(f"there is no context {where.context} in {file}", mend=f"it has {', '.join(names)}")
    return CliError(f"no cluster: {hidden(str(error)).strip()} ({file})", mend="give --kubeconfig, or set KUBECONFIG")


def context_names(where: Where) -> list[str]:
    """The kubeconfig's contexts; none where there is no kubeconfig."""
    try:
        file = str(where.kubeconfig) if where.kubeconfig else None
        contexts, _ = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError):
        return []
    return sorted(c["name"] for c in contexts)
