"""Figures read well, and those for machines fit the contract's pattern."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from strop_api.status import Speedup
from strop_job.figures import bytes_text, figure, microseconds_text, percent_text, seconds_text


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
    assert [percent_text(v) for v in (0.5, 0.9996, 1.0)] == ["50.0%", "99.96%", "100.0%"]
