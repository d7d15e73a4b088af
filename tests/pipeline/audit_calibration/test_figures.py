"""The figures behind the thresholds: distances, corrections, quantization noise and order statistics."""

import numpy as np
import pytest

from strop_job.audit.calibration import observe, ranges, sketch, two_sample
from strop_job.audit.calibration.observed import Role, Tensor


def tensor(values: np.ndarray) -> Tensor:
    return Tensor(Role.ACTIVATION, sketch.quantiles(values.astype(np.float32)), {})


def energy_of(first: np.ndarray, second: np.ndarray) -> float:
    scaled = two_sample.standardized(first.astype(np.float32), second.astype(np.float32))
    return two_sample.energy(two_sample.distances(np.concatenate(scaled)), len(first))


def test_equal_distributions_are_at_distance_zero_on_average() -> None:
    """A biased estimate would grow as sets shrink, and small honest sets would be blamed."""
    random = np.random.default_rng(0)
    found = [energy_of(random.normal(size=(12, 4)), random.normal(size=(40, 4))) for _ in range(300)]
    assert abs(np.mean(found)) < 4 * np.std(found) / np.sqrt(len(found)) + 0.002


@pytest.mark.parametrize(("shift", "expected"), [(0.75, 0.12), (1.0, 0.194), (1.2, 0.25)])
def test_the_bounds_mean_the_shifts_that_are_written_beside_them(shift: float, expected: float) -> None:
    """The thresholds' documentation would otherwise be about other figures."""
    random = np.random.default_rng(1)
    found = energy_of(random.normal(shift, 1, (1500, 1)), random.normal(0, 1, (1500, 1)))
    assert found == pytest.approx(expected, abs=0.03)


def test_chance_is_uniform_for_equal_sets_and_small_for_different_ones() -> None:
    """A guard that fires on noise guards nothing."""
    random = np.random.default_rng(2)
    chances = []
    for _ in range(60):
        rows = two_sample.distances(random.normal(size=(40, 3)))
        chances.append(two_sample.chance(rows, 20, tests=1))
    assert 0.3 < np.mean(chances) < 0.7
    apart = np.concatenate([random.normal(1.5, 1, (20, 3)), random.normal(0, 1, (20, 3))])
    assert two_sample.chance(two_sample.distances(apart), 20, tests=40) * 40 <= two_sample.LEVEL


def test_holm_stops_at_the_first_that_fails() -> None:
    """Later ones must not slip through behind a failed one."""
    assert two_sample.holm([0.001, 0.004, 0.02, 0.0005], 5, level=0.01) == [True, False, False, True]
    assert two_sample.holm([0.0001], 200, level=0.01) == [False]


def test_the_noise_of_a_span_is_what_quantizing_does() -> None:
    """Decibels that were not those of 8-bit arithmetic would tie the threshold to nothing."""
    random = np.random.default_rng(3)
    values = random.normal(size=(64, 5000)).astype(np.float32)
    for low, high in ((-5.0, 5.0), (-2.0, 2.5), (-20.0, 30.0)):
        span = ranges.Span(low, high)
        rounded = np.round(np.clip(values, low, high) / span.step) * span.step
        real = float(((rounded - values) ** 2).mean())
        predicted = float(ranges.noise(sketch.quantiles(values), span).mean())
        assert abs(ranges.decibels(predicted, real)) < 1.0


def test_a_range_twice_as_wide_costs_six_decibels() -> None:
    """A bit of eight."""
    random = np.random.default_rng(4)
    values = random.uniform(-1, 1, (64, 1000))
    assert ranges.cost(tensor(2 * values), tensor(values)).excess_decibels == pytest.approx(6.02, abs=0.1)


def test_one_extreme_sample_of_the_reference_does_not_make_a_cost() -> None:
    """Where tails are heavy every honest pair of sets has such a sample in one of them."""
    random = np.random.default_rng(5)
    calibration, reference = random.normal(size=(2, 64, 1000))
    reference[0] *= 30
    found = ranges.cost(tensor(calibration), tensor(reference))
    assert found.excess_decibels < 3
    assert found.clipped_share > 0


def test_the_share_beyond_is_that_of_wilks() -> None:
    """The bound must hold for any distribution: of 400 draws, about 95% must keep it."""
    random = np.random.default_rng(6)
    for count in (5, 30):
        share = ranges.seen_share(count)
        beyond = [1 - random.random(count).max() <= 1 - share for _ in range(2000)]
        assert np.mean(beyond) == pytest.approx(0.95, abs=0.02)


def test_more_samples_cost_less() -> None:
    """The bound on the error of the extremes shrinks with the set, and shrinks later where tails are heavy."""
    random = np.random.default_rng(7)
    light = tensor(random.uniform(-1, 1, (200, 500)))
    heavy = tensor(random.standard_t(1.5, (200, 500)))
    costs = [ranges.size_cost(heavy, count) for count in (3, 10, 50, 190)]
    assert costs == sorted(costs, reverse=True)
    assert ranges.size_cost(light, 3) < 1 < costs[1]


def test_a_sketch_is_as_small_for_a_large_tensor_and_keeps_its_extremes() -> None:
    """Activations of a large model must not pile up in memory."""
    values = np.zeros((2, 300_000), np.float32)
    values[0, 123_457], values[1, 7] = 9.0, -4.0
    found = sketch.quantiles(values)
    assert found.shape == (2, sketch.LEVELS)
    assert found[0, -1] == 9.0
    assert found[1, 0] == -4.0
    views = sketch.views_inside(np.ones((2, 512, 40, 40), np.float32), "t")
    assert all(view.shape[1] <= sketch.PARTS for view in views.values())


def test_the_rounding_of_sums_is_no_difference() -> None:
    """Means of one-hot vectors are equal; summed narrowly and in another order they looked unlike by any distance."""
    random = np.random.default_rng(0)
    hot = np.eye(257, dtype=np.float32)[random.integers(0, 257, (48, 300))]
    alone = np.concatenate([sketch.views_inside(one[None], "hot")["axis 1"] for one in hot])
    together = sketch.views_inside(hot, "hot")["axis 1"]
    both = two_sample.standardized(alone, together)
    assert both[0].shape[1] == 0


def test_masks_of_the_largest_float_are_looked_at_without_a_warning() -> None:
    """Attention writes -3e38 where it must not look: sums of it overflow, and a warning would be an error here."""
    masked = np.full((4, 8), np.finfo(np.float32).min, np.float32)
    seen = observe([{"x": np.ones((4, 8), np.float32)}], lambda _: {"scores": masked})
    assert seen.tensors["scores"].finite
