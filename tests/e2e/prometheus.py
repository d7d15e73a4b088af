"""A real Prometheus server on the loopback that scrapes one address, or more."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
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
        return list(self.get("query", query=expression)["data"]["result"])

    def get(self, path: str, **words: str) -> Json:
        """What the API answers at a path."""
        with urllib.request.urlopen(f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(words)}", timeout=10) as answer:
            return dict(json.load(answer))


def job(name: str, address: str, **labels: str) -> Json:
    """A scrape job of one address each second. Labels of the metrics' own come first, as the chart's monitors ask."""
    static = {"targets": [address], "labels": labels}
    return {"job_name": name, "scrape_interval": "1s", "honor_labels": True, "static_configs": [static]}


@contextmanager
def scraping(
    address: str, folder: Path, *, more: Sequence[Json] = (), rules: Sequence[Path] = ()
) -> Iterator[Prometheus]:
    """Prometheus that scrapes `address`, and the jobs in `more`, every second, until the block ends."""
    port = FreePort()
    config = folder / "prometheus.yml"
    jobs = [job("strop", address), *more]
    config.write_text(json.dumps({"scrape_configs": jobs, "rule_files": [str(path) for path in rules]}))
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
