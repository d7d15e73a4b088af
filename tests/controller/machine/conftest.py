"""An operator behind the proxy that breaks what goes through it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster_parts import Operator, eventually

from cluster import ControlPlane

from .proxy import Proxy


@pytest.fixture
def proxy(operator_kubeconfig: Path) -> Iterator[Proxy]:
    with Proxy(operator_kubeconfig) as made:
        yield made


@pytest.fixture
def served(plane: ControlPlane, shared_operator: Operator, proxy: Proxy, tmp_path: Path) -> Iterator[Operator]:
    """An operator behind the proxy, with nobody beside it."""
    shared_operator.stop()
    operator = Operator(proxy.kubeconfig_through(tmp_path / "kubeconfig"), tmp_path / "log", "--no-lease")
    operator.start()
    eventually("it is ready", lambda: operator.get("/readyz")[0] == 200)
    yield operator
    print(operator.log[-6000:])
    operator.close()
    shared_operator.start()
