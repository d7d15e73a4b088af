"""What is wrong with an ONNX file before it is run: data missing, old opsets, foreign operators, 64-bit floats."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

import onnx
from onnx import TensorProto

from strop_api.checks.graph import DATA_MISSING, DOUBLE, FOREIGN_OPERATORS, OLD_OPSET, UNREADABLE
from strop_api.findings import Finding, Severity
from strop_job.audit.graph.reading import STANDARD, named
from strop_job.backends.graphs import all_nodes
from strop_job.models.onnx_files import MAX_OPSET, MIN_OPSET, opset_of, tensors

LOWEST_OPSET = 7
"""Below it ONNX Runtime promises nothing."""


def missing_data(model: onnx.ModelProto, folder: Path) -> Iterator[Finding]:
    """Weights outside of the file that are not in its folder."""
    outside = [t for t in tensors(model.graph) if t.data_location == TensorProto.EXTERNAL]
    locations = {next((e.value for e in t.external_data if e.key == "location"), "") for t in outside}
    gone = sorted(place for place in locations if not _is_there(place, folder))
    if gone:
        yield DATA_MISSING.finding(f"{len(outside)} weights lie in files that are not beside the graph: {named(gone)}")


def _is_there(location: str, folder: Path) -> bool:
    path = folder / location
    inside = not PurePosixPath(location).is_absolute() and path.resolve().is_relative_to(folder.resolve())
    return bool(location) and inside and path.is_file()


def refused_by_checker(path: Path) -> Iterator[Finding]:
    """What onnx's own checker says: a runtime may load such a file all the same, and the next one will not."""
    try:
        onnx.checker.check_model(str(path))
    except Exception as error:  # its errors differ with what is wrong
        yield UNREADABLE.finding(f"onnx's checker refuses it: {' '.join(str(error).split())}", severity=Severity.HIGH)


def operator_sets(model: onnx.ModelProto) -> Iterator[Finding]:
    """None, too old, or newer than the runtime."""
    version = opset_of(model)
    if version == 0 and any(node.domain in STANDARD for node in all_nodes(model.graph)):
        yield OLD_OPSET.finding("no opset of the standard operators is named", severity=Severity.HIGH)
    elif 0 < version < MIN_OPSET:
        severity = Severity.HIGH if version < LOWEST_OPSET else None
        yield OLD_OPSET.finding(f"the opset is {version}; from {MIN_OPSET} on all methods work", severity=severity)
    elif version > MAX_OPSET:
        yield OLD_OPSET.finding(
            f"the opset is {version}; runtimes read up to {MAX_OPSET}", mend=f"Export with opset {MAX_OPSET}"
        )


def foreign_operators(model: onnx.ModelProto) -> Iterator[Finding]:
    """Operators outside of ONNX's own domains, functions that the file itself defines not among them."""
    own = {(function.domain, function.name) for function in model.functions}
    known = STANDARD | {"ai.onnx.ml"}
    found = Counter(
        f"{node.domain}::{node.op_type}"
        for node in all_nodes(model.graph)
        if node.domain not in known and (node.domain, node.op_type) not in own
    )
    if found:
        contrib = all(name.startswith("com.microsoft::") for name in found)
        yield FOREIGN_OPERATORS.finding(
            f"{sum(found.values())} nodes are of operators that {'only ONNX Runtime has' if contrib else 'few have'}: "
            f"{named([name for name, _ in found.most_common()])}",
            severity=Severity.LOW if contrib else None,
        )


def doubles(model: onnx.ModelProto) -> Iterator[Finding]:
    """Products whose weights or inputs are 64-bit floats."""
    wide = {w.name for w in model.graph.initializer if w.data_type == TensorProto.DOUBLE and len(w.dims) > 1}
    given = [v.name for v in model.graph.input if v.type.tensor_type.elem_type == TensorProto.DOUBLE]
    found = [
        node.name or node.output[0]
        for node in all_nodes(model.graph)
        if node.op_type in ("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "GRU") and wide.intersection(node.input)
    ]
    if found or given:
        where = f"products {named(found)}" if found else f"inputs {named(given)}"
        yield DOUBLE.finding(f"64-bit floats in {where}")
