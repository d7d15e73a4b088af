"""One control plane and one operator for the folder; a namespace for each test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cluster_parts import SYSTEM, Kubelet, Namespace, Operator, eventually, install

from cluster import ControlPlane


@pytest.fixture(scope="session")
def plane() -> Iterator[ControlPlane]:
    with ControlPlane() as plane:
        yield plane


@pytest.fixture(scope="session")
def operator_kubeconfig(plane: ControlPlane) -> Path:
    kubeconfig = install(plane)
    Namespace(plane.api, SYSTEM).set_policy()
    return kubeconfig


@pytest.fixture(scope="session")
def shared_operator(operator_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    operator = Operator(operator_kubeconfig, tmp_path_factory.mktemp("operator") / "log", "--no-lease")
    operator.start()
    eventually("the operator leads", lambda: operator.metric("strop_leader") == 1)
    yield operator
    operator.close()


@pytest.fixture
def operator(shared_operator: Operator) -> Iterator[Operator]:
    """The shared operator, running; its log is shown when the test fails."""
    if shared_operator.process is None:
        shared_operator.start()
    yield shared_operator
    print(shared_operator.log[-6000:])


@pytest.fixture
def namespace(plane: ControlPlane, operator: Operator) -> Namespace:
    made = Namespace(plane.api)
    made.account()
    return made


@pytest.fixture
def kubelet(plane: ControlPlane) -> Kubelet:
    return Kubelet(plane.api)
