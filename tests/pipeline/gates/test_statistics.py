"""Each interval against published figures, and by simulation against the coverage it promises."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop_job.judgement.resampling import bootstrap, median_ratio
from strop_job.judgement.statistics import (
    difference_score,
    macro_f1,
    one_sided,
    paired_difference,
    paired_ratio,
    quantile_interval,
    ratio_score,
    wilson,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_gives_the_published_intervals(successes: int, trials: int, low: float, high: float) -> None:
    """Newcombe 1998 (Stat. Med. 17:857), table I, method 3."""
    found = wilson(successes, trials)
    assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


def test_the_paired_difference_gives_the_published_interval() -> None:
    """Fagerland, Lydersen and Laake 2014 (Stat. Med. 33:2850): airway data, 1, 1, 7 and 12 of 21; Tango's interval."""
    found = paired_difference(1, 7, 21)
    assert (found.point, found.low, found.high) == pytest.approx((-0.286, -0.517, -0.026), abs=5e-4)


def test_the_paired_ratio_gives_the_published_interval() -> None:
    """The same data and paper; the asymptotic score interval of the ratio."""
    found = paired_ratio(1, 7, 1, 21)
    assert (found.point, found.low, found.high) == pytest.approx((0.25, 0.065, 0.907), abs=5e-4)


def test_the_order_statistics_of_a_median_are_the_tabled_ranks() -> None:
    """Of 100 values ranks 40 and 61 bound the median at 95% (David and Nagaraja 2003)."""
    found = quantile_interval(np.arange(1, 101, dtype=float), 0.5)
    assert (found.low, found.high) == (40, 61)


def test_a_p99_of_few_values_has_no_upper_bound() -> None:
    """300 calls cannot bound a p99 from above at 95%; a finite end would be invented."""
    assert quantile_interval(np.arange(300, dtype=float), 0.99).high == math.inf
    assert quantile_interval(np.arange(2000, dtype=float), 0.99).high < math.inf


@pytest.mark.parametrize("samples", [1, 2, 5])
@pytest.mark.parametrize("level", [0.02, 0.9, 0.998])
def test_an_interval_holds_its_estimate_whatever_the_counts(samples: int, level: float) -> None:
    """A report would show an estimate outside of its own interval, or the run end in a trace."""
    for lost, gained in ((a, b) for a in range(samples + 1) for b in range(samples + 1 - a)):
        found = paired_difference(lost, gained, samples, level)
        assert -1 <= found.low <= found.point <= found.high <= 1
        for both in range(samples + 1 - lost - gained):
            if both + lost:
                ratio = paired_ratio(both, lost, gained, samples, level)
                assert 0 <= ratio.low <= ratio.point <= ratio.high


def test_no_discordant_pair_still_leaves_doubt() -> None:
    """With 100 equal answers a loss of 2 points is not excluded; a bootstrap would claim certainty."""
    assert paired_difference(0, 0, 100, one_sided(0.95)).high == pytest.approx(0.0263, abs=1e-4)


@given(
    both=st.integers(1, 40),
    lost=st.integers(0, 12),
    gained=st.integers(0, 12),
    neither=st.integers(0, 20),
    at=st.floats(0.05, 0.95),
)
def test_the_score_statistics_use_the_constrained_maximum_likelihood(
    both: int, lost: int, gained: int, neither: int, at: float
) -> None:
    """A closed form mistyped would shift every interval a little, unseen; a brute-force maximum would not."""
    samples = both + lost + gained + neither
    difference = (at - 0.5) * 0.8
    assert difference_score(lost, gained, samples, difference) == pytest.approx(
        tango_by_search(lost, gained, samples, difference), rel=2e-3, abs=2e-3
    )
    ratio = 0.6 + 0.8 * at
    statistic = ratio_score(both, lost, gained, samples, ratio)
    assert statistic == pytest.approx(ratio_by_search(both, lost, gained, neither, ratio), rel=2e-3, abs=2e-3)


def tango_by_search(lost: int, gained: int, samples: int, difference: float) -> float:
    """p10 = p01 + difference; p01 by grid search of the likelihood."""
    low, high = max(0.0, -difference), (1 - difference) / 2
    p01 = maximise(
        lambda q: log_likelihood(
            (lost, q + difference), (gained, q), (samples - lost - gained, 1 - 2 * q - difference)
        ),
        low,
        high,
    )
    variance = samples * (2 * p01 + difference - difference**2)
    return (lost - gained - samples * difference) / math.sqrt(variance)


def ratio_by_search(both: int, lost: int, gained: int, neither: int, ratio: float) -> float:
    """p11 + p01 = ratio (p11 + p10), p00 at its observed share; p10 (lost) by search of the likelihood."""
    samples = both + lost + gained + neither
    rest = 1 - neither / samples

    def gain(loss: float) -> float:
        # p11 = rest - loss - gain, and rest - loss = ratio (rest - gain)
        return (loss - rest * (1 - ratio)) / ratio

    low = max(0.0, rest * (1 - ratio))
    loss = maximise(
        lambda q: log_likelihood((lost, q), (gained, gain(q)), (both, rest - q - gain(q))),
        low,
        rest / (1 + ratio),
    )
    excess = (both + gained) / samples - ratio * (both + lost) / samples
    return excess / math.sqrt(ratio * (gain(loss) + loss) / samples)


def log_likelihood(*cells: tuple[int, float]) -> float:
    return sum(n * math.log(max(p, 1e-300)) for n, p in cells if n)


def maximise(function, low: float, high: float) -> float:
    """Ternary search of a concave function."""
    for _ in range(200):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        low, high = (a, high) if function(a) < function(b) else (low, b)
    return (low + high) / 2


def test_the_one_sided_bound_errs_as_often_as_it_says() -> None:
    """A non-inferiority gate at 95% would publish models with a true loss of a point far more often than 1 in 20."""
    random = np.random.default_rng(0)
    samples, true_loss = 1000, 0.01
    trials = random.multinomial(samples, [0.03, 0.02, 0.95], 2000)
    bounds = [paired_difference(int(lost), int(gained), samples, one_sided(0.95)).high for lost, gained, _ in trials]
    assert np.mean(np.array(bounds) < true_loss) == pytest.approx(0.05, abs=0.015)


def test_the_relative_bound_errs_as_often_as_it_says() -> None:
    """A gate on the relative loss would be looser than it says."""
    random = np.random.default_rng(1)
    trials = random.multinomial(1000, [0.77, 0.03, 0.02, 0.18], 1000)
    bounds = [1 - paired_ratio(int(a), int(b), int(c), 1000, one_sided(0.95)).low for a, b, c, _ in trials]
    assert np.mean(np.array(bounds) < 1 - 0.79 / 0.80) == pytest.approx(0.05, abs=0.02)


def test_the_block_bootstrap_covers_the_true_ratio_on_a_drifting_machine() -> None:
    """Calls of a block share the machine's mood; resampling single calls would give far too narrow intervals."""
    random = np.random.default_rng(2)
    rounds = np.repeat(np.arange(40), 10)
    covered = 0
    for seed in range(60):
        mood = {side: random.lognormal(0, 0.05, 40)[rounds] for side in ("base", "candidate")}
        drift = 1 + 0.5 * np.linspace(0, 1, 40)[rounds]
        base = 200 * drift * mood["base"] * random.lognormal(0, 0.02, 400)
        candidate = 100 * drift * mood["candidate"] * random.lognormal(0, 0.02, 400)
        found = median_ratio(base, candidate, (rounds, rounds), seed=seed)
        covered += found.low <= 2.0 <= found.high
    assert 0.88 <= covered / 60 <= 1.0


def test_the_paired_bootstrap_agrees_with_the_normal_theory() -> None:
    """The interval of a mean metric would be wider or narrower than the data say."""
    random = np.random.default_rng(3)
    first = random.normal(1.0, 1.0, 400)
    second = first - random.normal(0.1, 0.2, 400)
    difference = first - second

    def mean(drawn: np.ndarray) -> np.ndarray:
        return difference[drawn].mean(axis=1)

    found = bootstrap(mean, len(difference), seed=0)
    reach = 1.96 * difference.std() / 20
    assert found.high - found.point == pytest.approx(reach, rel=0.15)
    assert found == bootstrap(mean, len(difference), seed=0)


def test_macro_f1_counts_every_class_alike() -> None:
    """A rare class would vanish from the figure."""
    labels, predictions = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 0])
    assert macro_f1(labels, predictions) == pytest.approx((2 * 2 / 6 + 2 * 1 / 3 + 0) / 3)


@pytest.mark.parametrize("confidence", [1.0, 0.5, 0.3])
def test_a_senseless_confidence_is_refused(confidence: float) -> None:
    """A bound at 100% or at 30% would pass or fail everything without a word."""
    with pytest.raises(ValueError, match="one-sided confidence"):
        one_sided(confidence)
