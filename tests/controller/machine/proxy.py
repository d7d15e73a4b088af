"""A proxy in front of the real API server that fails on request: the operator speaks to it, the test does not."""

import asyncio
import gc
import json
import threading
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import yaml
from aiohttp import web

from cluster.ports import FreePort

HOP = {"host", "content-length", "transfer-encoding", "connection", "content-encoding", "accept-encoding"}
SLOW_SECONDS = 0.4


class Fault(StrEnum):
    """What happens to one request, or to the watches."""

    KILL_BEFORE_WRITE = "the operator dies before its next write arrives"
    KILL_AFTER_WRITE = "the operator dies before it hears of its next write"
    CONFLICT = "the next write is refused with 409"
    THROTTLED = "the next request is refused with 429 and Retry-After"
    BROKEN = "the next write is refused with 500"
    ANSWER_LOST = "the next write is carried out and its answer is lost"
    SLOW = "the next request takes long"
    WATCHES_DROPPED = "all watches end"
    WATCH_GONE = "the next watch is told 410"
    DUPLICATED = "the next event comes twice"
    STALE = "the next event is followed by the one before it"
    LATE = "the next event comes late"
    LIST_GONE = "the next list is refused with 410"
    NOT_SERVED = "the next list is refused with 404: the API server does not serve the kind yet"
    WATCH_FAILED = "the next watch is told of an error"


ON_WRITES = (Fault.KILL_BEFORE_WRITE, Fault.KILL_AFTER_WRITE, Fault.CONFLICT, Fault.BROKEN, Fault.ANSWER_LOST)
REFUSALS = {
    Fault.CONFLICT: (409, "Conflict"),
    Fault.BROKEN: (500, "InternalError"),
    Fault.THROTTLED: (429, "TooManyRequests"),
    Fault.LIST_GONE: (410, "Expired"),
    Fault.NOT_SERVED: (404, "NotFound"),
}
ERRORS = {Fault.WATCH_GONE: (410, "Expired"), Fault.WATCH_FAILED: (500, "InternalError")}


@dataclass
class Seen:
    """One write of the operator's as it went through."""

    method: str
    path: str
    body: Any
    status: int


@dataclass
class Proxy:
    """Plain HTTP on the loopback in, the API server's TLS out; tokens pass through."""

    kubeconfig: Path
    """Of the operator's service account."""
    kill: Callable[[], None] = lambda: None
    """Ends the operator without a word."""
    writes: list[Seen] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    """Requests of all kinds but watches, by method and path."""
    busy_at: float = 0.0
    """When the last write went through, or is going."""

    def __post_init__(self) -> None:
        config = yaml.safe_load(self.kubeconfig.read_text())
        cluster = config["clusters"][0]["cluster"]
        self._server, self._authority = cluster["server"], cluster["certificate-authority"]
        self._port = FreePort()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._faults: deque[Fault] = deque()
        self._watches: set[asyncio.Task[Any]] = set()
        self._under_way = 0

    def kubeconfig_through(self, path: Path) -> Path:
        """A kubeconfig that leads here."""
        config = yaml.safe_load(self.kubeconfig.read_text())
        config["clusters"][0]["cluster"]["server"] = f"http://127.0.0.1:{self._port.number}"
        path.write_text(json.dumps(config))
        return path

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the proxy did not start")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._port.release()
        with warnings.catch_warnings():
            # Connections that were broken off on request are nobody's any more.
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def plan(self, fault: Fault) -> None:
        """Have it happen."""
        if fault is Fault.WATCHES_DROPPED:
            self._loop.call_soon_threadsafe(self._drop_watches)
        else:
            self._faults.append(fault)

    def heal(self) -> None:
        """Nothing more is to happen."""
        self._faults.clear()

    def healed(self) -> bool:
        """Whether all that was planned has happened."""
        return not self._faults

    def quiet(self, seconds: float) -> bool:
        """Whether nothing was written for so long, and nothing is under way."""
        return self._under_way == 0 and time.monotonic() - self.busy_at >= seconds

    def _take(self, *kinds: Fault) -> Fault | None:
        fault = next((f for f in self._faults if f in kinds), None)
        if fault is not None:
            self._faults.remove(fault)
        return fault

    def _drop_watches(self) -> None:
        for task in self._watches:
            task.cancel()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._start())
        self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(self._stop())
        self._loop.close()

    async def _start(self) -> None:
        import ssl

        tls = ssl.create_default_context(cafile=self._authority)
        # A limit would count the watches.
        connector = aiohttp.TCPConnector(ssl=tls, limit=0)
        self._session = aiohttp.ClientSession(connector=connector, auto_decompress=False)
        application = web.Application(client_max_size=8 << 20)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port.number).start()

    async def _stop(self) -> None:
        self._drop_watches()
        await self._runner.cleanup()
        await self._session.close()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        if request.query.get("watch") == "true":
            return await self._watch(request)
        self.asked[f"{request.method} {request.path}"] += 1
        lease = "/leases" in request.path
        writes = request.method != "GET" and not lease
        lists = (Fault.LIST_GONE, Fault.NOT_SERVED) if "limit" in request.query else ()
        fault = None if lease else self._take(Fault.THROTTLED, Fault.SLOW, *(ON_WRITES if writes else lists))
        if writes:
            self.busy_at = time.monotonic()
        self._under_way += writes
        try:
            return await self._answer(request, fault, writes)
        finally:
            self._under_way -= writes

    async def _answer(self, request: web.Request, fault: Fault | None, writes: bool) -> web.StreamResponse:
        body = await request.read()
        if fault is Fault.SLOW:
            await asyncio.sleep(SLOW_SECONDS)
        if fault is Fault.KILL_BEFORE_WRITE:
            self.kill()
            return _hang_up(request)
        if fault in REFUSALS:
            return _refusal(fault)
        async with self._session.request(
            request.method, self._server + request.path_qs, data=body or None, headers=_passed_on(request.headers)
        ) as answer:
            data = await answer.read()
        if writes:
            self.writes.append(Seen(request.method, request.path, json.loads(body or b"null"), answer.status))
            self.busy_at = time.monotonic()
        if fault is Fault.KILL_AFTER_WRITE:
            self.kill()
        if fault in (Fault.KILL_AFTER_WRITE, Fault.ANSWER_LOST):
            return _hang_up(request)
        return web.Response(status=answer.status, body=data, headers=_passed_on(answer.headers))

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        task = asyncio.current_task()
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if task is not None:
            self._watches.add(task)
        try:
            if (fault := self._take(*ERRORS)) is not None:
                await response.prepare(request)
                code, reason = ERRORS[fault]
                told = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
                await response.write(json.dumps({"type": "ERROR", "object": told}).encode() + b"\n")
                return response
            await self._stream(request, response)
        except (asyncio.CancelledError, ConnectionError, aiohttp.ClientError):
            if request.transport is not None:
                request.transport.close()
        finally:
            if task is not None:
                self._watches.discard(task)
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        before = b""
        timeout = aiohttp.ClientTimeout(total=None)
        url, headers = self._server + request.path_qs, _passed_on(request.headers)
        async with self._session.get(url, headers=headers, timeout=timeout, read_bufsize=1 << 22) as answer:
            response.set_status(answer.status)
            await response.prepare(request)
            async for line in answer.content:
                if self._take(Fault.LATE):
                    await asyncio.sleep(SLOW_SECONDS)
                await response.write(line)
                if self._take(Fault.DUPLICATED):
                    await response.write(line)
                if before and self._take(Fault.STALE):
                    await response.write(before)
                before = line


def _passed_on(headers: Any) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.lower() not in HOP}


def _hang_up(request: web.Request) -> web.StreamResponse:
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)


def _refusal(fault: Fault) -> web.Response:
    code, reason = REFUSALS[fault]
    document = {"kind": "Status", "apiVersion": "v1", "status": "Failure", "reason": reason, "code": code}
    headers = {"Retry-After": "1"} if code == 429 else {}
    return web.json_response(document | {"message": "planned"}, status=code, headers=headers)
