"""An engine that comes alone: read, run only where it is data and not a program, and said plainly what was not seen."""

import json
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from strop_api.checks import worst_first
from strop_api.checks.graph import DATA_MISSING, FIXED_AXIS, NOT_REALISED, OPAQUE, UNREADABLE
from strop_api.findings import Finding, Severity
from strop_job.errors import StropError

PLANS: Mapping[bytes, str] = {b"vtrt": "TensorRT-RTX", b"ptrt": "TensorRT", b"ftrt": "TensorRT"}
"""First bytes of a serialized engine (seen in files of TensorRT-RTX 1.7; TensorRT's own by its error messages)."""
VERSION_AT, HEADER_BYTES = slice(24, 28), 28
"""Major, minor, patch and build in a plan of TensorRT-RTX."""
ORT_TAG, ORT_TAG_AT = b"ORTM", slice(4, 8)
"""File identifier of ONNX Runtime's flatbuffers."""
INTEGER_FORMATS = ("int8", "int4", "fp8")
BUILD_AGAIN = "Build the engine again, and compare the file's size and checksum with those of what was built"


def examine(path: Path) -> list[Finding]:
    """Everything, worst first. Never raises for what is in the file; never runs code from it."""
    if not path.is_file():
        return [_broken(f"{path.name} is not there")]
    with path.open("rb") as file:
        head = file.read(64)
    return worst_first(_reader(path, head)(path, head))


def _reader(path: Path, head: bytes) -> Callable[[Path, bytes], list[Finding]]:
    """By the bytes first: names are given by people."""
    if head[:4] in PLANS:
        return _plan
    if head[ORT_TAG_AT] == ORT_TAG:
        return _flatbuffer
    if zipfile.is_zipfile(path):
        return _archive
    return {".xml": _openvino, ".onnx": _onnx, ".engine": _no_plan, ".plan": _no_plan, ".trt": _no_plan}.get(
        path.suffix.lower(), _unknown
    )


def _unknown(path: Path, head: bytes) -> list[Finding]:
    return [_broken(f"{path.name} is no engine that is known here: it begins with {head[:8]!r}")]


def _no_plan(path: Path, head: bytes) -> list[Finding]:
    return [
        _broken(
            f"{path.name} begins with {head[:4]!r}, not as a plan of TensorRT does: it is cut off, or something else"
            if head
            else f"{path.name} is empty",
            Severity.HIGH,
        )
    ]


def _broken(message: str, severity: Severity | None = None) -> Finding:
    """No whole engine; what mends it is said of engines, not of ONNX graphs."""
    return UNREADABLE.finding(message, severity=severity, mend=BUILD_AGAIN)


def _plan(path: Path, head: bytes) -> list[Finding]:
    """The header alone: a plan is opened by the very version, on the very kind of device, that it was built for."""
    library = PLANS[head[:4]]
    if len(head) < HEADER_BYTES:
        return [_broken(f"a plan of {library} that ends after {len(head)} bytes, inside its header")]
    numbers = head[VERSION_AT]
    version = f" {'.'.join(map(str, numbers))}" if head[:4] == b"vtrt" and len(numbers) == 4 and numbers[0] < 32 else ""
    said = int.from_bytes(head[16:24], "little") if head[:4] == b"vtrt" else 0
    size = path.stat().st_size
    if said > size:
        return [_broken(f"a plan of {library}{version} of {said} bytes, of which {size} are there")]
    return [
        OPAQUE.finding(
            f"a plan of {library}{version}, {size} bytes: only its header was read. Layers, precision and shapes take "
            "the library and the device it was built for"
        )
    ]


def _flatbuffer(path: Path, head: bytes) -> list[Finding]:
    """ONNX Runtime's own format: interface only, its nodes are for the runtime alone."""
    import onnxruntime as ort

    from strop_job.backends.providers import CPU
    from strop_job.backends.refusals import REFUSED, first_line

    try:
        session = ort.InferenceSession(str(path), providers=[CPU])
    except REFUSED as error:
        return [_broken(f"ONNX Runtime does not load {path.name}: {first_line(error)}", Severity.HIGH)]
    shapes = {given.name: tuple(given.shape) for given in session.get_inputs()}
    words = "an .ort file: its interface was read; nodes, precision and baked-in sizes are not to be seen in it"
    return [*_fixed(shapes), OPAQUE.finding(words)]


def _fixed(shapes: Mapping[str, tuple[object, ...]]) -> list[Finding]:
    """Nothing where some input leads with a dynamic axis."""
    leads = {name: shape[0] for name, shape in shapes.items() if len(shape) > 1}
    if not leads or not all(isinstance(size, int) and size > 0 for size in leads.values()):
        return []
    listed = ", ".join(f"`{name}` is {size}" for name, size in leads.items())
    return [FIXED_AXIS.finding(f"the first axis of {listed}: no other batch is taken", severity=Severity.MEDIUM)]


def _onnx(path: Path, head: bytes) -> list[Finding]:
    """A graph that was optimized, perhaps: all that a graph shows, and what it computes with."""
    from strop_job.audit.graph.alone import examine as examine_graph
    from strop_job.audit.graph.inspecting import onnx_inspection

    found = examine_graph(path)
    if any(one.check in (UNREADABLE.name, DATA_MISSING.name) for one in found):
        return found
    return [*found, *_realised(onnx_inspection(path))]


def _openvino(path: Path, head: bytes) -> list[Finding]:
    """An IR: its interface, and what it computes with where OpenVINO is installed."""
    if not path.with_suffix(".bin").is_file():
        return [DATA_MISSING.finding(f"{path.with_suffix('.bin').name} is not beside {path.name}")]
    from importlib.util import find_spec

    if find_spec("openvino") is None:
        return [OPAQUE.finding("an OpenVINO IR: OpenVINO is not installed here, so nothing was read")]
    from strop_job.audit.graph.inspecting import openvino_inspection

    try:
        shapes, facts = openvino_inspection(path)
    except StropError as error:
        return [_broken(error.message, Severity.HIGH)]
    return [*_fixed(shapes), *_realised(facts)]


def _realised(facts: Mapping[str, object]) -> list[Finding]:
    """The precision of an engine that has some integers; what was asked for is not known, so they should prevail."""
    by_format, total = facts.get("macsByFormat"), facts.get("macs")
    if not facts.get("inspected"):
        return [OPAQUE.finding(f"what it computes with was not seen: {facts.get('note') or 'not inspected'}")]
    if not isinstance(by_format, dict) or not isinstance(total, int) or not total or facts.get("uncounted"):
        return []
    low = sum(macs for name, macs in by_format.items() if name in INTEGER_FORMATS)
    if low == 0 and not facts.get("quantized"):
        return []
    from strop_job.audit.graph.precision import LEAST_SHARE, staying_high

    share = low / total
    if share >= LEAST_SHARE:
        return []
    layers = facts.get("layers")
    high = staying_high(layers if isinstance(layers, list) else [], INTEGER_FORMATS, float(total))
    return [
        NOT_REALISED.finding(f"{share:.0%} of the compute of this quantized engine runs in 8 bits; high stayed {high}")
    ]


def _archive(path: Path, head: bytes) -> list[Finding]:
    """A .pt2: an archive with a program in it. Its tables are read; loading it would run what its author wrote."""
    from strop_job.backends.aoti.package import describe

    try:
        signature, built = describe(path)
    except StropError:
        return [OPAQUE.finding(_foreign(path))]
    shapes: dict[str, tuple[object, ...]] = {one.name: one.shape for one in signature.inputs}
    words = f"torch {built.torch}, {built.arch} with {', '.join(built.isa[:4])}, {len(built.layers)} products"
    return [*_fixed(shapes), OPAQUE.finding(f"a .pt2 is a program and was not loaded: {words}, as it says of itself")]


def _foreign(path: Path) -> str:
    """What the archive's table of contents tells."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, ValueError, OSError):
        return "an archive whose table of contents cannot be read: it was not loaded"
    code = [name for name in names if name.endswith((".so", ".cpp", ".o", ".pkl"))]
    kind = "an archive with compiled code" if any(n.endswith(".so") for n in code) else "an archive"
    return f"{kind} of {len(names)} files ({json.dumps(code[:2])}): a .pt2 is a program and was not loaded"
