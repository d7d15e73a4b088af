"""Real quantization-aware trainings: faults are found early, recommended settings are left alone."""

import copy

import pytest
import torch
from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e

from bench.forgetting import FAULTS, HONEST, qat, shortened
from strop_api.checks.training import CONTRADICTION, DIVERGENCE, FORGETTING, UNTRAINED, WORSE_THAN_PTQ
from strop_job.audit.training import Kept

SAID = {check.name for check in (CONTRADICTION, DIVERGENCE, FORGETTING, UNTRAINED, WORSE_THAN_PTQ)}


@pytest.mark.parametrize("fault", ["rate-1000-times", "no-warm-start", "labels-off-by-one", "wrong-frozen-norms"])
def test_a_fault_is_found_and_stopped_before_its_end(fault, trained):
    """A run of hours would end with a model that calibration beats."""
    outcome = qat(trained, FAULTS[fault], seed=0)
    assert SAID & {finding.check for finding in outcome.findings}
    assert outcome.watch.seen[-1].number < FAULTS[fault].epochs
    assert outcome.comparison.kept is Kept.PTQ


@pytest.mark.parametrize("index", [4, len(HONEST) - 1])
def test_recommended_settings_are_left_alone(index, trained):
    """A watch that stops honest trainings would be switched off."""
    run = shortened(HONEST[index], 2)
    outcome = qat(trained, run, seed=1)
    assert not SAID & {finding.check for finding in outcome.findings}
    assert outcome.watch.seen[-1].number == run.epochs


@pytest.mark.nightly
def test_what_is_watched_is_what_the_converted_program_does(trained):
    """Figures of a simulation that is not the integer program would be about something else."""
    model = copy.deepcopy(trained.judging)
    images, labels = trained.validation
    with torch.no_grad():
        simulated = model(images).argmax(1)
        converted = convert_pt2e(model)(images).argmax(1)
    assert float((simulated == converted).float().mean()) > 0.98
    assert abs(float((simulated == labels).float().mean() - (converted == labels).float().mean())) < 0.01
