"""Figures read well, and those for machines fit the contract's pattern."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop_api.status import MetricFigures, Speedup
from strop_job.judgement.figures import (
    bytes_text,
    figure,
    metric_text,
    microseconds_text,
    percent_text,
    points_text,
    seconds_text,
)
from strop_job.judgement.headline import loss_text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_number_fits_the_contract(value: float) -> None:
    """A tiny or huge figure would make the whole result invalid at the end of a run."""
    text = figure(value)
    assert text is not None
    found = Speedup(ratio=text, low=text, high=text, over="Original")
    assert float(found.ratio) == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), None])
def test_what_is_no_number_is_absent(value: float | None) -> None:
    """`nan` would be refused by the contract, and believed by a reader."""
    assert figure(value) is None


def test_texts_carry_their_units() -> None:
    """A reader would have to guess between milliseconds and microseconds."""
    assert [microseconds_text(v) for v in (12.3, 742, 8310, 1.2e6)] == ["12.3 µs", "742 µs", "8.31 ms", "1.20 s"]
    assert [seconds_text(v) for v in (0.04, 1.44, 12, 200)] == ["40 ms", "1.4 s", "12 s", "3 min 20 s"]
    assert [bytes_text(v) for v in (512, 23_400_000)] == ["512 B", "22.3 MiB"]
    assert [percent_text(v) for v in (0.5, 0.9996, 1.0)] == ["50.0%", "99.96%", "100%"]
    assert [metric_text(v) for v in (0.5961, 0.0, 0.00012345, 12345.6)] == ["0.596", "0.000", "0.000123", "1.23e+04"]
    assert [points_text(v) for v in (0.7, 0.0031, 3.3e-5, -2e-4, 0.0)] == ["0.70", "0.0031", "0.00", "0.00", "0.00"]


@pytest.mark.parametrize(
    ("drop", "low", "high", "words"),
    [
        ("0.7778", "-0.4213", "2.0571", "0.78 points worse, 95% -0.42 to 2.06; 900 samples"),
        ("-0.7778", "-2.0571", "0.4213", "0.78 points better, 95% -0.42 to 2.06; 900 samples"),
        ("0", None, None, "0.00 points lost; 900 samples"),
    ],
)
def test_a_loss_is_said_with_its_side_its_interval_and_its_samples(drop, low, high, words) -> None:  # type: ignore[no-untyped-def]
    """A gain would read as a loss, or its interval stand on its head."""
    metric = MetricFigures(
        name="mrr", original="0.596", optimized="0.588", drop_points=drop, low=low, high=high, samples=900
    )
    assert loss_text(metric) == words
