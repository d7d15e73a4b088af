"""OpenVINO and NNCF report their use to a server as they are imported, unless they are kept from it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from strop_job.backends.openvino_library import ov

WATCHED = """
import json, sys, threading
seen = []
sys.addaudithook(lambda event, arguments: seen.append(event) if event.startswith("socket.") else None)
from pathlib import Path
from strop_job.stages import Artifact, ArtifactKind
{use}
import nncf, openvino
from openvino.tools.ovc import telemetry
telemetry.send_event("ov", "import", "test")
print(json.dumps({{
    "sockets": [event for event in seen if event in ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname")],
    "threads": [thread.name for thread in threading.enumerate()],
    "loaded": sys.modules.get("openvino_telemetry") is not None,
}}))
"""


USES = {
    "backend": "import strop_job.backends.openvino",
    "quantizer": "import strop_job.steps.quantize.openvino",
    "marker": "import strop_job.verification.mark_openvino",
    "signature": "from strop_job.handoff.signature import read_signature\n"
    "read_signature(Artifact(ArtifactKind.ENGINE, Path({folder!r}), ('model.xml',)))",
}
"""Each place from which a worker may load the libraries first."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small IR."""
    folder = tmp_path_factory.mktemp("engine")
    given = ov.opset13.parameter([1, 4], name="x")
    ov.save_model(ov.Model([ov.opset13.relu(given)], [given], "small"), str(folder / "model.xml"))
    return folder


@pytest.mark.parametrize("use", USES.values(), ids=USES)
def test_nothing_is_sent_when_the_libraries_are_imported(tmp_path: Path, engine: Path, use: str) -> None:
    """A worker would talk to a server outside the cluster, and leave a user's id in its home."""
    environment = {name: value for name, value in os.environ.items() if name not in ("CI", "NNCF_CI", "NNCF_DEV")}
    done = subprocess.run(
        [sys.executable, "-c", WATCHED.format(use=use.format(folder=str(engine)))],
        env={**environment, "HOME": str(tmp_path), "OMP_NUM_THREADS": "2"},
        capture_output=True,
        text=True,
        check=True,
    )
    said = json.loads(done.stdout.splitlines()[-1])
    assert said == {"sockets": [], "threads": ["MainThread"], "loaded": False}
    assert not (tmp_path / "intel").exists()
