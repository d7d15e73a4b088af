"""Whether samples of a batch influence one another: each is run in company and alone, and the answers are compared."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from strop_api.checks.graph import SAMPLES_MIXED
from strop_api.findings import Finding, Severity
from strop_job.audit.graph.exposing import Exposed
from strop_job.audit.graph.interface import Arrays, Interface, Sizes, made_up
from strop_job.audit.graph.reading import MOVES, Reading, read
from strop_job.audit.graph.running import Call, OutOfTime
from strop_job.backends.graphs import HALVES, all_nodes

FLOAT_NOISE, ROUNDING_NOISE = 1e-3, 2e-2
"""Relative RMS difference that another order of summation may make; more where it tips roundings."""
ROUNDING = frozenset({"QuantizeLinear", "QLinearConv", "QLinearMatMul", "DynamicQuantizeLinear", "MatMulNBits"})
RANGES_AT_RUN_TIME = frozenset({"DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"})
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"}
)
RECURRENT = frozenset({"LSTM", "GRU", "RNN", "Scan", "Loop", "DynamicQuantizeLSTM"})
STATIC = "Quantize statically where a sample's answer must not depend on its neighbours"
COMPANY = 3
"""Samples in the batch that is compared with single ones."""
Tensors = Mapping[str, NDArray[np.generic]]


@dataclass(frozen=True)
class Mixed:
    """An output whose samples differ alone and in company."""

    output: str
    difference: float
    """Relative RMS."""


def mixing_findings(model: onnx.ModelProto, call: Call, interface: Interface, below: int) -> list[Finding]:
    """Runs a small batch and its samples one by one; names the first node at which they part.

    `call` is the model opened. A graph that draws random numbers is not judged.
    """
    pair = pair_of(interface)
    if pair is None or any(node.op_type in RANDOM for node in all_nodes(model.graph)):
        return []
    found = mixed(call, interface, pair, below, noise_of(model))
    return [] if found is None else [_finding(model, interface, pair, below, found)]


def mixed(call: Call, interface: Interface, pair: tuple[Sizes, Sizes], below: int, noise: float) -> Mixed | None:
    """The output that differs most by more than `noise`; None where none does, or a size is not served."""
    company, alone = pair
    try:
        together, single = _both(call, interface, company, alone, below)
    except OutOfTime:
        raise
    except Exception:  # sizes that fail are another check's business
        return None
    copies = alone[str(interface.batch)]
    found = [Mixed(name, difference(value, [one[name] for one in single], copies)) for name, value in together.items()]
    worst = max(found, key=lambda one: one.difference, default=None)
    return worst if worst is not None and worst.difference > noise else None


def noise_of(model: onnx.ModelProto) -> float:
    """What another order of summation may make of the graph's floats."""
    rounds = any(node.op_type in ROUNDING for node in all_nodes(model.graph))
    half = any(weight.data_type in HALVES for weight in model.graph.initializer)
    return ROUNDING_NOISE if half or rounds else FLOAT_NOISE


def pair_of(interface: Interface) -> tuple[Sizes, Sizes] | None:
    """The sizes of a small batch, and of one sample: the smallest others that are tried."""
    batch = interface.batch
    if batch is None:
        return None
    served = sorted({sizes[batch] for sizes in interface.sizes})
    others = sorted(interface.sizes, key=lambda sizes: sum(n for a, n in sizes.items() if a != batch))
    middle = others[len(others) // 2]
    if served[0] == served[-1]:
        return None
    return {**middle, batch: min(served[-1], max(COMPANY, served[0]))}, {**middle, batch: served[0]}


def _both(call: Call, interface: Interface, company: Sizes, alone: Sizes, below: int) -> tuple[Tensors, list[Tensors]]:
    """Outputs of the batch, and of each of its samples; a graph that takes no single one gets it several times."""
    batch = str(interface.batch)
    inputs = made_up(interface, company, below)
    single = [call(_rows(interface, inputs, [row] * alone[batch])) for row in range(company[batch])]
    return call(inputs), single


def _rows(interface: Interface, inputs: Arrays, rows: list[int]) -> Arrays:
    cut: Arrays = {}
    for given in interface.inputs:
        axis = given.shape.index(interface.batch) if interface.batch in given.shape else None
        cut[given.name] = inputs[given.name] if axis is None else np.take(inputs[given.name], rows, axis=axis)
    return cut


def difference(together: NDArray[np.generic], single: list[NDArray[np.generic]], copies: int = 1) -> float:
    """Relative RMS between a batch's samples and the same alone, each there `copies` times.

    The batch is the one axis whose size differs; a tensor without one must be the same in every call. 0 for shapes that
    cannot be matched, such as those that depend on the values.
    """
    shape, alone, count = together.shape, single[0].shape, len(single)
    axes = [at for at, (a, b) in enumerate(zip(shape, alone, strict=False)) if a != b]
    if len(shape) != len(alone) or len(axes) > 1 or any(one.shape != alone for one in single):
        return 0.0
    if not axes:
        return max(_relative(together, one) for one in single)
    axis, each = axes[0], alone[axes[0]] // copies
    if shape[axis] != each * count or alone[axis] != each * copies:
        return 0.0
    company = np.split(together, count, axis=axis)
    return max(_relative(a, np.split(b, copies, axis=axis)[0]) for a, b in zip(company, single, strict=True))


def _relative(a: NDArray[np.generic], b: NDArray[np.generic]) -> float:
    if a.dtype.kind not in "fiub":
        return 0.0
    x, y = (np.nan_to_num(np.asarray(v, np.float64)) for v in (a, b))
    scale = float(np.sqrt(np.mean(np.square(y)))) if y.size else 0.0
    apart = float(np.sqrt(np.mean(np.square(x - y)))) if y.size else 0.0
    return apart / scale if scale else float(apart > 0)


def _finding(
    model: onnx.ModelProto, interface: Interface, pair: tuple[Sizes, Sizes], below: int, found: Mixed
) -> Finding:
    reading = read(model)
    node = first_mixing(reading, interface, pair, below, noise_of(model))
    who = f", first in {node.op_type} `{node.name or node.output[0]}`" if node is not None else ""
    message = (
        f"output `{found.output}` of a sample differs by {found.difference:.2g} (relative RMS) between a batch of "
        f"{pair[0][str(interface.batch)]} and alone{who}"
    )
    if node is not None and node.op_type in RECURRENT and not interface.promised:
        return SAMPLES_MIXED.finding(f"{message}: the first axis is its sequence", severity=Severity.LOW)
    if (at := _ranged_at_run_time(reading, node)) is not None:
        message = f"{message}, after {at.op_type} `{at.name or at.output[0]}`"
        return SAMPLES_MIXED.finding(f"{message}: its range is the whole batch's", severity=Severity.LOW, mend=STATIC)
    return SAMPLES_MIXED.finding(message)


def _ranged_at_run_time(reading: Reading, node: onnx.NodeProto | None, steps: int = 4) -> onnx.NodeProto | None:
    """The node at which, or shortly before which, a range over the whole batch is taken; None without one."""
    if node is None or node.op_type in RANGES_AT_RUN_TIME or steps == 0:
        return node if node is not None and node.op_type in RANGES_AT_RUN_TIME else None
    before = (_ranged_at_run_time(reading, reading.maker(name), steps - 1) for name in node.input)
    return next((found for found in before if found is not None), None)


def first_mixing(
    reading: Reading, interface: Interface, pair: tuple[Sizes, Sizes], below: int, noise: float
) -> onnx.NodeProto | None:
    """The first node whose operands agree alone and in company and whose result does not; None when not found."""
    company, alone = pair
    try:
        together, single = _both(Exposed(reading), interface, company, alone, below)
    except OutOfTime:
        raise
    except Exception:  # some tensors cannot be outputs; the finding stands without a node
        return None
    copies = alone[str(interface.batch)]
    floats = {name: value for name, value in together.items() if value.dtype.kind == "f" and name in single[0]}
    apart = {n for n, value in floats.items() if difference(value, [one[n] for one in single], copies) > noise}
    for node in reading.nodes:
        if node.op_type not in MOVES and apart.intersection(node.output) and not apart.intersection(node.input):
            return node
    return None
