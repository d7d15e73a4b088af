"""An ONNX graph as a network of the library: parsed, refused in words, described."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import DTypeLike
from pydantic import JsonValue

from strop_job.backends.graphs import opset
from strop_job.backends.tensorrt.library import Heard, Library, listener, plain
from strop_job.backends.tensorrt.options import Shape
from strop_job.errors import InvalidInput, Unsupported

NEWEST_OPSET = 25
"""Of TensorRT 11's parser (its ONNX opset guide). It reads newer ones without a word, as if they meant the same."""
MOST_FAULTS = 3
"""So many of the parser's errors are told."""
UNKNOWN_OPERATOR = "Plugin not found"
"""How the parser says that no operator and no plugin has a node's name."""
DTYPES: dict[str, DTypeLike] = {
    "FLOAT": np.float32, "HALF": np.float16, "INT64": np.int64, "INT32": np.int32, "INT8": np.int8,
    "UINT8": np.uint8, "BOOL": np.bool_,
}  # fmt: skip
"""NumPy's types by the library's names; those that NumPy lacks are not served as inputs or outputs."""


@dataclass(frozen=True)
class Parsed:
    """A network with all that must live as long as it does."""

    library: Library
    heard: Heard
    logger: Any
    builder: Any
    network: Any
    parser: Any
    """Holds the weights that the network points to."""

    @property
    def inputs(self) -> dict[str, Shape]:
        """Shapes by name, -1 where dynamic."""
        found = (self.network.get_input(at) for at in range(self.network.num_inputs))
        return {tensor.name: tuple(tensor.shape) for tensor in found}


def refuse_newer(model: onnx.ModelProto, label: str) -> None:
    """Raises Unsupported for an opset or an IR version that the parser would read by guess."""
    if opset(model) > NEWEST_OPSET:
        raise Unsupported(
            f"the graph has opset {opset(model)}, {label} knows opsets up to {NEWEST_OPSET}",
            field="spec.model.uri",
            mend=f"export with opset {NEWEST_OPSET} or older",
        )
    if model.ir_version > onnx.IR_VERSION:
        raise Unsupported(
            f"the graph has IR version {model.ir_version}, {label} with ONNX {onnx.__version__} knows versions up to "
            f"{onnx.IR_VERSION}",
            field="spec.model.uri",
            mend="export with an older IR version",
        )


def parse(library: Library, path: Path) -> Parsed:
    """The network of an ONNX file. Raises Unsupported naming operator and node, InvalidInput for a broken graph."""
    trt, heard = library.trt, Heard()
    logger = listener(trt, heard)
    builder = trt.Builder(logger)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        raise refused(parser, heard, library.label)
    parsed = Parsed(library, heard, logger, builder, network, parser)
    _refuse_tensors(parsed)
    return parsed


def refused(parser: Any, heard: Heard, label: str) -> Unsupported | InvalidInput:
    """The parser's errors in words: which operator, which node, and what is the matter with it."""
    faults = [parser.get_error(at) for at in range(parser.num_errors)]
    told = "; ".join(_told(fault) for fault in faults[:MOST_FAULTS]) or heard.why("it says nothing more")
    more = f" (and {len(faults) - MOST_FAULTS} more)" if len(faults) > MOST_FAULTS else ""
    if any(fault.node_operator() for fault in faults):
        return Unsupported(
            f"{label} cannot take the graph: {told}{more}",
            field="spec.model.uri",
            mend="export the model without it, or choose another runtime",
        )
    return InvalidInput(f"{label} cannot read the graph: {told}{more}", field="spec.model.uri")


def _told(fault: Any) -> str:
    """One error of the parser."""
    operator, node, words = fault.node_operator(), fault.node_name(), plain(fault.desc())
    if UNKNOWN_OPERATOR in words:
        words = "no such operator is known, nor a plugin of that name"
    if words in ("", "false"):
        words = "not supported"
    if not operator:
        return words
    inside = [fault.local_function_stack()[at] for at in range(fault.local_function_stack_size())]
    where = f", inside {' > '.join(map(str, inside))}" if inside else ""
    return f"operator {operator} of node {node or f'number {fault.node()}'}{where}: {words}"


def _refuse_tensors(parsed: Parsed) -> None:
    network = parsed.network
    for at in range(network.num_inputs):
        tensor = network.get_input(at)
        _refuse_tensor(parsed.library, tensor, "input")
        if tensor.is_shape_tensor:
            raise Unsupported(
                f"the graph's input {tensor.name} decides the shape of other tensors; such inputs are not served",
                field="spec.model.inputs",
                mend="export the model with shapes that follow from its data inputs",
            )
    for at in range(network.num_outputs):
        _refuse_tensor(parsed.library, network.get_output(at), "output")


def _refuse_tensor(library: Library, tensor: Any, role: str) -> None:
    if dtype_name(tensor.dtype) not in DTYPES:
        raise Unsupported(
            f"the graph's {role} {tensor.name} is of type {dtype_name(tensor.dtype)}; {library.label} is served with "
            f"{', '.join(sorted(DTYPES))}",
            field="spec.model.uri",
            mend=f"cast the {role} in the graph",
        )


def dtype_name(dtype: Any) -> str:
    """`DataType.FLOAT` as `FLOAT`."""
    return str(dtype.name)


def input_facts(parsed: Parsed) -> list[JsonValue]:
    """Name, element type and shape of every input."""
    network = parsed.network
    return [_tensor(network.get_input(at)) for at in range(network.num_inputs)]


def output_facts(parsed: Parsed) -> list[JsonValue]:
    """Name, element type and shape of every output."""
    network = parsed.network
    return [_tensor(network.get_output(at)) for at in range(network.num_outputs)]


def network_facts(parsed: Parsed) -> dict[str, JsonValue]:
    """What the parsed network is made of, before any fusion: it says nothing of what the engine computes with."""
    network = parsed.network
    kinds: Counter[str] = Counter()
    types: Counter[str] = Counter()
    for at in range(network.num_layers):
        layer = network.get_layer(at)
        kinds[str(layer.type.name)] += 1
        types.update(dtype_name(layer.get_output(k).dtype) for k in range(layer.num_outputs))
    return {
        "note": "of the network as it was parsed, not of the engine",
        "layers": int(network.num_layers),
        "layersByType": dict(sorted(kinds.items())),
        "tensorsByType": dict(sorted(types.items())),
    }


def _tensor(tensor: Any) -> JsonValue:
    dtype = np.dtype(DTYPES[dtype_name(tensor.dtype)]).name
    return {"name": str(tensor.name), "dtype": dtype, "shape": [int(size) for size in tensor.shape]}
