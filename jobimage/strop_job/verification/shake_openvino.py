"""OpenVINO models whose constants differ in their last bits."""

from pathlib import Path
from typing import Any

import numpy as np

from strop_job.backends import openvino_graphs as graphs
from strop_job.backends.openvino_library import ov
from strop_job.stages import Artifact
from strop_job.verification.rounding import shake

SMOOTH = frozenset(
    {"Add", "Convolution", "ConvolutionBackpropData", "Divide", "FakeQuantize", "Gather", "GroupConvolution", "MatMul",
     "Multiply", "MVN", "Subtract"}
)  # fmt: skip
"""What follows its constants without a jump, the ranges of quantizers included."""


def shaken(graph: Artifact, seed: int, folder: Path) -> Artifact:
    """A copy in an empty folder: weights and tables in floats, and ranges of quantizers, are moved."""
    model = graphs.read(graph)
    constants = [node for node in graphs.operations(model) if node.get_type_name() == "Constant"]
    for at, node in enumerate(constants):
        readers = list(node.output(0).get_target_inputs())
        if graphs.type_of(node.output(0)) == "f32" and _moves(node, readers):
            moved = ov.op.Constant(shake(np.asarray(node.data), seed + at))
            for reader in readers:
                reader.replace_source_output(moved.output(0))
    return Artifact(graph.kind, folder, graphs.write(model, folder / graphs.IR_FILES[0]), graph.facts)


def _moves(node: Any, readers: list[Any]) -> bool:
    kinds = {reader.get_node().get_type_name() for reader in readers}
    return bool(kinds) and kinds <= SMOOTH and (node.data.size > 1 or kinds == {"FakeQuantize"})
