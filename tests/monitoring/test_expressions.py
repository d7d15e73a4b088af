"""Every PromQL expression of the dashboards and the alerts, on a real Prometheus that scraped a real operator."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from monitoring.play import ALERTS, Watched
from strop_api.reasons import Reason

pytestmark = pytest.mark.apiserver

DASHBOARDS = sorted((ALERTS.parents[1] / "dashboards").glob("*.json"))
VARIABLES = {"$__rate_interval": "30s", "$__range": "30m", "$window": "30m"}
NONE_HERE = {
    "strop_worker_cpu_limit_cores": "the tests' own container may have no limit",
    "strop_worker_memory_limit_bytes": "the tests' own container may have no limit",
}
"""What can have no data, with the reason."""


def panels() -> Iterator[tuple[str, str]]:
    """Where an expression stands, and the expression."""
    for path in DASHBOARDS:
        for panel in json.loads(path.read_text())["panels"]:
            for target in panel.get("targets", []):
                yield f"{path.stem}: {panel['title']} {target['refId']}", target["expr"]


def rules() -> list[dict[str, str]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def without_thresholds(expression: str) -> str:
    """What an alert looks at, whatever its value; a look back of hours becomes one of a second."""
    inner = re.sub(r"\s(>=|<=|==|>|<)\s+[0-9.]+", " ", expression)
    return re.sub(r"offset \w+", "offset 1s", inner)


def figures(watched: Watched, expression: str, name: str) -> list[float]:
    """The values of all series that an expression yields; those that are no number left out."""
    for variable, value in {**VARIABLES, "$namespace": watched.namespace, "$name": name}.items():
        expression = expression.replace(variable, value)
    assert "$" not in expression, expression
    values = (float(series["value"][1]) for series in watched.prometheus.query(expression))
    return [value for value in values if not math.isnan(value)]


@pytest.mark.parametrize(("where", "expression"), list(panels()), ids=[where for where, _ in panels()])
def test_a_panels_expression_has_data(watched: Watched, where: str, expression: str) -> None:
    """A metric that was renamed leaves an empty panel, and nobody is told."""
    found = [figures(watched, expression, name) for name in ("running", "published-0")]
    assert any(found) or any(name in expression for name in NONE_HERE), expression


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule["alert"])
def test_what_an_alert_looks_at_is_there(watched: Watched, rule: dict[str, str]) -> None:
    """An alert over a series that does not exist is silent for ever. Resources of `happen` stand for what is ill."""
    assert figures(watched, without_thresholds(rule["expr"]), ""), rule["expr"]


def test_prometheus_itself_takes_the_rules(watched: Watched) -> None:
    """With one rule that it cannot read Prometheus starts without all the others."""
    groups = watched.prometheus.get("rules")["data"]["groups"]
    loaded = {rule["name"]: rule["health"] for group in groups for rule in group["rules"]}
    assert loaded.keys() == {rule["alert"] for rule in rules()}
    assert "err" not in loaded.values()


def test_a_reason_that_is_asked_for_exists() -> None:
    """A reason that was renamed is never met, which looks like health."""
    texts = [expression for _, expression in panels()] + [rule["expr"] for rule in rules()]
    asked = {word for text in texts for found in re.findall(r'reason=~?"([^"]+)"', text) for word in found.split("|")}
    assert asked
    assert asked <= set(map(str, Reason))


def test_each_metric_is_explained(watched: Watched) -> None:
    """A figure that nobody explains is read as something else."""
    told = re.findall(r"^# TYPE (strop_\w+) ", watched.operator.get("/metrics")[1], re.MULTILINE)
    assert len(told) > 20
    guide = (Path(__file__).resolve().parents[2] / "docs" / "monitoring.md").read_text()
    assert [name for name in told if f"`{name}" not in guide] == []
