"""The verify stage: parity, fidelity and the metric, on real models and with planted errors."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest

from strop_api.model import ModelSource
from strop_job.errors import InvalidInput
from strop_job.judgement.gates import judge
from strop_job.stages import Artifact, ArtifactKind
from strop_job.steps.compile import compile_stage
from strop_job.steps.quantize import quantize_stage
from strop_job.steps.verify import verify_stage
from strop_job.verification import parity
from strop_job.verification.fidelity import Fidelity

from .conftest import CNN_SPEC, Bench, small_cnn

Maker = Callable[..., Bench]
CONV_MATMUL = {"method": "Static", "op_types": ["Conv", "MatMul"], "per_channel": False}


def prepared(bench: Bench) -> Bench:
    """Everything that verify needs."""
    target = bench.spec.targets[0]
    bench.run(quantize_stage(bench.spec.steps[0], "export", bench.spec, target))
    bench.run(compile_stage("compile", "int8", bench.spec, target))
    bench.run(compile_stage("compile-original", "export", bench.spec, target))
    return bench


def verified(bench: Bench, **instead: Artifact) -> Artifact:
    return bench.run(verify_stage(bench.spec, bench.spec.targets[0], "int8"), **instead)


def test_magika_passes_parity_and_keeps_its_metric(magika: Maker) -> None:
    """The whole stage on a real model: figures must be there, plausible and consistent with the raw samples."""
    made = verified(prepared(magika(**CONV_MATMUL)))
    facts = made.facts
    assert facts["parity"]["worst"] <= facts["parity"]["tolerance"]
    assert facts["originalParity"]["passed"] is True
    assert {tuple(p["sizes"].values()) for p in facts["parity"]["shapes"]} == {(1,), (3,), (4,), (11,), (16,)}
    assert facts["fidelity"]["agreement"] >= 0.95
    assert facts["fidelity"]["samples"] == facts["metric"]["samples"] == 192
    assert facts["metric"]["original"] == pytest.approx(0.9, abs=0.02)
    inspected = facts["inspection"]
    assert inspected["macsByFormat"]["int8"] > 0.95 * inspected["macs"]
    with np.load(made.folder / "samples.npz", allow_pickle=False) as arrays:
        assert arrays["original"].mean() == pytest.approx(facts["metric"]["original"])
        assert arrays["optimized"].mean() == pytest.approx(facts["metric"]["optimized"])
        same = arrays["original_predictions"] == arrays["optimized_predictions"]
    assert same.mean() == pytest.approx(facts["fidelity"]["agreement"])
    json.dumps(facts, allow_nan=False)


def test_an_unchanged_model_is_its_own_equal(cnn: Maker) -> None:
    """With no step the original is compared with itself: any difference is the stage's own."""
    bench = cnn()
    target = bench.spec.targets[0]
    bench.run(compile_stage("compile", "export", bench.spec, target))
    bench.run(compile_stage("compile-original", "export", bench.spec, target))
    facts = bench.run(verify_stage(bench.spec, target, "export")).facts
    assert facts["fidelity"]["cosine"] == pytest.approx(1.0)
    assert facts["fidelity"]["sqnrDecibels"] == 200.0
    assert facts["metric"]["original"] == facts["metric"]["optimized"]
    assert facts["parity"]["worst"] < 1e-5


@pytest.mark.parametrize("planted", ["the original", "other weights", "another quantization"])
def test_an_engine_of_another_graph_fails_parity(cnn: Maker, tmp_path: Path, planted: str) -> None:
    """Figures would be those of a model that nobody asked about."""
    bench = prepared(cnn())
    other = {
        "the original": lambda: bench.made["compile-original"],
        "other weights": lambda: compiled(bench, other_weights(tmp_path)),
        "another quantization": lambda: compiled(bench, coarser(bench)),
    }[planted]()
    facts = verified(bench, compile=other).facts
    assert facts["parity"]["worst"] > facts["parity"]["tolerance"]
    assert facts["parity"]["passed"] is False


def compiled(bench: Bench, graph: Artifact) -> Artifact:
    return bench.run(compile_stage("compile", "planted", bench.spec, bench.spec.targets[0]), planted=graph)


def other_weights(folder: Path) -> Artifact:
    onnx.save(small_cnn(seed=1), folder / "other.onnx")
    return Artifact(ArtifactKind.ONNX_GRAPH, folder, ("other.onnx",))


def coarser(bench: Bench) -> Artifact:
    step = bench.spec.steps[0]
    assert step.quantize is not None
    changed = step.quantize.model_copy(update={"per_channel": False})
    asked = step.model_copy(update={"name": "coarser", "quantize": changed})
    return bench.run(quantize_stage(asked, "export", bench.spec, bench.spec.targets[0]))


def cnn_ending_in(*ops: str) -> onnx.ModelProto:
    """The small CNN with element-wise operators behind its scores."""
    model = small_cnn()
    model.graph.node[-1].output[0] = "step0"
    for i, op in enumerate(ops):
        last = i == len(ops) - 1
        model.graph.node.append(
            onnx.helper.make_node(op, [f"step{i}"], ["scores" if last else f"step{i + 1}"], name=op)
        )
    return model


@pytest.mark.parametrize("asked", [{"method": "Dynamic"}, {"precision": "fp16", "method": "Cast"}])
def test_an_original_that_yields_nan_is_refused(cnn: Maker, asked: dict[str, str]) -> None:
    """Both sides would score the same nothing, no gate would be missed, and it would be published."""
    bench = prepared(cnn(cnn_ending_in("Abs", "Neg", "Log"), **asked))
    with pytest.raises(InvalidInput, match=r"NaN or infinity on the evaluation data.*`scores` for \d+ of") as caught:
        verified(bench)
    assert caught.value.field == "spec.model.uri"


def test_one_sample_on_which_the_original_yields_nan_is_counted(cnn: Maker) -> None:
    """A later sample than those of the parity check would go unseen."""
    random = np.random.default_rng(2)
    images = random.standard_normal((40, 3, 16, 16)).astype(np.float32)
    images[37] = 3e38
    bench = prepared(cnn(images=images, method="Dynamic"))
    with pytest.raises(InvalidInput, match="`scores` for 1 of 40 samples"):
        verified(bench)


def test_an_engine_that_yields_nan_where_the_original_does_not_misses_parity(cnn: Maker) -> None:
    """With a gate on latency alone, NaN would be published."""
    bench = prepared(cnn())
    broken = bench.folder / "broken.onnx"
    onnx.save(cnn_ending_in("Abs", "Neg", "Log"), broken)
    graph = Artifact(ArtifactKind.ONNX_GRAPH, broken.parent, (broken.name,))
    made = verified(bench, int8=graph, compile=compiled(bench, graph))
    assert made.facts["parity"]["worst"] is None
    assert made.facts["parity"]["passed"] is False
    judged = judge(bench.spec, bench.spec.targets[0], made, None, 1).gates[0]
    assert (judged.gate, judged.verdict) == ("compileParity", "Missed")
    assert "NaN or infinite at batch=1" in judged.message


def test_a_right_engine_passes_parity_at_every_recipe(cnn: Maker) -> None:
    """A check that cries wolf would stop good runs."""
    for asked in (
        {"method": "Static"},
        {"method": "Static", "calibrator": "Entropy"},
        {"method": "Dynamic"},
        {"precision": "fp16", "method": "Cast"},
    ):
        facts = verified(prepared(cnn(**asked))).facts
        assert facts["parity"]["passed"] is True, (asked, facts["parity"])


def test_sizes_cover_both_ends_the_optimum_and_two_odd_ones() -> None:
    """A kernel that is wrong only for a remainder would go unseen."""
    model = ModelSource.model_validate(
        {
            **CNN_SPEC["model"],
            "inputs": [{"name": "ids", "dtype": "int64", "shape": ["batch", "sequence"]}],
            "dimensions": [
                {"name": "batch", "min": 1, "opt": 8, "max": 32},
                {"name": "sequence", "min": 4, "opt": 64, "max": 128},
            ],
        }
    )
    sizes = parity.sizes_to_try(model)
    assert [s["batch"] for s in sizes] == [1, 5, 8, 21, 32]
    assert [s["sequence"] for s in sizes] == [4, 35, 64, 97, 128]


def test_a_model_of_fixed_shape_is_tried_once() -> None:
    """There is nothing to vary."""
    fixed = {**CNN_SPEC["model"], "dimensions": []}
    fixed["inputs"] = [{"name": "image", "dtype": "float32", "shape": [2, 3, 16, 16]}]
    assert parity.sizes_to_try(ModelSource.model_validate(fixed)) == [{}]


def test_fidelity_is_the_same_however_samples_are_cut() -> None:
    """Figures would depend on the batch size."""
    random = np.random.default_rng(0)
    a = random.standard_normal((30, 7))
    b = a + 0.1 * random.standard_normal(a.shape)
    whole, pieces = Fidelity(classes=True), Fidelity(classes=True)
    whole.add(a, b)
    for start in range(0, 30, 4):
        pieces.add(a[start : start + 4], b[start : start + 4])
    assert pieces.facts() == pytest.approx(whole.facts())
    assert whole.facts()["sqnrDecibels"] == pytest.approx(20, abs=1)


def test_nan_counts_as_a_wrong_answer_and_stays_json() -> None:
    """NaN in a mean hides everything else, and is no JSON."""
    fidelity = Fidelity(classes=True)
    fidelity.add(np.ones((4, 3)) * [1, 2, 3], np.array([[1, 2, 3], [1, np.nan, 3], [1, 2, 3], [np.inf, 2, 3]]))
    facts = fidelity.facts()
    assert facts["notFinite"] == 2
    assert facts["agreement"] == pytest.approx(0.5)
    assert facts["cosine"] == pytest.approx(0.5)
    json.dumps(facts, allow_nan=False)


def test_a_single_number_has_no_cosine() -> None:
    """It would be 1 whatever the engine answers, and a gate on it would pass every broken regression."""
    fidelity = Fidelity(classes=False)
    fidelity.add(np.array([[0.9], [0.1]]), np.array([[0.1], [0.9]]))
    assert "cosine" not in fidelity.facts()
    assert fidelity.facts()["sqnrDecibels"] < 1


def test_progress_grows_through_the_stage(cnn: Maker) -> None:
    """The percentage in status would jump back."""
    bench = prepared(cnn())
    bench.told.clear()
    verified(bench)
    shares = [share for share, _ in bench.told]
    assert shares == sorted(shares)
    assert 0.0 <= shares[0] <= shares[-1] <= 1.0
