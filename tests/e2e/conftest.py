"""One stack for all end-to-end tests; each test has resources of its own."""

import os
import signal
from collections.abc import Iterator

import pytest

from e2e.actions import WORK, running_pod, signal_all
from e2e.platforms import choose
from e2e.runs import QUICK, Run, applied, sample
from e2e.stack import Stack, bring_up

LITTLE = {"requests": {"cpu": "50m", "memory": "128Mi"}, "limits": {"memory": "1Gi"}}


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole stack on a real cluster; ends with the session unless STROP_E2E_KEEP is set."""
    platform = choose()
    try:
        yield bring_up(platform)
    finally:
        if not os.environ.get("STROP_E2E_KEEP"):
            platform.down()


@pytest.fixture(scope="session")
def hung(stack: Stack) -> Iterator[Run]:
    """A run whose working process stands still from its first second on."""
    kept = {"ttlSecondsAfterFinished": 3600}  # the Job, and with it what the pods say at the end
    document = sample("magika-static-int8", benchmark=QUICK, seed=61, worker={"resources": LITTLE}, **kept)
    with applied(stack.kubectl, document, "hung") as run:
        signal_all(stack, running_pod(run), WORK, signal.SIGSTOP)
        yield run


@pytest.fixture(scope="session", autouse=True)
def _begin_early(request: pytest.FixtureRequest) -> None:
    """That it hangs is noticed after more than ten minutes: it starts first and is awaited last."""
    wanted = (item for item in request.session.items if "hung" in getattr(item, "fixturenames", ()))
    if os.environ.get("STROP_NIGHTLY") and any(wanted):
        request.getfixturevalue("hung")
