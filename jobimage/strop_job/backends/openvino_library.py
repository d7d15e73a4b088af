"""OpenVINO itself: loaded without its telemetry, asked what this processor computes with, and its refusals in words.

`openvino` and `nncf` are imported through this module alone. Both report their use to a server as they are imported,
unless their package for that is missing (OpenVINO) or an environment variable is set (NNCF): both are seen to first.
"""

import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

from strop_job.errors import InvalidInput, StropError, Unsupported

os.environ["NNCF_CI"] = "1"
if "openvino" not in sys.modules:
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # importing it fails, as if it were not there

import openvino as ov
import openvino.passes

__all__ = ["PRECISIONS", "core", "first_line", "ov", "refused", "usable_precision", "version"]

PRECISIONS = {"f32": "FP32", "f16": "FP16", "bf16": "BF16"}
"""Values of INFERENCE_PRECISION_HINT, and the capability of a device that each needs."""
NEWEST_IR = 11
"""Version of the IR format that this release writes and reads; it is the same since 2022."""
NOISE = re.compile(
    r"Exception from \S+:\d+:|Check '.*?' failed( at \S+:\d+)?:?|FrontEnd API failed with \w+:|"
    r"Model wasn't fully converted\.|Failed operations detailed log:|Summary:|-- |\"?/\S*/|"
    r"While validating node .*? with friendly_name "
)
"""File names, C++ conditions and signatures in the library's messages."""


@cache
def core() -> Any:
    """The one OpenVINO core of this process; it keeps no cache on the disk."""
    return ov.Core()


def version() -> str:
    """Release of the library, such as `2026.4.1`."""
    return str(ov.__version__).partition("-")[0]


def usable_precision(asked: str) -> str:
    """What the CPU plugin computes with when asked for `f32`, `f16` or `bf16`: it falls back to f32 in silence."""
    has = core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
    return asked if PRECISIONS[asked] in has else "f32"


def first_line(error: BaseException) -> str:
    """An exception's text without OpenVINO's paths and C++ signatures, short enough for a status."""
    text = " ".join(NOISE.sub(" ", str(error)).split())
    return text[:300] or type(error).__name__


def refused(path: Path, error: BaseException) -> StropError:
    """What OpenVINO's refusal of a file means, in words."""
    text = first_line(error)
    if path.suffix == ".xml":
        return _refused_ir(path, text)
    if "No conversion rule" in text or "not supported" in text.lower():
        return Unsupported(
            f"OpenVINO {version()} has no such operator: {text}{_nodes_of(path, text)}",
            field="spec.model.uri",
            mend="export the model without it, or choose another runtime",
        )
    failed = re.search(r"<Node\((\w+)\): ([^>]+)>", str(error))
    if failed:
        return Unsupported(
            f"OpenVINO {version()} cannot convert {failed[1]} at `{failed[2]}`: {text}",
            field="spec.model.uri",
            mend="export the model without it (branches, for one, as one graph each), or choose another runtime",
        )
    return InvalidInput(f"OpenVINO refuses {path.name}: {text}", field="spec.model.uri")


def _refused_ir(path: Path, text: str) -> StropError:
    head, tail = _ends(path)
    format_version = re.search(r'<net [^>]*version="(\d+)"', head)
    writer = re.search(r'"(?:OpenVINO Runtime|Runtime_version)" value="([0-9.]+)', tail)
    made_by = f", which OpenVINO {writer[1]} wrote" if writer else ""
    newer = (format_version and int(format_version[1]) > NEWEST_IR) or "unsupported opset" in text
    if newer or (writer and _numbers(writer[1]) > _numbers(version())):
        return Unsupported(
            f"{path.name}{made_by}, is too new for OpenVINO {version()}: {text}",
            field="spec.targets[].runtime",
            mend="compile it again with this worker, or use the worker image it was compiled with",
        )
    return InvalidInput(
        f"{path.name}{made_by}, cannot be read by OpenVINO {version()}: {text}",
        mend="the files are damaged: compile again from the graph",
    )


def _ends(path: Path, size: int = 4096) -> tuple[str, str]:
    """The first and last bytes of a file as text; empty when it is not there."""
    if not path.is_file():
        return "", ""
    content = path.read_bytes()
    return content[:size].decode(errors="replace"), content[-size:].decode(errors="replace")


def _numbers(release: str) -> tuple[int, ...]:
    return tuple(int(part) for part in release.split(".") if part.isdigit())


def _nodes_of(path: Path, text: str) -> str:
    """Which nodes of the graph have an operator that the message names."""
    import onnx

    from strop_job.backends.graphs import all_nodes

    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception:  # the file is being refused already; its nodes only help the reader
        return ""
    names = [n.name or n.output[0] for n in all_nodes(graph) if re.search(rf"\b{re.escape(n.op_type)}\b", text)]
    return f" (at {', '.join(f'`{name}`' for name in names[:3])})" if names else ""
