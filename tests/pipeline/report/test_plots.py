"""Names on plots stay apart, short and harmless; axes show what there is."""

import numpy as np
import pytest

from strop_job.judgement.evidence import Latencies
from strop_job.report.assemble import assemble
from strop_job.report.document import CalibratedTensor, Calibration
from strop_job.report.plots import calibrations, distinct, latency, shorten, symmetric_ticks


def test_names_lose_what_all_of_them_share() -> None:
    """Sixteen labels cut to the same few letters say nothing."""
    names = ["/encoder/layer.0/attention/out:0", "/encoder/layer.1/dense/out:0"]
    assert distinct(names) == ["layer.0/attention", "layer.1/dense"]
    assert distinct(["one/name"]) == ["one/name"]


def test_a_long_name_keeps_both_ends() -> None:
    """The end of a tensor's name is what tells it from its neighbours."""
    assert shorten("a" * 40 + "_end").endswith("_end")
    assert len(shorten("a" * 400)) == 26


def test_ticks_are_few_and_around_zero() -> None:
    """Labels over many orders of magnitude would run into one another."""
    ticks = symmetric_ticks(1e-6, 1e6)
    assert 0.0 in ticks
    assert len(ticks) <= 9
    assert ticks == sorted(ticks)


@pytest.mark.parametrize("ratio", [1.01, 2.0, 50.0])
def test_distributions_near_or_far_are_drawn_with_their_medians(early_run, ratio: float) -> None:
    """Close variants would hide behind one another, far ones would leave the picture."""
    noise = np.random.default_rng(0).lognormal(0, 0.02, 200)
    rounds = np.arange(200) // 10
    found = {"original": Latencies(1000 * ratio * noise, rounds), "optimized": Latencies(1000 * noise, rounds)}
    plot = latency(assemble(early_run, found), found)
    assert plot is not None
    assert all(name in plot.svg for name in found)
    assert ("Log scale" in plot.caption) == (ratio == 50.0)


def test_a_tensor_by_any_name_is_drawn_as_text(early_run) -> None:
    """A name with a dollar sign would be set as a formula, one with a tag would become markup."""
    tensor = CalibratedTensor(name="<i>$x$</i>漢", minimum=-1, maximum=1, low=-1, high=1)
    document = assemble(early_run, {}).model_copy(
        update={"calibration": [Calibration(step="s", calibrator="MinMax", samples=1, tensors=[tensor])]}
    )
    (plot,) = calibrations(document)
    assert "&lt;i&gt;$x$&lt;/i&gt;漢" in plot.svg
    assert "<i>" not in plot.svg


def test_constant_tensors_are_drawn_too(early_run) -> None:
    """A tensor that is always zero has no span; a logarithm of it would end the report."""
    tensors = [CalibratedTensor(name=f"t{w}", minimum=0, maximum=w, low=0, high=w) for w in (0.0, 1e-3, 1e3)]
    document = assemble(early_run, {}).model_copy(
        update={"calibration": [Calibration(step="s", calibrator="MinMax", samples=1, tensors=tensors)]}
    )
    assert len(list(calibrations(document))) == 1
