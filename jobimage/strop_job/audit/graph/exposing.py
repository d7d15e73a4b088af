"""Every tensor of a graph as an output, to see where something first goes wrong."""

from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from strop_job.audit.graph.interface import Arrays
from strop_job.audit.graph.reading import Reading
from strop_job.audit.graph.running import OutOfTime, open_model

MOST_TENSORS = 4000


def exposed(reading: Reading) -> onnx.ModelProto:
    """A copy that yields every live tensor of its main graph."""
    copy = onnx.ModelProto()
    copy.CopyFrom(reading.model)
    del copy.graph.value_info[:]
    given = {output.name for output in copy.graph.output}
    made = [name for node in reading.nodes for name in node.output if name in reading.live and name not in given]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in made[:MOST_TENSORS])
    return copy


class Exposed:
    """Calls a graph and yields all its live tensors."""

    def __init__(self, reading: Reading) -> None:
        self._call = open_model(exposed(reading))

    def __call__(self, inputs: Arrays) -> Mapping[str, NDArray[np.generic]]:
        """Every tensor by name."""
        return self._call(inputs)


def shapes_of_products(reading: Reading, inputs: Arrays) -> dict[str, tuple[int, ...]]:
    """Shapes of all tensors in one call on these inputs; empty where the graph does not run on them."""
    try:
        return {name: tuple(value.shape) for name, value in Exposed(reading)(inputs).items()}
    except OutOfTime:
        raise
    except Exception:  # whoever asks has another figure to fall back on
        return {}
