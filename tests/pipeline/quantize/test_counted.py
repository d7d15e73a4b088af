"""Compute that nobody counts is told, so that no share of a part is called one of all."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.steps import Precision
from strop_api.targets import Runtime, Target
from strop_job.backends import backend_for
from strop_job.backends.profile import is_heavy, is_uncounted
from strop_job.stages import Artifact, ArtifactKind

MULTIPLY = (
    "Attention", "QAttention", "GroupQueryAttention", "PackedMultiHeadAttention", "LinearAttention", "MatMulBnb4",
    "DeformConv", "CausalConvWithState", "GemmFastGelu", "GemmFloat8", "MoE", "QMoE", "Einsum",
    "TRTKernel_graph_main_0",
)  # fmt: skip
COUNTED = ("Conv", "ConvInteger", "QLinearConv", "FusedGemm", "MatMulNBits", "DynamicQuantizeLSTM", "GRU", "RNN")
MOVE = ("ReorderInput", "ReorderOutput", "Convert", "ConvertLike", "Cast", "Add", "Softmax", "MaxPool", "Transpose")


@pytest.mark.parametrize("operator", MULTIPLY)
def test_operators_that_multiply_and_have_no_formula_are_uncounted(operator: str) -> None:
    """They would weigh nothing: the share of INT8 of a model of nothing else would be 100 %."""
    assert is_uncounted(operator)


@pytest.mark.parametrize("operator", [*COUNTED, *MOVE])
def test_what_is_counted_or_moves_is_not_called_uncounted(operator: str) -> None:
    """No engine would have a share."""
    assert not is_uncounted(operator)
    assert is_heavy(operator) is (operator in COUNTED)


def test_an_engine_with_an_operator_without_a_formula_has_no_share(tmp_path: Path) -> None:
    """Weights of 4 bits in another operator than the usual: half of the compute would be missing from the whole."""
    random = np.random.default_rng(0)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["between"], name="plain"),
        helper.make_node(
            "MatMulBnb4", ["between", "packed", "absmax"], ["y"], name="narrow", domain="com.microsoft",
            K=32, N=32, block_size=32, quant_type=1,
        ),
    ]  # fmt: skip
    weights = {
        "w": random.standard_normal((32, 32)).astype(np.float32),
        "packed": random.integers(0, 256, 32 * 16).astype(np.uint8),
        "absmax": np.ones(32, np.float32),
    }
    given, made = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4, 32]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [given], [made], [numpy_helper.from_array(v, n) for n, v in weights.items()])
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path / "engine.onnx")
    engine = Artifact(ArtifactKind.ENGINE, tmp_path, ("engine.onnx",))
    found = backend_for(Runtime.ONNX_RUNTIME).inspect(
        engine, Target(name="cpu", runtime=Runtime.ONNX_RUNTIME), {"x": (4, 32)}
    )
    assert found.uncounted == {"MatMulBnb4": 1}
    assert found.note == "1 MatMulBnb4 not counted"
    assert found.macs_by_format == {"fp32": 4 * 32 * 32}
    assert found.share(Precision.INT8) is None
