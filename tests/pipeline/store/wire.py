"""A network that breaks: a TCP relay to a real server that cuts, refuses or answers by itself, as a test says."""

import contextlib
import socket
import threading
from collections.abc import Iterator, Sequence


class Wire:
    """Relays connections to `target` (host:port). Each connection takes the next of `faults`, if any are left.

    A fault is the number of bytes of the answer that pass before the connection breaks (0: the request arrives and
    the answer is lost), or bytes that are answered in place of the server.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.partition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.faults: list[int | bytes] = []
        self.always: int | bytes | None = None
        """The fault of every connection once `faults` are used up."""
        self.sent_bytes = 0
        """Passed on to the server."""
        self.heads: list[bytes] = []
        """First piece of each request's connection."""
        self.moved = threading.Condition()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more; connections end with their peers."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def wait_sent(self, size_bytes: int, seconds: float = 20) -> None:
        """Until that much has been passed on to the server."""
        with self.moved:
            assert self.moved.wait_for(lambda: self.sent_bytes >= size_bytes, seconds)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                fault = self.faults.pop(0) if self.faults else self.always
                threading.Thread(target=self._serve, args=(client, fault), daemon=True).start()

    def _serve(self, client: socket.socket, fault: int | bytes | None) -> None:
        with client, contextlib.suppress(OSError):
            if isinstance(fault, bytes):
                self._heard(client.recv(65536))
                client.sendall(fault)
                return
            with socket.create_connection(self._target) as server:
                threading.Thread(target=self._upstream, args=(client, server), daemon=True).start()
                _pass(server, client, fault)
                for end in (server, client):
                    end.shutdown(socket.SHUT_RDWR)

    def _upstream(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                server.sendall(data)
                self._heard(data)
            server.shutdown(socket.SHUT_WR)

    def _heard(self, data: bytes) -> None:
        with self.moved:
            if data[:4] in (b"GET ", b"PUT ", b"HEAD", b"POST", b"DELE"):
                self.heads.append(data[:2000])
            self.sent_bytes += len(data)
            self.moved.notify_all()


def _pass(server: socket.socket, client: socket.socket, limit: int | None) -> None:
    """Pass the answer on, up to `limit` bytes; with 0, wait until the server has answered and drop it."""
    passed = 0
    while data := server.recv(65536):
        piece = data if limit is None else data[: limit - passed]
        client.sendall(piece)
        passed += len(piece)
        if limit is not None and passed >= limit:
            return


def answer(status: str, code: str, headers: Sequence[str] = ()) -> bytes:
    """An S3 error as a server would send it."""
    body = f"<Error><Code>{code}</Code><Message>m</Message></Error>".encode()
    lines = (f"HTTP/1.1 {status}", "Content-Type: application/xml", f"Content-Length: {len(body)}", *headers,
             "Connection: close", "", "")  # fmt: skip
    return "\r\n".join(lines).encode() + body


@contextlib.contextmanager
def wire_to(target: str) -> Iterator[Wire]:
    wire = Wire(target)
    try:
        yield wire
    finally:
        wire.close()
