"""INT8 with ranges observed beforehand (pt2e): rewritten so that Inductor finds oneDNN's integer kernels in it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from pydantic import JsonValue
from torchao.quantization.pt2e import PerChannelMinMaxObserver
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e
from torchao.quantization.pt2e.quantizer import QuantizationConfig, QuantizationSpec
from torchao.quantization.pt2e.quantizer.x86_inductor_quantizer import X86InductorQuantizer, default_quantizable_ops

from strop_api.steps import QuantizeStep
from strop_api.support import IntegerFormat
from strop_job.errors import InvalidInput
from strop_job.models.torch_programs import tensor
from strop_job.steps.quantize.samples import CalibrationBatches
from strop_job.steps.quantize.torch_program.observers import (
    FIELD,
    SMALLEST_SCALE,
    activation_observers,
    not_finite,
    observer_for,
    range_facts,
)
from strop_job.steps.quantize.torch_program.selection import (
    CONVOLUTIONS,
    LINEAR,
    Selection,
    compute_nodes,
    select,
)

# mypy: disable-error-code="misc"
# torchao is not followed by the type checker, so its quantizer is Any.

QUANTIZABLE = frozenset(default_quantizable_ops) & (CONVOLUTIONS | LINEAR)
FUNCTIONS = {"Conv": (F.conv1d, F.conv2d), "Gemm": (F.linear,), "MatMul": (F.linear,)}
DEQUANTIZE = "quantized_decomposed.dequantize"
FORMAT = IntegerFormat.U8S8


class Quantizer(X86InductorQuantizer):
    """torchao's recipe for x86 (uint8 activations, int8 weights per channel), less the layers that are kept."""

    def __init__(self, config: QuantizationConfig, step: QuantizeStep, index: int) -> None:
        super().__init__()
        self._step, self._index = step, index
        self.selection: Selection | None = None
        for op_type in step.op_types:
            for function in FUNCTIONS.get(op_type, ()):
                self.set_function_type_qconfig(function, config)
        if not step.op_types:
            self.set_global(config)

    def annotate(self, model: torch.fx.GraphModule) -> torch.fx.GraphModule:
        """Marks what is kept before the recipe looks; by now convolutions have taken up their norms."""
        self.selection = select(self._step, self._index, model.graph, QUANTIZABLE)
        kept = self.selection.excluded | {node.name for node in one_channel(model.graph)}
        self.selection = replace(self.selection, excluded=kept)
        keep = [node for node in model.graph.nodes if node.name in kept]
        for node in keep:
            self._annotate_with_config(model, None, lambda nodes, node=node: node in nodes)
        marked: torch.fx.GraphModule = super().annotate(model)
        return marked


def quantize(
    module: torch.fx.GraphModule, step: QuantizeStep, index: int, batches: CalibrationBatches, *, reduced: bool
) -> tuple[torch.fx.GraphModule, dict[str, JsonValue]]:
    """The module in integers, and facts. Raises InvalidInput when nothing became an integer."""
    quantizer = Quantizer(config_for(step, reduced=reduced), step, index)
    prepared = prepare_pt2e(module, quantizer)
    samples = _observe(prepared, batches)
    ranges = [range_facts(name, observer) for name, observer in activation_observers(prepared).items()]
    made = convert_pt2e(prepared)
    drop_unused(made)
    found = integer_nodes(made.graph)
    if not found:
        raise InvalidInput(
            "nothing was quantized: no convolution or linear layer of the program became an integer one",
            field=f"spec.steps[{index}].quantize",
            mend="check opTypes and excludeNodes",
        )
    assert quantizer.selection is not None
    facts: dict[str, JsonValue] = {
        "format": FORMAT.value,
        "quantized": dict(sorted(found.items())),
        "opTypes": list(quantizer.selection.op_types),
        "excluded": [*sorted(quantizer.selection.excluded)],
        "calibration": _calibration_facts(step, ranges, samples),
    }
    return made, facts


def config_for(step: QuantizeStep, *, reduced: bool) -> QuantizationConfig:
    """torchao's default for x86 with the step's calibrator. `reduced`: activations keep to 7 bits, for CPUs without
    VNNI, where two products would overflow 16 bits."""
    activation = QuantizationSpec(
        dtype=torch.uint8,
        quant_min=0,
        quant_max=127 if reduced else 255,
        qscheme=torch.per_tensor_affine,
        observer_or_fake_quant_ctr=observer_for(step),
    )
    weight = QuantizationSpec(
        dtype=torch.int8,
        quant_min=-128,
        quant_max=127,
        qscheme=torch.per_channel_symmetric,
        ch_axis=0,
        observer_or_fake_quant_ctr=PerChannelMinMaxObserver.with_args(eps=SMALLEST_SCALE),
    )
    return QuantizationConfig(activation, activation, weight, None, False)


def one_channel(graph: torch.fx.Graph) -> Iterator[torch.fx.Node]:
    """Convolutions of one channel stay float: Inductor mistakes the layout of what their integer kernel returns.

    Such an input is contiguous and channels-last at once; torch 2.15 generates loops for the one, the kernel returns
    the other, and the engine computes something else without a word.
    """
    convolutions = (node for node in graph.nodes if node.op == "call_function" and node.target in CONVOLUTIONS)
    return (node for node in convolutions if node.args[0].meta["val"].shape[1] == 1)


def integer_nodes(graph: torch.fx.Graph) -> Counter[str]:
    """Convolutions and products whose operands are both dequantized, by operator."""
    found = (node for node in compute_nodes(graph) if all(_dequantized(a) for a in node.args[:2]))
    return Counter(str(node.target).removeprefix("aten.").partition(".")[0] for node in found)


def drop_unused(module: torch.fx.GraphModule) -> None:
    """Weights that only their integer copies still stand for would double the file."""
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    held = [*dict(module.named_parameters()), *dict(module.named_buffers())]
    for name in (name for name in held if name not in used):
        owner, _, attribute = name.rpartition(".")
        delattr(module.get_submodule(owner), attribute)


def _observe(prepared: torch.fx.GraphModule, batches: CalibrationBatches) -> int:
    samples = 0
    for batch in batches:
        if not all(torch.isfinite(tensor(a)).all() for a in batch.values() if a.dtype.kind == "f"):
            raise not_finite()
        prepared(**{name: tensor(array) for name, array in batch.items()})
        samples += len(next(iter(batch.values())))
        batches.tell(samples)
    if not samples:
        raise InvalidInput("there is no calibration sample", field=FIELD, mend="give at least one")
    return batches.seen


def _dequantized(argument: Any) -> bool:
    """Whether a value was an integer, whatever only moved it since."""
    while isinstance(argument, torch.fx.Node):
        if str(argument.target).startswith(DEQUANTIZE):
            return True
        if len(argument.all_input_nodes) != 1:
            return False
        argument = argument.all_input_nodes[0]
    return False


def _calibration_facts(step: QuantizeStep, ranges: Iterable[Mapping[str, Any]], samples: int) -> dict[str, JsonValue]:
    tensors = [dict(entry) for entry in ranges]
    return {
        "calibrator": step.calibrator.value,
        "samples": samples,
        "tensors": list(tensors),
        "largestClippedShare": max((float(entry["clippedShare"]) for entry in tensors), default=0.0),
    }
