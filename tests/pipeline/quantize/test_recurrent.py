"""A recurrent detector: its compute is counted, and a quantization that breaks its probabilities is not overlooked.

The model is silero-vad's graph over a sequence of windows, begun from an empty state; where that package is not
installed, the tests that need its trained weights say so.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from strop_api.steps import Precision
from strop_api.targets import Runtime, Target
from strop_job.backends import backend_for
from strop_job.stages import Artifact, ArtifactKind
from strop_job.steps.compile import compile_stage
from strop_job.steps.export import export_stage
from strop_job.steps.quantize import quantize_stage
from strop_job.steps.verify import verify_stage

from .conftest import Bench

CPU = Target(name="cpu", runtime=Runtime.ONNX_RUNTIME)
RATE, WINDOW, OVERLAP = 16_000, 512, 64
SPEC: dict[str, Any] = {
    "model": {
        "uri": "s3://models/silero/model.onnx",
        "format": "Onnx",
        "inputs": [{"name": "input", "dtype": "float32", "shape": ["frames", WINDOW + OVERLAP]}],
        "dimensions": [{"name": "frames", "min": 1, "opt": 32, "max": 128}],
    },
    "task": {"type": "Regression", "metric": "mae", "labels": "label"},
    "data": {
        "calibration": {"uri": "s3://data/calibration.npz", "format": "Npz"},
        "evaluation": {"uri": "s3://data/evaluation.npz", "format": "Npz"},
    },
    "targets": [{"name": "cpu", "runtime": "ONNXRuntime"}],
    "output": {"uri": "s3://engines/silero"},
}


def recurrent(kind: str, gates: int) -> onnx.ModelProto:
    """[steps, 2, 8] through a cell of 16, both directions."""
    random = np.random.default_rng(0)
    shapes = {"w": (2, gates * 16, 8), "r": (2, gates * 16, 16)}
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", *shapes], ["y"], name="cell", hidden_size=16, direction="bidirectional")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["steps", 2, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["steps", 2, 2, 16])],
        [numpy_helper.from_array(random.standard_normal(s).astype(np.float32), n) for n, s in shapes.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.mark.parametrize(("kind", "gates"), [("LSTM", 4), ("GRU", 3), ("RNN", 1)])
def test_compute_of_recurrent_layers_is_counted(tmp_path: Path, kind: str, gates: int) -> None:
    """An engine whose heaviest layer stays in fp32 would count as all INT8."""
    onnx.save(recurrent(kind, gates), tmp_path / "model.onnx")
    graph = Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("model.onnx",))
    found = backend_for(Runtime.ONNX_RUNTIME).inspect(graph, CPU, {"x": (5, 2, 8)})
    assert found.macs == 5 * 2 * 2 * gates * 16 * (8 + 16)
    assert found.macs_by_format == {"fp32": found.macs}
    assert found.note == ""


def test_compute_of_transposed_convolutions_is_counted(tmp_path: Path) -> None:
    """A decoder's compute would be missing from the whole."""
    weight = numpy_helper.from_array(np.ones((3, 4, 2, 2), np.float32), "w")
    ends = [("x", ["batch", 3, 8, 8]), ("y", ["batch", 4, 16, 16])]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in ends]
    node = helper.make_node("ConvTranspose", ["x", "w"], ["y"], name="up", strides=[2, 2])
    graph = helper.make_graph([node], "g", infos[:1], infos[1:], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), tmp_path / "m.onnx")
    made = Artifact(ArtifactKind.ONNX_GRAPH, tmp_path, ("m.onnx",))
    assert backend_for(Runtime.ONNX_RUNTIME).inspect(made, CPU, {"x": (2, 3, 8, 8)}).macs == 2 * 3 * 8 * 8 * 4 * 4


def voice(seconds: int, seed: int) -> np.ndarray:
    """Vowels by their formants over a gliding pitch, four a second with pauses, in noise: enough like a voice."""
    random, at = np.random.default_rng(seed), np.arange(seconds * RATE) / RATE
    pitch = 120 + 20 * np.sin(2 * np.pi * 2.3 * at) + 10 * random.standard_normal()
    phase, syllable = 2 * np.pi * np.cumsum(pitch) / RATE, (at * 4).astype(int) % 4
    formants = np.array([(730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480)])[syllable].T
    harmonics = ((k, sum(1 / (1 + ((k * pitch - f) / 90) ** 2) for f in formants)) for k in range(1, 40))
    tone = sum(gain * np.sin(k * phase) / np.sqrt(k) for k, gain in harmonics)
    envelope = np.sqrt(np.sin(np.pi * (at * 4 % 1))) * (at % 6 < 3)
    return (0.08 * tone * envelope + 0.005 * random.standard_normal(len(at))).astype(np.float32)


def windows(sound: np.ndarray) -> np.ndarray:
    """[n, 576]: each window of 32 ms with the last 4 ms before it."""
    padded = np.concatenate([np.zeros(OVERLAP, np.float32), sound])
    starts = range(0, len(sound) - WINDOW + 1, WINDOW)
    return np.stack([padded[start : start + WINDOW + OVERLAP] for start in starts])


@pytest.fixture
def silero(bench: Callable[..., Bench], tmp_path: Path) -> Callable[..., Bench]:
    """A bench with silero-vad, its state an empty constant; keywords set the quantize step."""
    package = importlib.util.find_spec("silero_vad")
    if package is None or package.origin is None:
        pytest.skip("silero-vad is not installed: pip install --no-deps -r requirements/samples.lock")
    model = onnx.load(Path(package.origin).parent / "data" / "silero_vad_16k_sequence.onnx")
    sound, probabilities = model.graph.input[0], model.graph.output[0]
    state = np.zeros((1, 1, 128), np.float32)
    model.graph.initializer.extend(numpy_helper.from_array(state, name) for name in ("h", "c"))
    for values, kept in ((model.graph.input, sound), (model.graph.output, probabilities)):
        copy = onnx.ValueInfoProto.FromString(kept.SerializeToString())
        del values[:]
        values.append(copy)
    onnx.save(model, tmp_path / "model.onnx")
    np.savez(tmp_path / "calibration.npz", input=windows(voice(12, 1)))
    evaluation = windows(voice(12, 2))
    np.savez(tmp_path / "evaluation.npz", input=evaluation, label=np.zeros(len(evaluation), np.float32))

    def make(**quantize: Any) -> Bench:
        ready = bench({**SPEC, "steps": [{"name": "int8", "type": "Quantize", "quantize": quantize}]})
        ready.give("resolve-model", ArtifactKind.SOURCE, tmp_path / "model.onnx")
        ready.give("resolve-calibration", ArtifactKind.DATA, tmp_path / "calibration.npz")
        ready.give("resolve-evaluation", ArtifactKind.DATA, tmp_path / "evaluation.npz")
        ready.run(export_stage(ready.spec))
        return ready

    return make


def verified(bench: Bench) -> dict[str, Any]:
    """Facts of verify, after all that it needs."""
    target = bench.spec.targets[0]
    bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, target))
    bench.run(compile_stage("compile", "int8", bench.spec, target))
    bench.run(compile_stage("compile-original", "export", bench.spec, target))
    return dict(bench.run(verify_stage(bench.spec, target, "int8")).facts)


@pytest.mark.parametrize("method", ["Static", "Dynamic"])
def test_int8_of_everything_breaks_silero_and_the_figures_say_so(silero: Callable[..., Bench], method: str) -> None:
    """Probabilities move by half and more: with a figure that hides it, a detector that hears nothing is published."""
    bench = silero(precision="int8", method=method)
    facts = verified(bench)
    assert facts["fidelity"]["sqnrDecibels"] < 15
    assert bench.made["int8"].facts["cosine"] < 0.97
    assert facts["parity"]["passed"] is True


def test_the_layers_that_bear_int8_keep_silero_whole(silero: Callable[..., Bench]) -> None:
    """The mend must work: the recurrent layer alone, quantized at run time."""
    bench = silero(precision="int8", method="Dynamic", op_types=["LSTM"])
    facts = verified(bench)
    assert facts["fidelity"]["sqnrDecibels"] > 30
    inspected = facts["inspection"]["macsByFormat"]
    share = inspected["int8"] / sum(inspected.values())
    assert 0.1 < share < 0.5
    assert bench.spec.steps[0].quantize is not None
    assert bench.spec.steps[0].quantize.precision is Precision.INT8
