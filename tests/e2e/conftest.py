"""One stack for all end-to-end tests; each test has resources of its own."""

import os
from collections.abc import Iterator

import pytest

from e2e.platforms import choose
from e2e.stack import Stack, bring_up


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """The whole stack on a real cluster; ends with the session unless STROP_E2E_KEEP is set."""
    platform = choose()
    try:
        yield bring_up(platform)
    finally:
        if not os.environ.get("STROP_E2E_KEEP"):
            platform.down()
