"""Lists and watches that the API server breaks off: the operator begins anew and misses nothing."""

import pytest
from cluster_parts import Namespace, Operator, eventually

from cluster import ControlPlane

from .proxy import Fault, Proxy

pytestmark = [
    pytest.mark.apiserver,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize("fault", [Fault.LIST_GONE, Fault.NOT_SERVED, Fault.THROTTLED])
def test_a_list_that_fails_on_its_way_is_begun_anew(
    plane: ControlPlane, served: Operator, proxy: Proxy, fault: Fault
) -> None:
    """kopf ends at such an answer: each watch of it, one after the other, is broken here."""
    process = served.process
    assert process is not None
    space = Namespace(plane.api)
    for number in range(4):
        proxy.plan(Fault.WATCH_GONE)
        proxy.plan(fault)
        proxy.plan(Fault.WATCHES_DROPPED)
        eventually("both have happened", proxy.healed)
        assert process.poll() is None, "it has ended"
        space.create(f"m{number}", suspend=True)
        space.reason("Suspended", f"m{number}")
    assert process.poll() is None
    assert served.metric("strop_reconcile_errors_total", kind="bug") == 0


def test_a_watch_that_fails_for_good_ends_the_operator_and_the_next_one_goes_on(
    plane: ControlPlane, served: Operator, proxy: Proxy
) -> None:
    """Whoever stayed, deaf to one kind, would look healthy for minutes: the kubelet starts it again at once."""
    space = Namespace(plane.api)
    proxy.plan(Fault.WATCH_FAILED)
    proxy.plan(Fault.WATCHES_DROPPED)
    assert served.process is not None
    assert served.process.wait(20) != 0
    served.process = None
    space.create(suspend=True)
    served.start()
    space.reason("Suspended")
