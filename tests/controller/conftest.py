"""One control plane and one operator for the folder; a namespace for each test."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parent))

from cluster_parts import SYSTEM, Kubelet, Namespace, Operator, eventually, install

from cluster import ControlPlane
from cluster.control_plane import CONTROLLERS

AUDIT = {
    "apiVersion": "audit.k8s.io/v1",
    "kind": "Policy",
    "omitStages": ["RequestReceived"],
    "rules": [{"level": "Metadata", "userGroups": [f"system:serviceaccounts:{SYSTEM}"]}, {"level": "None"}],
}
"""Who asked for what, and whether it was allowed; of the operator's accounts alone."""


@pytest.fixture(scope="session")
def audit_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the API server writes down what the operator asks for, one JSON document a line."""
    return tmp_path_factory.mktemp("audit") / "audit.log"


@pytest.fixture(scope="session")
def plane(audit_log: Path) -> Iterator[ControlPlane]:
    policy = audit_log.with_name("policy.yaml")
    policy.write_text(yaml.safe_dump(AUDIT))
    flags = (f"--audit-policy-file={policy}", f"--audit-log-path={audit_log}")
    # Quotas are refused by the API server; what they hold is counted, and freed, by a controller.
    controllers = (*CONTROLLERS, "resourcequota-controller")
    with ControlPlane(controllers=controllers, apiserver_flags=flags) as plane:
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
    eventually("it is ready", lambda: shared_operator.get("/readyz")[0] == 200)
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
