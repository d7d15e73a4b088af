"""One API server with both definitions for the whole folder, and fresh documents for each test."""

import sys
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path

import pytest

ROOT = str(Path(__file__).resolve().parents[2])
if ROOT not in sys.path:  # tests.cluster is a package beside this folder, not an installed one
    sys.path.insert(0, ROOT)

from tests.cluster import ControlPlane  # noqa: E402
from tests.contract.documents import MINIMAL, POLICY, Document  # noqa: E402
from tests.contract.server import Server, install  # noqa: E402


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One control plane for the folder, with both definitions established."""
    with ControlPlane(controllers=("serviceaccount-controller",)) as plane:
        install(plane.api)
        yield Server(plane)


@pytest.fixture
def minimal() -> Document:
    """A ModelOptimization that passes every rule."""
    return deepcopy(MINIMAL)


@pytest.fixture
def policy() -> Document:
    """An OptimizationPolicy that passes every rule."""
    return deepcopy(POLICY)
