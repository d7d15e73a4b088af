"""Many resources come and go; the operator's figures stay as few as they were."""

import os
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
from cluster_parts import Namespace, Operator, eventually

pytestmark = [pytest.mark.apiserver, pytest.mark.timeout(1200)]
MANY = 10_000 if os.environ.get("STROP_NIGHTLY") else 300
OF_EACH_RESOURCE = {"strop_modeloptimization_info", "strop_modeloptimization_ready"}


def series(operator: Operator) -> Counter[str]:
    """How many series each metric has."""
    lines = operator.get("/metrics")[1].splitlines()
    return Counter(line.partition("{")[0].partition(" ")[0] for line in lines if not line.startswith("#"))


def test_the_figures_are_as_few_after_many_resources_as_before(namespace: Namespace, operator: Operator) -> None:
    """A label with a name that nobody removes fills the monitoring's memory, in months."""
    refused = {"worker": {"queueName": "of-another-team"}}

    def alone() -> bool:
        return not any(namespace.name in line for line in operator.get("/metrics")[1].splitlines())

    namespace.create("first", **refused)
    namespace.reason("NotAllowed", "first")
    namespace.delete(f"{namespace.resources}/first")
    eventually("the first is forgotten", alone)
    before = series(operator)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: namespace.create(f"m{i}", **refused), range(MANY)))
    info = "strop_modeloptimization_info"
    eventually("all are told of", lambda: series(operator)[info] == before[info] + MANY, 600)
    during = series(operator)
    assert {name for name in during if during[name] != before[name]} == OF_EACH_RESOURCE
    namespace.delete(namespace.resources)
    eventually("all are forgotten", alone, 600)
    assert series(operator) == before
