"""Progress, health and figures over HTTP: GET only, bounded in size, time and threads. Knows nothing of what runs."""

import socket
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer
from socketserver import ThreadingMixIn
from types import TracebackType
from typing import Any, Self

from strop_api.result import HEALTH_PATH, METRICS_PATH, PROGRESS_LIMIT_BYTES, PROGRESS_PATH, ProgressReport
from strop_api.status import Progress
from strop_job.exposition import CONTENT_TYPE, exposition

CONNECTIONS = 8
"""At once; more are closed unanswered."""
CONNECTION_SECONDS = 2.0
"""A client that is slower is dropped."""
NEVER_SECONDS = 1e6
"""The server's own housekeeping interval: there is none, so that nothing wakes up while latency is measured."""


class Board:
    """What is known about the child right now; written by the supervisor, read by the server's threads."""

    def __init__(self, first: ProgressReport, silence_seconds: float) -> None:
        self._lock = threading.Lock()
        self._report = first
        self._heard = (time.monotonic(), silence_seconds)

    def heard(self, silence_seconds: float | None = None) -> None:
        """The child got on. It may now be silent for so long; without a figure, for as long as before."""
        self._heard = (time.monotonic(), silence_seconds or self._heard[1])

    def show(self, progress: Progress, *, measuring: bool) -> None:
        """Publishes a newer report; the sequence grows only when something changed."""
        with self._lock:
            old = self._report
            if (old.progress, old.measuring) != (progress, measuring):
                self._report = ProgressReport(
                    run_id=old.run_id, sequence=old.sequence + 1, measuring=measuring, progress=progress
                )

    def hang(self) -> str | None:
        """In words, that the child has been silent for longer than it may; None while all is well."""
        at, bound = self._heard
        silent = time.monotonic() - at
        if silent < bound:
            return None
        with self._lock:
            stage = self._report.progress.stage
        return f"no progress in stage {stage} for {silent:.0f} s, at most {bound:.0f} s were expected"

    def document(self) -> bytes:
        """The report as JSON, at most 8 KiB."""
        return self.report().model_dump_json(by_alias=True).encode()[:PROGRESS_LIMIT_BYTES]

    def report(self) -> ProgressReport:
        """What was last published."""
        with self._lock:
            return self._report


class ProgressServer(ThreadingMixIn, HTTPServer):
    """Serves the board from threads of its own until closed; IPv4 and IPv6."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, port: int, board: Board) -> None:
        dual = socket.has_dualstack_ipv6()
        self.address_family = socket.AF_INET6 if dual else socket.AF_INET
        self.board = board
        self._places = threading.BoundedSemaphore(CONNECTIONS)
        super().__init__(("::" if dual else "", port), Handler)

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(NEVER_SECONDS,), daemon=True, name="progress").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.server_close()

    @property
    def port(self) -> int:
        """The port that is listened on."""
        return int(self.server_address[1])

    def server_bind(self) -> None:
        """Binds to both families where the kernel offers it."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = "strop", self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        """A thread per connection while places are free."""
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Frees the place again."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that broke off is no event."""


class Handler(BaseHTTPRequestHandler):
    """GET /progress, /healthz and /metrics; everything else is 404 or 501."""

    server: ProgressServer
    timeout = CONNECTION_SECONDS
    server_version, sys_version = "strop", ""

    def do_GET(self) -> None:
        """Answers from the board, and for the figures from the kernel's counters."""
        if self.path == PROGRESS_PATH:
            self._answer(HTTPStatus.OK, self.server.board.document(), "application/json")
        elif self.path == METRICS_PATH:
            self._answer(HTTPStatus.OK, exposition(self.server.board.report()), CONTENT_TYPE)
        elif self.path == HEALTH_PATH:
            hang = self.server.board.hang()
            status = HTTPStatus.SERVICE_UNAVAILABLE if hang else HTTPStatus.OK
            self._answer(status, f"{hang or 'ok'}\n".encode(), "text/plain")
        else:
            self._answer(HTTPStatus.NOT_FOUND, b"not found\n", "text/plain")

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """The pod's log is for the run."""
