"""Calibration: agrees with ONNX Runtime's own, and depends on the values alone."""

import contextlib
import io
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnxruntime.quantization import CalibrationDataReader
from onnxruntime.quantization.calibrate import (
    EntropyCalibrater,
    HistogramCollector,
    MinMaxCalibrater,
    PercentileCalibrater,
)

from strop_api.steps import QuantizeStep
from strop_job.calibration import calibrate, float_tensors
from strop_job.calibration.histogram import BINS_PER_SIDE, Histogram
from strop_job.calibration.thresholds import entropy, entropy_half_bins, percentile
from strop_job.errors import Unsupported
from strop_job.stages import Artifact, ArtifactKind
from strop_job.steps.quantize.onnx_graph.prepare import Prepared, prepare

OPERATORS = ["Conv", "MatMul"]


class Reader(CalibrationDataReader):
    """ONNX Runtime's way of being fed."""

    def __init__(self, batches: list[dict[str, np.ndarray]]) -> None:
        self._batches: Iterator[dict[str, np.ndarray]] = iter(batches)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


@pytest.fixture(scope="module")
def prepared(magika_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Prepared:
    graph = Artifact(ArtifactKind.ONNX_GRAPH, magika_model.parent, (magika_model.name,))
    return prepare(graph, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def batches(magika_bytes: np.ndarray) -> list[dict[str, np.ndarray]]:
    return [{"bytes": magika_bytes[i : i + 16]} for i in range(0, 128, 16)]


def theirs(make: Callable[..., object], prepared: Prepared, batches: list[dict[str, np.ndarray]], **options: object):
    """Ranges by ONNX Runtime's calibrator, which holds all activations in memory."""
    augmented = prepared.path.with_name("augmented.onnx")
    calibrator = make(prepared.path, OPERATORS, augmented_model_path=str(augmented), **options)
    with contextlib.redirect_stdout(io.StringIO()):
        calibrator.augment_graph()
        calibrator.create_inference_session()
        calibrator.collect_data(Reader(batches))
        found = calibrator.compute_data()
    return {name: tuple(float(np.squeeze(x)) for x in data.range_value) for name, data in found.items()}


def ours(prepared: Prepared, batches: list[dict[str, np.ndarray]], **step: str) -> dict[str, tuple[float, float]]:
    nodes = [n for n in prepared.model.graph.node if n.op_type in OPERATORS]
    config = QuantizeStep(precision="int8", method="Static", **step)
    found = calibrate(prepared.model, float_tensors(prepared.model, nodes), batches, config, threads=2)
    return {name: (r.low, r.high) for name, r in found.items()}


def test_min_max_agrees_with_the_runtime(prepared: Prepared, batches: list[dict[str, np.ndarray]]) -> None:
    """Other ranges than ONNX Runtime's on the same tensors: one of the two looks at something else."""
    expected, found = theirs(MinMaxCalibrater, prepared, batches), ours(prepared, batches)
    assert found.keys() == expected.keys()
    for name, (low, high) in expected.items():
        assert found[name] == pytest.approx((low, high), rel=1e-5), name


def test_percentile_agrees_with_the_runtime_to_a_bin(prepared: Prepared, batches: list[dict[str, np.ndarray]]) -> None:
    """The share that is kept would not be the one asked for."""
    expected = theirs(PercentileCalibrater, prepared, batches, symmetric=True, num_bins=2048, percentile=99.9)
    found = ours(prepared, batches, calibrator="Percentile", percentile="99.9")
    extremes = ours(prepared, batches)
    assert found.keys() == expected.keys()
    for name, (low, high) in expected.items():
        bins = 2 * max(map(abs, extremes[name])) / 1024
        assert found[name] == pytest.approx((low, high), abs=bins), name


def test_entropy_agrees_with_the_runtime(prepared: Prepared, batches: list[dict[str, np.ndarray]]) -> None:
    """The search for the least divergence would end elsewhere; bins are cut differently and the minimum is flat."""
    expected = theirs(EntropyCalibrater, prepared, batches, num_bins=2048, num_quantized_bins=128)
    found = ours(prepared, batches, calibrator="Entropy")
    extremes = ours(prepared, batches)
    for name, (low, high) in expected.items():
        assert found[name] == pytest.approx((low, high), abs=0.2 * max(map(abs, extremes[name]))), name


@pytest.mark.parametrize("seed", range(4))
def test_the_entropy_search_is_the_runtimes_own(seed: int) -> None:
    """The same counts must give the same threshold as the loops that this is the fast form of."""
    random = np.random.default_rng(seed)
    values = random.standard_normal(20_000) * random.choice([1.0, 1.0, 1.0, 6.0], 20_000)
    edge = float(np.abs(values).max())
    counts, edges = np.histogram(values, 640, range=(-edge, edge))
    collector = HistogramCollector("entropy", False, 640, 128, 99.9, "same")
    expected = collector.get_entropy_threshold(
        (counts, edges.astype(np.float32), np.float32(-edge), np.float32(edge)), 128
    )
    half = entropy_half_bins(counts)
    assert half * (edges[1] - edges[0]) == pytest.approx(-float(expected[0]), rel=1e-4)


def finite(size: int) -> st.SearchStrategy[np.ndarray]:
    return arrays.arrays(np.float32, size, elements=st.floats(-(2.0**100), 2.0**100, width=32))


@settings(max_examples=60, deadline=None)
@given(values=finite(48), cuts=st.lists(st.integers(1, 47), max_size=5), order=st.permutations(range(48)))
def test_a_histogram_depends_on_the_values_alone(values: np.ndarray, cuts: list[int], order: list[int]) -> None:
    """Ranges would change with the batch size or the order of the samples, and no figure could be reproduced."""
    whole, pieces = Histogram(), Histogram()
    whole.add(values)
    for piece in np.split(values[order], sorted(cuts)):
        pieces.add(piece)
    assert (whole.exponent, whole.minimum, whole.maximum) == (pieces.exponent, pieces.minimum, pieces.maximum)
    np.testing.assert_array_equal(whole.counts, pieces.counts)
    assert whole.counts.sum() == values.size


@settings(max_examples=30, deadline=None)
@given(values=finite(64))
def test_every_value_lies_in_its_bin(values: np.ndarray) -> None:
    """Merging bins would move values into the wrong ones."""
    seen = Histogram()
    for value in values:
        seen.add(np.array([value]))
    bins = (np.abs(values.astype(np.float64)) / seen.width).astype(np.int64)
    places = BINS_PER_SIDE + np.where(np.signbit(values), -1 - bins, bins)
    expected = np.bincount(places, minlength=2 * BINS_PER_SIDE)
    np.testing.assert_array_equal(seen.counts, expected)


def test_ranges_do_not_depend_on_how_the_data_is_cut(prepared: Prepared, magika_bytes: np.ndarray) -> None:
    """The runtime's calibrators give other ranges when fed in chunks; what differs here is the model's arithmetic."""
    cut = {size: [{"bytes": magika_bytes[i : i + size]} for i in range(0, 12, size)] for size in (1, 4, 12)}
    for calibrator in ("MinMax", "Percentile", "Entropy"):
        found = [ours(prepared, batches, calibrator=calibrator) for batches in cut.values()]
        for a, b in itertools.pairwise(found):
            for name in a:
                assert a[name] == pytest.approx(b[name], rel=5e-2, abs=1e-3), (calibrator, name)


def test_zeros_and_nothing_have_an_empty_range() -> None:
    """A dead layer must not divide by zero."""
    seen = Histogram()
    seen.add(np.zeros((0, 4), np.float32))
    seen.add(np.zeros((3, 4), np.float32))
    assert percentile(seen, 99.9) == (0.0, 0.0)
    assert entropy(seen) == (0.0, 0.0)
    assert seen.clipped_share(0.0, 0.0) == 0.0


def test_a_percentile_of_all_keeps_all() -> None:
    """100 must mean MinMax."""
    seen = Histogram()
    seen.add(np.array([-3.0, 0.5, 7.25], np.float32))
    assert percentile(seen, 100.0) == (-3.0, 7.25)


def test_an_unknown_calibrator_is_refused(prepared: Prepared) -> None:
    """It would silently become MinMax."""
    step = QuantizeStep(precision="int8", method="Static", calibrator="MSE")
    with pytest.raises(Unsupported) as caught:
        calibrate(prepared.model, [], [], step, threads=1)
    assert "calibrator" in (caught.value.field or "")


def test_float_tensors_leave_weights_out(prepared: Prepared) -> None:
    """Weights have ranges of their own; observing them would only cost memory."""
    names = set(float_tensors(prepared.model, prepared.model.graph.node))
    assert names.isdisjoint({w.name for w in prepared.model.graph.initializer})
    assert isinstance(prepared.model, onnx.ModelProto)
