"""A training is stopped when it harms the model and will not come back, and left alone otherwise."""

import math

import numpy as np
import pytest

from strop_api.checks.training import CONTRADICTION, DIVERGENCE, EPOCHS, FORGETTING, LEARNING_RATE, UNTRAINED
from strop_api.rules.training import RECOVERY
from strop_api.targets import MetricDropGate
from strop_job.audit.training import Bounds, Epoch, TrainingWatch, out_of_range, tolerance


def test_a_metric_that_stays_below_stops_the_training(watch):
    """Hours would be spent on a model that is worse than the one it began with."""
    seen = watch(0.85, 0.84)
    assert seen.stop is not None
    assert seen.stop.check == FORGETTING.name
    for words in ("0.84", "epoch 2 of 10", "0.9", "it does not rise"):
        assert words in seen.stop.message


def test_one_bad_epoch_is_forgiven(watch):
    """Validation metrics jump; who stopped at the first dip would end most honest trainings."""
    assert watch(0.85).stop is None
    assert watch(0.905, 0.85, 0.9, 0.86, 0.899).stop is None


def test_patience_is_as_long_as_asked(watch):
    """A user of a noisy metric asks for more evaluations."""
    assert watch(0.8, 0.8, patience=3).stop is None
    assert watch(0.8, 0.8, 0.8, patience=3).stop is not None


def test_a_metric_within_the_tolerance_goes_on(watch):
    """A loss that the gate allows is no harm."""
    assert watch(*[0.8901] * 9).findings == ()


def test_a_metric_that_comes_back_in_time_goes_on(watch):
    """Quantizing loses something first; recovering it is what training is for."""
    assert watch(0.6, 0.7, 0.78, 0.84, 0.87, 0.89).stop is None


def test_a_metric_that_rises_too_slowly_is_stopped(watch):
    """Weights learnt from nothing do rise, and end below the original all the same."""
    seen = watch(0.10, 0.13, 0.16, epochs=6)
    assert seen.stop is not None
    assert "it gains 0.03 an epoch" in seen.stop.message


def test_where_smaller_is_better_a_rising_error_stops(watch):
    """A regression that is trained on with the wrong sign would look like a success."""
    assert watch(2.5, 2.6, baseline=2.0, higher_is_better=False, tolerance=0.1).stop is not None
    assert watch(1.5, 1.4, baseline=2.0, higher_is_better=False, tolerance=0.1).stop is None


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_at_once(watch, broken):
    """NaN spreads to every weight; no epoch after it can mend that."""
    seen = watch(0.9, 0.9, losses=(0.5, broken))
    assert seen.stop is not None
    assert seen.stop.check == DIVERGENCE.name
    assert watch(0.9, broken).stop is not None


def test_a_loss_that_climbs_stops_when_the_metric_falls_with_it(watch):
    """A rate that is too high often shows in the loss before the patience for the metric is over."""
    climbing = (0.3, 0.8, 1.4)
    seen = watch(0.9, 0.895, 0.85, losses=climbing)
    assert seen.stop is not None
    assert seen.stop.check == DIVERGENCE.name
    assert "4.7 times" in seen.stop.message
    assert watch(0.9, 0.9, 0.9, losses=climbing).stop is None


def test_a_stop_stays(watch):
    """A step that asks once more by mistake must get the same answer."""
    seen = watch(0.85, 0.84, 0.95)
    assert seen.stop is not None
    assert "epoch 2" in seen.stop.message


def test_the_best_weights_are_the_earliest_of_the_best(watch):
    """Later epochs of the same metric are further from the original."""
    best = watch(0.88, 0.91, math.nan, 0.91).best
    assert best is not None
    assert best.number == 2
    assert watch(math.nan).best is None
    error = watch(2.0, 1.5, 1.7, baseline=2.0, higher_is_better=False).best
    assert error is not None
    assert error.number == 2


def test_a_training_too_short_for_patience_is_judged_at_its_end(watch):
    """One epoch that ruins the model must not pass for want of a second."""
    short = watch(0.5, epochs=1)
    assert short.stop is None
    assert [found.check for found in short.ended().findings] == [FORGETTING.name]
    assert watch(0.91, 0.7).ended().findings == ()
    assert watch().ended().findings == ()


def test_a_learning_rate_out_of_range_is_said_once(watch):
    """Said after each epoch it would bury the rest."""
    checks = [found.check for found in watch(0.9, 0.9, 0.9, rate=0.01).findings]
    assert checks == [LEARNING_RATE.name]


def test_ranges_differ_between_recovery_and_quantization_aware_training():
    """What recovers a pruned model destroys a calibrated one."""
    assert [found.check for found in out_of_range(5e-4, 60)] == [LEARNING_RATE.name, EPOCHS.name]
    assert list(out_of_range(5e-4, 60, RECOVERY)) == []
    assert list(out_of_range(1e-4, 5)) == []
    assert "lost in the rounding" in next(out_of_range(0.0, 5)).message


def test_the_tolerance_is_the_gates_margin_or_the_noise():
    """A margin below the noise of the validation set would stop honest trainings by luck."""
    right = np.array([1.0] * 900 + [0.0] * 100)
    assert tolerance(None, 0.9, None) == pytest.approx(0.01)
    assert tolerance(MetricDropGate(max_points="5"), 0.9, right) == pytest.approx(0.05)
    assert tolerance(MetricDropGate(max_relative="10%"), 0.5, None) == pytest.approx(0.05)
    assert tolerance(MetricDropGate(max_points="0.1"), 0.9, right) == pytest.approx(0.0156, abs=1e-4)


@pytest.mark.parametrize(("metric", "check"), [(0.1, UNTRAINED), (0.9, CONTRADICTION)])
def test_a_loss_like_a_guess_before_training_starts_none(metric, check):
    """Weights that were not loaded, or labels numbered otherwise, would show only after epochs, or never."""
    bounds = Bounds(0.9, True, 0.01, 10, guess=math.log(10))
    seen = TrainingWatch(bounds).after(Epoch(0, metric, 2.3, 1e-5))
    assert seen.stop is not None
    assert seen.stop.check == check.name
    assert TrainingWatch(bounds).after(Epoch(0, 0.9, 0.4, 1e-5)).stop is None
    assert TrainingWatch(Bounds(0.9, True, 0.01, 10)).after(Epoch(0, 0.9, 2.3, 1e-5)).stop is None


def test_the_state_before_training_is_no_epoch_to_keep():
    """The calibrated model is compared with the trained one; it must not stand in for it."""
    seen = TrainingWatch(Bounds(0.9, True, 0.01, 10)).after(Epoch(0, 0.9, 0.4, 1e-5)).after(Epoch(1, 0.89, 0.4, 1e-5))
    assert seen.best is not None
    assert seen.best.number == 1
