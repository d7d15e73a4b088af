"""A real Triton server, from the package nvidia-pytriton, whose ONNX Runtime backend is replaced by one in Python.

The package brings Triton's core and its Python backend alone. The core reads and checks every `config.pbtxt`, batches
and speaks HTTP; a backend named `onnxruntime`, written in Python, runs the file with the ONNX Runtime of this
environment.
"""

import ctypes.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

BACKEND = """\
import sys
sys.path.insert(0, {site!r})
from pathlib import Path
import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton

class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        return config

    def initialize(self, given):
        path = Path(given["model_repository"], given["model_version"], "model.onnx")
        self.session = ort.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        self.inputs = [i.name for i in self.session.get_inputs()]
        self.outputs = [o.name for o in self.session.get_outputs()]

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        # Through DLPack: the package's own conversion misreads arrays of NumPy 2.
        given = {{name: np.from_dlpack(triton.get_input_tensor_by_name(request, name)) for name in self.inputs}}
        values = self.session.run(None, given)
        made = [triton.Tensor.from_dlpack(n, v) for n, v in zip(self.outputs, values, strict=True)]
        return triton.InferenceResponse(made)
"""
READY_SECONDS = 60.0


@dataclass(frozen=True)
class Server:
    """Where it listens."""

    port: int

    def get(self, path: str) -> Any:
        """A JSON answer."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/{path}", timeout=10) as answer:
            return json.loads(answer.read() or b"null")

    def post(self, path: str, document: Any) -> Any:
        """A JSON answer; the server's own words where it refuses."""
        url, data = f"http://127.0.0.1:{self.port}/v2/{path}", json.dumps(document).encode()
        try:
            with urllib.request.urlopen(url, data, timeout=10) as answer:
                return json.loads(answer.read())
        except urllib.error.HTTPError as refused:
            with refused:
                raise AssertionError(refused.read().decode()) from None


class RefusedError(Exception):
    """The server did not take a model; its log says why."""


def why_not_here() -> str | None:
    """What this machine lacks to run the server, and the mend; None when nothing."""
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "nvidia-pytriton has a server for Linux on x86_64 alone"
    if ctypes.util.find_library(_python()) is None:
        return f"the server's Python backend needs lib{_python()}: apt-get install lib{_python()}"
    return None


@contextmanager
def serving(package: Path, folder: Path, repository: Path) -> Iterator[Server]:
    """A server of this repository; `package` is pytriton's folder. Raises RefusedError when a model is not taken."""
    home = package / "tritonserver"
    backends, port = _backends(home, folder), _free_port()
    log = folder / "triton.log"
    command = [
        home / "bin" / "tritonserver", f"--model-repository={repository}", f"--backend-directory={backends}",
        f"--http-port={port}", "--http-address=127.0.0.1", "--allow-grpc=false", "--allow-metrics=false",
        "--exit-on-error=true",
    ]  # fmt: skip
    libraries = package.with_name("nvidia_pytriton.libs")
    with log.open("wb") as out:
        process = subprocess.Popen(
            list(map(str, command)), stdout=out, stderr=out, env=os.environ | {"LD_LIBRARY_PATH": str(libraries)}
        )
        try:
            yield _ready(Server(port), process, log)
        finally:
            process.terminate()
            process.wait(timeout=40)


def _ready(server: Server, process: "subprocess.Popen[bytes]", log: Path) -> Server:
    deadline = time.monotonic() + READY_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RefusedError("\n".join(line for line in log.read_text().splitlines() if "scores" in line))
        try:
            server.get("health/ready")
        except (OSError, urllib.error.URLError):
            time.sleep(0.05)
        else:
            return server
    raise AssertionError(log.read_text())


def _backends(home: Path, folder: Path) -> Path:
    """Python's backend with the stub for this Python, and ours in the name of ONNX Runtime's."""
    root = folder / "backends"
    shutil.copytree(home / "backends" / "python", root / "python")
    version = ".".join(map(str, sys.version_info[:2]))
    shutil.copy(home / "python_backend_stubs" / version / "triton_python_backend_stub", root / "python")
    (root / "onnxruntime").mkdir()
    site = str(Path(np.__file__).parents[1])
    (root / "onnxruntime" / "model.py").write_text(BACKEND.format(site=site))
    return root


def _python() -> str:
    return "python" + ".".join(map(str, sys.version_info[:2]))


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
