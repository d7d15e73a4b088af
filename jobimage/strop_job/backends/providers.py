"""ONNX Runtime's execution providers: which one a target means, whether it can run here, and which nodes it really got.

ONNX Runtime falls back without a word, a whole session or node by node. Shapes and other bookkeeping on the CPU are
normal beside a GPU; an operator that multiplies and accumulates there is not what was asked for, and is an error.
"""

import ctypes
import mmap
import re
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import onnxruntime as ort

from strop_api.targets import ExecutionProvider, OnnxRuntimeOptions, Target
from strop_job.backends.profile import is_heavy
from strop_job.errors import Unsupported

CPU, CUDA, TENSORRT = "CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider"
NAMES = {ExecutionProvider.CPU: CPU, ExecutionProvider.CUDA: CUDA, ExecutionProvider.TENSORRT: TENSORRT}
RECORD_PLACEMENT = "session.record_ep_graph_assignment_info"
"""Config entry that makes a session remember which provider got which node (ONNX Runtime 1.24 and later)."""
TENSORRT_PROVIDER_FILE = "libonnxruntime_providers_tensorrt.so"
NEEDED_LIBRARY = re.compile(rb"libnvinfer\.so\.(\d+)")
NAMED_NODES = 5
Node = tuple[str, str]
"""Name and operator."""


def options_of(target: Target) -> OnnxRuntimeOptions:
    """The target's options, defaults where it has none."""
    return target.onnx_runtime or OnnxRuntimeOptions()


def provider_for(target: Target) -> str:
    """The execution provider of a target, by ONNX Runtime's name."""
    asked = options_of(target).provider
    if asked is ExecutionProvider.AUTO:
        return CUDA if target.accelerator else CPU
    return NAMES[asked]


def providers_for(target: Target) -> list[str]:
    """What a session is given, in order: TensorRT leaves what it cannot take to CUDA, and shapes go to the CPU."""
    return {CPU: [CPU], CUDA: [CUDA, CPU], TENSORRT: [TENSORRT, CUDA, CPU]}[provider_for(target)]


def check_provider(target: Target) -> None:
    """Raises Unsupported when the provider that the target needs cannot run here."""
    provider = provider_for(target)
    if provider not in ort.get_available_providers():
        raise no_provider(target, provider, "it is not part of the ONNX Runtime in this image")
    if provider == TENSORRT and (why := tensorrt_provider_problem(Path(ort.__file__).parent / "capi")):
        raise Unsupported(
            f"the TensorRT provider of ONNX Runtime {ort.__version__} cannot be used here: {why}",
            field=f"spec.targets[{target.name}].onnxRuntime.provider",
            mend="use runtime TensorRT, which compiles for the TensorRT of this image, or provider CUDA",
        )


def tensorrt_provider_problem(folder: Path, loads: Callable[[str], bool] | None = None) -> str | None:
    """Why the TensorRT provider in a folder cannot be loaded; None when it can.

    It is linked against one major release of TensorRT, which its file names; no other one will do.
    """
    library = folder / TENSORRT_PROVIDER_FILE
    if not library.is_file():
        return f"{TENSORRT_PROVIDER_FILE} is not part of it"
    major = _needed_major(library)
    if major is None or (loads or _loads)(f"libnvinfer.so.{major}"):
        return None
    there = _version("tensorrt")
    return f"it needs libnvinfer.so.{major}, that is TensorRT {major}, and " + (
        f"TensorRT {there} is installed" if there else "no TensorRT of that release can be loaded"
    )


def require_placement(session: ort.InferenceSession, target: Target) -> dict[str, int]:
    """Nodes by provider. Raises Unsupported when the session, or compute in it, is not on the provider asked for."""
    provider = provider_for(target)
    if session.get_providers()[0] != provider:
        raise no_provider(target, provider, f"it fell back to {session.get_providers()[0]}")
    placed = placement(session)
    strayed = stray(placed, provider)
    if strayed:
        listed = ", ".join(f"`{name}` ({operator})" for name, operator in strayed[:NAMED_NODES])
        more = f" and {len(strayed) - NAMED_NODES} more" if len(strayed) > NAMED_NODES else ""
        raise Unsupported(
            f"{provider} does not take {listed}{more}: they would run elsewhere without a word",
            field=f"spec.targets[{target.name}].onnxRuntime.provider",
            mend="keep these nodes in another precision with excludeNodes, or choose another provider",
        )
    return {name: len(nodes) for name, nodes in placed.items()}


def placement(session: ort.InferenceSession) -> dict[str, list[Node]]:
    """The nodes that each provider got. The session must have been made with `RECORD_PLACEMENT` set to "1"."""
    placed: dict[str, list[Node]] = {}
    for part in session.get_provider_graph_assignment_info():
        placed.setdefault(part.ep_name, []).extend((n.name, n.op_type) for n in part.get_nodes())
    return placed


def stray(placed: dict[str, list[Node]], provider: str) -> list[Node]:
    """Nodes that multiply and accumulate on another provider; TensorRT may leave some to CUDA, nobody to the CPU."""
    allowed = {TENSORRT, CUDA} if provider == TENSORRT else {provider}
    elsewhere: Iterable[Node] = (node for name, nodes in placed.items() if name not in allowed for node in nodes)
    found = [node for node in elsewhere if is_heavy(node[1])]
    if provider == TENSORRT and not placed.get(TENSORRT):
        return [node for nodes in placed.values() for node in nodes if is_heavy(node[1])] or found
    return found


def no_provider(target: Target, provider: str, why: str) -> Unsupported:
    """The refusal of a provider that is not there."""
    return Unsupported(
        f"the target needs {provider}, and {why} (there are: {', '.join(ort.get_available_providers())})",
        field=f"spec.targets[{target.name}].accelerator",
        mend="use the worker image for CUDA on a node with the driver, or drop `accelerator` to run on the CPU",
    )


def _needed_major(library: Path) -> int | None:
    """Release of TensorRT that a shared object names among the libraries it needs."""
    with library.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        found = NEEDED_LIBRARY.search(content)
        return int(found.group(1)) if found else None


def _loads(library: str) -> bool:
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
