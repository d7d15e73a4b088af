"""Training is held against calibration alone on the same validation samples."""

import math

import numpy as np
import pytest

from strop_api.checks.training import NO_BETTER_THAN_PTQ, WORSE_THAN_PTQ
from strop_job.audit.training import Kept, compare_with_ptq
from strop_job.judgement.evidence import MetricEvidence


def _pair(lost: int, gained: int, samples: int = 1000, right: int = 900) -> MetricEvidence:
    """`lost` samples that calibration had right and training has wrong, `gained` the reverse."""
    ptq = np.zeros(samples)
    ptq[:right] = 1
    qat = ptq.copy()
    qat[:lost] = 0
    qat[right : right + gained] = 1
    return MetricEvidence("accuracy", float(ptq.mean()), float(qat.mean()), True, samples, (ptq, qat))


def _checks(pair: MetricEvidence) -> tuple[Kept, list[str]]:
    found = compare_with_ptq(pair, seed=0)
    return found.kept, [finding.check for finding in found.findings]


def test_worse_beyond_noise_is_refused():
    """Hours of training would replace a better model that cost seconds."""
    assert _checks(_pair(30, 5)) == (Kept.PTQ, [WORSE_THAN_PTQ.name])


def test_worse_within_noise_keeps_the_simpler_model():
    """Nothing speaks for the trained one."""
    assert _checks(_pair(6, 4)) == (Kept.PTQ, [NO_BETTER_THAN_PTQ.name])


def test_better_beyond_noise_is_kept_without_a_word():
    """That is what training is for."""
    assert _checks(_pair(5, 30)) == (Kept.QAT, [])


def test_no_better_beyond_noise_is_kept_and_said():
    """The next run may save itself the training."""
    kept, said = _checks(_pair(4, 6))
    assert (kept, said) == (Kept.QAT, [NO_BETTER_THAN_PTQ.name])


def test_errors_are_compared_in_their_own_direction():
    """For an error the larger figure is the worse one."""
    random = np.random.default_rng(0)
    ptq = random.gamma(2, 1, 400)
    pair = MetricEvidence("mse", float(ptq.mean()), float(ptq.mean()) + 0.5, False, 400, (ptq, ptq + 0.5))
    assert _checks(pair) == (Kept.PTQ, [WORSE_THAN_PTQ.name])


def test_a_training_that_ended_in_nan_is_refused():
    """No comparison holds for NaN, and none must pass."""
    assert _checks(MetricEvidence("accuracy", 0.9, math.nan, True, 100)) == (Kept.PTQ, [WORSE_THAN_PTQ.name])


def test_a_calibration_that_ended_in_nan_is_not_kept():
    """The trained model is all there is."""
    assert _checks(MetricEvidence("accuracy", math.nan, 0.9, True, 100)) == (Kept.QAT, [])


def test_without_samples_nothing_is_called_beyond_noise():
    """One figure against another has no interval."""
    found = compare_with_ptq(MetricEvidence("accuracy", 0.9, 0.8, True, 100), seed=0)
    assert (found.kept, found.loss) == (Kept.PTQ, None)
    assert [finding.check for finding in found.findings] == [NO_BETTER_THAN_PTQ.name]


@pytest.mark.parametrize("confidence", [0.9, 0.99])
def test_the_confidence_asked_for_decides(confidence):
    """A caller with many models to compare asks for more."""
    found = compare_with_ptq(_pair(16, 6), seed=0, confidence=confidence)
    worse = found.findings[0].check == WORSE_THAN_PTQ.name
    assert worse is (confidence == 0.9)
