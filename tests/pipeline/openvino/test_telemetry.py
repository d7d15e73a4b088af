"""OpenVINO and NNCF report their use to a server as they are imported, unless they are kept from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

WATCHED = """
import json, sys, threading
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event) if event.startswith("socket.") else None)
import strop_job.backends.openvino
import strop_job.steps.quantize.openvino
import nncf, openvino
from openvino.tools.ovc import telemetry
telemetry.send_event("ov", "import", "test")
print(json.dumps({
    "sockets": [event for event in seen if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")],
    "threads": [thread.name for thread in threading.enumerate()],
    "loaded": sys.modules.get("openvino_telemetry") is not None,
}))
"""


def test_nothing_is_sent_when_the_libraries_are_imported(tmp_path: Path) -> None:
    """A worker would talk to a server outside the cluster, and leave a user's id in its home."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "NNCF_CI", "NNCF_DEV")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED],
        env={**environment, "HOME": str(tmp_path), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {"sockets": [], "threads": ["MainThread"], "loaded": False}
    assert not (tmp_path / "intel").exists()
