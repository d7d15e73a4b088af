"""The one thing of a node that `strop logs` needs: a server that the API server asks for a container's log."""

import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from cluster import ControlPlane


class LogNode:
    """A Node whose kubelet serves logs: `say` adds lines to a pod's, `hang_up` ends those that follow."""

    def __init__(self, plane: ControlPlane, name: str = "logs") -> None:
        self.name, self.asked = name, []
        self._lines: dict[str, list[str]] = {}
        self._over: set[str] = set()
        self._changed = threading.Condition()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        crt, key = plane.authority.issue("kubelet-logs", "system:node:logs", addresses=["IP:127.0.0.1"])
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(crt, key)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        plane.api.post("/api/v1/nodes", {"metadata": {"name": name}})
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": self._server.server_address[1]}},
        }
        plane.api.merge(f"/api/v1/nodes/{name}/status", {"status": status})
        self._plane = plane

    def say(self, pod: str, *lines: str) -> None:
        with self._changed:
            self._lines.setdefault(pod, []).extend(lines)
            self._changed.notify_all()

    def hang_up(self, pod: str) -> None:
        with self._changed:
            self._over.add(pod)
            self._changed.notify_all()

    def news(self, pod: str, sent: int) -> tuple[list[str], bool]:
        """Lines that were not sent yet, and whether there will be no more; waits a moment for one of them."""
        with self._changed:
            self._changed.wait_for(lambda: self._lines.get(pod, [])[sent:] or pod in self._over, 0.5)
            return self._lines.get(pod, [])[sent:], pod in self._over

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        with self._plane.api.open(f"/api/v1/nodes/{self.name}", "DELETE"):
            pass

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        node = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                url = urlsplit(self.path)
                query = parse_qs(url.query)
                pod = url.path.split("/")[3]
                node.asked.append(query)
                self.send_response(200)
                self.end_headers()
                sent, deadline = 0, time.monotonic() + 30
                while True:
                    fresh, over = node.news(pod, sent)
                    sent += len(fresh)
                    self.wfile.write("".join(f"{line}\n" for line in fresh).encode())
                    self.wfile.flush()
                    if "follow" not in query or (over and not fresh) or time.monotonic() > deadline:
                        return

            def log_message(self, *_: object) -> None:
                """Nothing."""

        return Handler
