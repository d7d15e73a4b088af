"""A real Prometheus server on the loopback that scrapes one address."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cluster.ports import FreePort
from e2e.shell import Json, wait_until


class Prometheus:
    """Questions to a running server."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[Json]:
        """The vector an expression yields now."""
        words = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{words}", timeout=10) as answer:
            return list(json.load(answer)["data"]["result"])


@contextmanager
def scraping(address: str, folder: Path) -> Iterator[Prometheus]:
    """Prometheus that scrapes `address` every second, until the block ends."""
    port = FreePort()
    config = folder / "prometheus.yml"
    config.write_text(
        json.dumps(
            {
                "scrape_configs": [
                    {"job_name": "strop", "scrape_interval": "1s", "static_configs": [{"targets": [address]}]}
                ]
            }
        )
    )
    listen = f"127.0.0.1:{port.number}"
    words = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={listen}",
    ]
    with (folder / "prometheus.log").open("wb") as log:
        process = subprocess.Popen(words, stdout=log, stderr=log)
    server = Prometheus(f"http://{listen}")
    try:
        wait_until("Prometheus", lambda: _is_ready(server), 30)
        yield server
    finally:
        process.terminate()
        process.wait(20)
        port.release()


def _is_ready(server: Prometheus) -> bool:
    try:
        return bool(server.query("up == 1"))
    except OSError:
        return False
