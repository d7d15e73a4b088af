"""A real MinIO server on the loopback, that tests may kill and bring back with its data."""

import atexit
import shutil
import urllib.error
import urllib.request
from pathlib import Path

from . import binaries
from .ports import FreePort
from .processes import Processes, private_folder


class MinioServer:
    """One MinIO with one folder of data. `with MinioServer() as server:` starts it and waits until it serves.

    `endpoint` (host:port), `url`, `user` and `password` (root's) stay the same over kill and start.
    """

    def __init__(self, data: Path | None = None, user: str = "strop-root", password: str = "strop-root-secret") -> None:
        """Nothing starts yet. A data folder that is given outlives the server; otherwise it is temporary."""
        self._folder = private_folder("strop-minio-")
        self._port = FreePort()
        self._processes = Processes(self._folder)
        self.data = data or self._folder / "data"
        self.user, self.password = user, password
        self.endpoint = f"127.0.0.1:{self._port.number}"
        self.url = f"http://{self.endpoint}"

    def start(self) -> None:
        """Start on the same port with the same data; wait until it accepts writes. Raises ClusterError."""
        atexit.register(self.close)
        self.data.mkdir(parents=True, exist_ok=True)
        environment = {
            "MINIO_ROOT_USER": self.user,
            "MINIO_ROOT_PASSWORD": self.password,
            "MINIO_BROWSER": "off",
            "MINIO_UPDATE": "off",
            "HOME": str(self._folder),
        }
        argv: list[str | Path] = [binaries.find("minio"), "server", "--quiet", "--address", self.endpoint, self.data]
        self._processes.start("minio", argv, environment)
        self._processes.await_ready("minio", self._accepts_writes)

    def stop(self) -> None:
        """End it in order; the data stays."""
        self._processes.stop("minio")

    def kill(self) -> None:
        """End it by SIGKILL, as a crash would; the data stays as it is."""
        self._processes.stop("minio", "KILL")

    def freeze(self) -> None:
        """Keep connections open and answer nothing, until thaw()."""
        self._processes.stop("minio", "STOP")

    def thaw(self) -> None:
        """Go on after freeze()."""
        self._processes.stop("minio", "CONT")

    @property
    def running(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self._processes.alive("minio")

    def log(self) -> str:
        """All that the server has printed."""
        return self._processes.log("minio").read_text(errors="replace")

    def close(self) -> None:
        """Stop, give the port back and remove what is temporary."""
        atexit.unregister(self.close)
        self.kill()
        self._port.release()
        shutil.rmtree(self._folder, ignore_errors=True)

    def __enter__(self) -> "MinioServer":
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accepts_writes(self) -> bool:
        # /health/live answers before the object layer is there, and a write is then refused.
        try:
            with urllib.request.urlopen(f"{self.url}/minio/health/cluster", timeout=2) as answer:
                return bool(answer.status == 200)
        except urllib.error.HTTPError as not_yet:
            not_yet.close()
        except OSError:
            pass
        return False
