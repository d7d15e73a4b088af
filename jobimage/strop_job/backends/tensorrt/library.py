"""Which of the two libraries speaks, and what it says: its version, its messages in words a user can read."""

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from strop_api.targets import Runtime
from strop_job.errors import Unsupported

NOISE = re.compile(
    r"\[[\w./]+\.(?:cpp|h|cu)(?:::\w+)?(?:::|: ?)\d+(?:: [^\]]*)?\] ?"  # [tactic.cpp:264: run]
    r"| ?\b(?:In|in function) [\w:~]+ at \S+?:\d+"  # In compileGraph at /_src/…/codeGenerator.cpp:2012
    r"|\bI[A-Z]\w+::\w+: "  # IBuilder::buildSerializedNetwork:
    r"|[\w./]+\.(?:cpp|h):\d+:? ?"
)
"""Places in the library's own source, which tell a user nothing."""
MESSAGE_LENGTH = 300
SPARSITY = "(Sparsity)"
"""How TensorRT's messages about 2:4 sparse kernels begin; they come at the level INFO."""


@dataclass(frozen=True)
class Library:
    """One of the two, loaded."""

    trt: Any
    """The module `tensorrt` or `tensorrt_rtx`."""
    runtime: Runtime

    @property
    def rtx(self) -> bool:
        """Whether it is TensorRT-RTX."""
        return self.runtime is Runtime.TENSORRT_RTX

    @property
    def label(self) -> str:
        """As people write it."""
        return "TensorRT-RTX" if self.rtx else "TensorRT"

    @property
    def name(self) -> str:
        """As it stands in the facts."""
        return "tensorrt-rtx" if self.rtx else "tensorrt"

    @property
    def version(self) -> str:
        """All its parts, such as `11.4.0.106`."""
        return str(self.trt.__version__)


def load_library(runtime: Runtime) -> Library:
    """Raises ModuleNotFoundError when it is not installed, Unsupported when its own libraries are not found."""
    name = "tensorrt_rtx" if runtime is Runtime.TENSORRT_RTX else "tensorrt"
    try:
        return Library(import_module(name), runtime)
    except ModuleNotFoundError:
        raise
    except (ImportError, OSError) as error:
        raise Unsupported(
            f"{name} is installed here and cannot be loaded: {plain(str(error))}",
            field="spec.targets[].runtime",
            mend="use the worker image of that runtime",
        ) from error


@dataclass
class Heard:
    """What the library said while it worked."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """Messages at the level INFO that facts are made of."""

    def why(self, otherwise: str) -> str:
        """The errors in one line; `otherwise` when there are none."""
        lines = list(dict.fromkeys(filter(None, map(plain, self.errors))))
        return "; ".join(lines[:3])[: 2 * MESSAGE_LENGTH] or otherwise

    def warned(self) -> list[str]:
        """Every warning once, short."""
        return list(dict.fromkeys(filter(None, map(plain, self.warnings))))[:8]


@contextmanager
def uncollected() -> Iterator[None]:
    """No garbage is collected inside.

    The library holds a lock while it calls the logger. A collection that begins there, or in another thread meanwhile,
    and frees a builder of before needs the same lock, and the process stands still for ever.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def listener(trt: Any, heard: Heard) -> Any:
    """A logger that writes to `heard`. It must outlive everything that was made with it.

    An error recorder would tell more and ends the process when a builder is torn down, so there is none.
    """

    class Listener(trt.ILogger):  # type: ignore[misc]  # the library has no types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, msg: str) -> None:
            if severity <= trt.ILogger.ERROR:
                heard.errors.append(msg)
            elif severity == trt.ILogger.WARNING:
                heard.warnings.append(msg)
            elif msg.startswith(SPARSITY):
                heard.notes.append(msg)

    return Listener()


def plain(message: str) -> str:
    """A message of the library without paths and places in its source, short enough for a status."""
    return re.sub(r"\s+", " ", NOISE.sub("", message)).strip(" .")[:MESSAGE_LENGTH]
