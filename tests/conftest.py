"""What holds for every test: where a run is meant to be complete, a test that skips itself has failed."""

import os
from collections.abc import Generator

import pytest

COMPLETE = os.environ.get("CI") == "true"
"""In CI nothing may be missing but a GPU."""


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """In CI a skip is a failure, except for what needs a GPU and what `make nightly` runs."""
    report = yield
    if COMPLETE and report.skipped and not _excused(item) and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"skipped, but in CI nothing may be: {report.longrepr}"
    return report


def _excused(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) is not None for name in ("gpu", "nightly"))
