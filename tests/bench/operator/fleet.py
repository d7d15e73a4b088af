"""Many resources at once on a real API server: created, watched, played to their end, counted."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

OURS = "/apis/strop.dev/v1alpha1"
MERGE = {"Content-Type": "application/merge-patch+json"}
CONNECTIONS = 32
PAGE = 500
Node = dict[str, Any]


class Server:
    """The API server as the admin of a kubeconfig; the admin is beyond priority and fairness, the operator is not."""

    def __init__(self, kubeconfig: Path) -> None:
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        tls = ssl.create_default_context(cafile=cluster["certificate-authority"])
        tls.load_cert_chain(user["client-certificate"], user["client-key"])
        self._session = aiohttp.ClientSession(
            cluster["server"],
            connector=aiohttp.TCPConnector(ssl=tls, limit=CONNECTIONS + 8),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=10),
        )

    async def close(self) -> None:
        """Ends every connection."""
        await self._session.close()

    async def send(self, method: str, path: str, body: Node | None = None, **options: Any) -> Node:
        """One call; raises ClientResponseError for a refusal."""
        async with self._session.request(method, path, json=body, **options) as answer:
            if answer.status >= 400:
                raise RuntimeError(f"{method} {path}: HTTP {answer.status}: {(await answer.text())[:300]}")
            found: Node = await answer.json()
            return found

    async def text(self, path: str) -> str:
        """A page that is not JSON."""
        async with self._session.get(path) as answer:
            return await answer.text()

    async def pages(self, path: str) -> AsyncIterator[Node]:
        """Every object of a list."""
        token = ""
        while True:
            found = await self.send("GET", path, params={"limit": str(PAGE), "continue": token})
            for item in found["items"]:
                yield item
            if not (token := found["metadata"].get("continue", "")):
                return

    async def watch(self, path: str, seen: Callable[[Node], None]) -> None:
        """Tells of every event from now on, until it is cancelled."""
        version = (await self.send("GET", path, params={"limit": "1"}))["metadata"]["resourceVersion"]
        parameters = {"watch": "1", "resourceVersion": version}
        async with self._session.get(path, params=parameters, read_bufsize=1 << 22) as answer:
            async for line in answer.content:
                seen(json.loads(line))


async def in_parallel(calls: Iterable[Awaitable[object]]) -> None:
    """All of them, `CONNECTIONS` at a time; the first error ends it."""
    places = asyncio.Semaphore(CONNECTIONS)

    async def one(call: Awaitable[object]) -> None:
        async with places:
            await call

    await asyncio.gather(*(one(call) for call in calls))


@dataclass
class Writes:
    """Writes of the API server's clients, by what was written; read from its own metrics."""

    counts: dict[tuple[str, str, str], float] = field(default_factory=dict)

    @classmethod
    async def read(cls, server: Server) -> "Writes":
        """As they are now."""
        found: dict[tuple[str, str, str], float] = {}
        for labels, value in samples(await server.text("/metrics"), "apiserver_request_total"):
            if labels["verb"] in ("POST", "PUT", "PATCH", "DELETE") and labels["code"].startswith("2"):
                key = (labels["verb"], labels["resource"], labels["subresource"])
                found[key] = found.get(key, 0.0) + value
        return cls(found)

    def since(self, earlier: "Writes") -> dict[tuple[str, str, str], float]:
        """What was written in between."""
        changed = {key: value - earlier.counts.get(key, 0.0) for key, value in self.counts.items()}
        return {key: value for key, value in changed.items() if value}


def samples(page: str, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """Samples of one metric in Prometheus' text format."""
    for line in page.splitlines():
        if line.startswith(name + "{"):
            head, _, value = line.rpartition(" ")
            pairs = (pair.partition("=") for pair in head[len(name) + 1 : -1].split('",'))
            yield {key: text.strip('"') for key, _, text in pairs}, float(value)


class Jobs:
    """When each resource's Job was first seen, and the Job."""

    def __init__(self, server: Server, namespace: str) -> None:
        self.path = f"/apis/batch/v1/namespaces/{namespace}/jobs"
        self._server = server
        self.at: dict[str, float] = {}
        self.found: dict[str, Node] = {}
        self.second: list[str] = []
        """Resources for which another Job came."""
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> "Jobs":
        self._task = asyncio.create_task(self._server.watch(self.path, self._seen))
        await asyncio.sleep(0.3)
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _seen(self, event: Node) -> None:
        if event["type"] != "ADDED":
            return
        job = event["object"]
        owner = job["metadata"]["ownerReferences"][0]["name"]
        if owner in self.at:
            self.second.append(owner)
        self.at.setdefault(owner, time.monotonic())
        self.found[owner] = job
        self._changed.set()

    async def number(self, count: int, seconds: float) -> None:
        """Wait until there are so many."""
        async with asyncio.timeout(seconds):
            while len(self.at) < count:
                self._changed.clear()
                await self._changed.wait()


def pod_of(job: Node) -> Node:
    """The pod that the Job's controller would make."""
    meta, template = job["metadata"], job["spec"]["template"]
    labels = {**template["metadata"].get("labels", {}), "batch.kubernetes.io/job-name": meta["name"]}
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"], "controller": True}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": f"{meta['name'][:57]}-p",
            "labels": labels,
            "annotations": template["metadata"].get("annotations", {}),
            "ownerReferences": [owner],
        },
        "spec": {**template["spec"], "nodeName": "nowhere"},
    }


def container(state: Node) -> Node:
    """The worker's container in some state."""
    more = {"image": "i", "imageID": "", "ready": "running" in state, "restartCount": 0}
    return {"name": "worker", "state": state, **more}


def timestamp() -> str:
    """This moment, as Kubernetes writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def completed() -> Node:
    """The status of a Job that succeeded, as Kubernetes 1.35 lets one be written by hand."""
    now = timestamp()
    condition = {"status": "True", "lastProbeTime": now, "lastTransitionTime": now, "reason": "", "message": ""}
    return {
        "status": {
            "startTime": now,
            "completionTime": now,
            "succeeded": 1,
            "uncountedTerminatedPods": {},
            "conditions": [{"type": "SuccessCriteriaMet", **condition}, {"type": "Complete", **condition}],
        }
    }
