"""The last of the files, since what it awaits takes its time: see `hung`."""

import os

import pytest

from e2e.runs import Run
from e2e.shell import wait_until

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.timeout(1500),
    pytest.mark.nightly,
    pytest.mark.skipif(not os.environ.get("STROP_NIGHTLY"), reason="waits for thirteen minutes: set STROP_NIGHTLY=1"),
]
NOTICED_SECONDS = 600 + 6 * 20 + 20 + 100
"""A start may be silent for so long; the kubelet asks six times; the worker has its grace; and the rest is leeway."""


def test_a_worker_that_stands_still_is_replaced_and_told_of(hung: Run) -> None:
    """Broken, a dead-locked compiler would hold its GPU until the deadline, six hours later."""
    wait_until(
        "the standstill is noticed", lambda: hung.status["run"].get("failures", 0) >= 1, NOTICED_SECONDS, every=1
    )
    told = [hung.condition("Ready"), *(pod["status"] for pod in hung.pods())]
    assert "no progress in stage start" in str(told), told
    hung.wait("Ready")
    assert hung.status["run"]["attempt"] == 1, "the Job itself made another pod"
