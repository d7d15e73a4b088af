"""The operator as the bench runs it: alone, as in its image, with what it costs read from /proc."""

import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from cluster.ports import FreePort

AS_IN_THE_IMAGE = (
    "import runpy, sys; sys.modules['kubernetes'] = None; runpy.run_module('strop_operator', run_name='__main__')"
)
"""The image does not hold the `kubernetes` package, which kopf would import; this environment does, for the tests."""


class Measured:
    """The operator's process."""

    def __init__(self, kubeconfig: Path, log: Path, namespace: str, *flags: str) -> None:
        self._port = FreePort()
        self.url = f"http://127.0.0.1:{self._port.number}"
        words = ["--kubeconfig", str(kubeconfig), "--metrics-port", str(self._port.number)]
        self._command = [sys.executable, "-c", AS_IN_THE_IMAGE, "--operator-namespace", namespace, *words, *flags]
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> float:
        """Starts it and waits until it has listed everything; seconds that took."""
        began = time.monotonic()
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        while time.monotonic() - began < 120:
            if self._process.poll() is not None:
                raise RuntimeError(f"the operator ended: {self._log.read_text()[-2000:]}")
            try:
                with urllib.request.urlopen(self.url + "/readyz", timeout=2) as answer:
                    if answer.status == 200:
                        return time.monotonic() - began
            except OSError:
                time.sleep(0.02)
        raise RuntimeError(f"the operator is not ready: {self._log.read_text()[-2000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it and waits."""
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait(30)
            self._process = None

    def close(self) -> None:
        """Ends it for good."""
        self.stop(signal.SIGKILL)
        self._port.release()

    @property
    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def rss_mebibytes(self) -> float:
        """Resident memory now."""
        found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{self._pid}/status").read_text())
        return int(found.group(1)) / 1024 if found else 0.0

    @property
    def descriptors(self) -> int:
        """Open file descriptors."""
        return len(list(Path(f"/proc/{self._pid}/fd").iterdir()))

    @property
    def _pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the operator does not run")
        return self._process.pid
