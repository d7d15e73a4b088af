"""Runs torch's export in a child process: torch's memory and threads leave with it, and code can be locked in."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from strop_api.model import ModelSource
from strop_job.errors import InvalidInput, OutOfMemory, StropError, Unsupported
from strop_job.hardware import this_machine
from strop_job.memory import KillWatch, killed
from strop_job.stages import Artifact, ArtifactKind

RESULT_LIMIT_BYTES = 65_536
TIMEOUT_SECONDS = 3600
POLL_SECONDS = 0.5
ERRORS: dict[str, type[StropError]] = {c.__name__: c for c in (InvalidInput, OutOfMemory, Unsupported, StropError)}
PASSED_ON = ("PATH", "LANG", "STROP_CALLABLES", "PYTHONPATH")
"""The environment of a trusted child; nothing that could hold a credential."""
EXPORT = (sys.executable, "-P", "-s", "-m", "strop_job.models.child")
"""Starts the child that exports."""


@dataclass(frozen=True)
class ExportOrder:
    """What the child is told, as JSON. Paths are absolute."""

    model: dict[str, object]
    """`ModelSource`, dumped."""
    source_folder: str
    source_files: list[str]
    folder: str
    """Where the child writes; all it may write when isolated."""
    seed: int
    source_kind: str = ArtifactKind.SOURCE.value
    """SOURCE, as the user gave it, or TORCH_MODEL, as a step left it."""
    code: str | None = None
    """Source file of the architecture's callable, when it is not the image's."""
    isolated: bool = False
    """Locked in: no environment, no network, no other file."""


def given(order: ExportOrder) -> Artifact:
    """The model that an order is about, as the child reads it."""
    return Artifact(ArtifactKind(order.source_kind), Path(order.source_folder), tuple(order.source_files))


def export_in_child(
    order: ExportOrder,
    *,
    waiting: Callable[[], None] = lambda: None,
    timeout_seconds: float = TIMEOUT_SECONDS,
    command: Sequence[str] = EXPORT,
) -> None:
    """Run the export; `model.onnx`, `references.json` and `reference-<i>.npz` lie in the order's folder afterwards.

    `waiting` is called twice a second; when it raises, the child is killed. `command` takes the order's file as its
    last word. Raises what the child said was wrong, OutOfMemory when the kernel killed it, or StropError with its last
    words when it died otherwise.
    """
    folder = Path(order.folder)
    run_child(
        command,
        folder,
        asdict(order),
        _environment(order),
        what="export",
        waiting=waiting,
        timeout_seconds=timeout_seconds,
        untrusted=order.isolated,
    )


def run_child(
    command: Sequence[str],
    folder: Path,
    order: Mapping[str, object],
    environment: Mapping[str, str],
    *,
    what: str,
    waiting: Callable[[], None],
    timeout_seconds: float = TIMEOUT_SECONDS,
    untrusted: bool = False,
) -> None:
    """Start a child in `folder` with its order as a file, and wait for `result.json`; `what` names its work in errors.

    Whatever the child has started is killed with it. Errors as of `export_in_child`.
    """
    order_file, result_file = folder / "order.json", folder / "result.json"
    order_file.write_text(json.dumps(order))
    watch = KillWatch()
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            [*command, str(order_file)],
            env=dict(environment),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        code = _wait(process, waiting, timeout_seconds, what)
    if watch.explains(code) and not result_file.exists():
        raise killed(what)
    _refuse_links(folder)
    _raise_for(result_file, code, folder / "log.txt", what, untrusted=untrusted)


def _environment(order: ExportOrder) -> dict[str, str]:
    own = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", str(this_machine().threads))}
    return environment_in(Path(order.folder), PASSED_ON[:2] if order.isolated else PASSED_ON) | own


def environment_in(folder: Path, names: Sequence[str] = PASSED_ON) -> dict[str, str]:
    """These variables of our own environment, and a home and a place for temporary files in the folder."""
    kept = {name: os.environ[name] for name in names if name in os.environ}
    return kept | {"HOME": str(folder), "TMPDIR": str(folder)}


def _wait(process: "subprocess.Popen[bytes]", waiting: Callable[[], None], timeout_seconds: float, what: str) -> int:
    deadline = time.monotonic() + timeout_seconds
    try:
        while time.monotonic() < deadline:
            try:
                return process.wait(POLL_SECONDS)
            except subprocess.TimeoutExpired:
                waiting()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also after it ended: what it started may live on
        process.wait()
    raise Unsupported(
        f"the {what} took longer than {timeout_seconds:.0f} s", field="spec.model", mend="use a smaller one"
    )


def _refuse_links(folder: Path) -> None:
    """A locked-in child could leave a link to a file it may not read, for us to read in its stead."""
    for path in folder.rglob("*"):
        mode = path.lstat()
        if not ((stat.S_ISREG(mode.st_mode) and mode.st_nlink == 1) or stat.S_ISDIR(mode.st_mode)):
            shutil.rmtree(folder)
            raise InvalidInput("the model's code left something that is not a plain file", field="spec.model.uri")


def _raise_for(result_file: Path, code: int, log: Path, what: str, *, untrusted: bool) -> None:
    if not result_file.exists() or result_file.stat().st_size > RESULT_LIMIT_BYTES:
        words = " ".join(_tail(log).split())[-400:]
        kind = InvalidInput if untrusted else StropError
        raise kind(f"the {what} ended with code {code}: {words}", field="spec.model")
    result = json.loads(result_file.read_text())
    if "error" in result:
        raise ERRORS.get(str(result["error"]), StropError)(
            str(result.get("message", "")), field=result.get("field"), mend=result.get("mend")
        )


def _tail(log: Path, size_bytes: int = 4096) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - size_bytes))
        return file.read().decode(errors="replace")


def order_for(model: ModelSource, folder: Path, source: Artifact, *, seed: int) -> ExportOrder:
    """An order for a model in the image's own code."""
    return ExportOrder(
        model=model.model_dump(mode="json", by_alias=True),
        source_folder=str(source.folder.resolve()),
        source_files=list(source.files),
        folder=str(folder.resolve()),
        seed=seed,
        source_kind=source.kind.value,
    )
