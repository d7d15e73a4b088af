"""The alerts: promtool's unit tests of each, and a runbook behind each."""

import re
import subprocess
from pathlib import Path

import yaml

from monitoring.play import ALERTS

ROOT = Path(__file__).resolve().parents[2]
CASES = Path(__file__).with_name("alerts.yaml")
RULES = [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


def test_each_alert_fires_when_it_should_and_not_before() -> None:
    """An alert that was never seen to fire may never fire, and one that fires at all times is not read."""
    done = subprocess.run(["promtool", "test", "rules", CASES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_is_without_a_case_for_both() -> None:
    """A new alert needs to be seen silent and firing."""
    cases = [case for test in yaml.safe_load(CASES.read_text())["tests"] for case in test["alert_rule_test"]]
    for fires in (True, False):
        assert {c["alertname"] for c in cases if bool(c["exp_alerts"]) is fires} == {rule["alert"] for rule in RULES}


def test_each_alert_leads_to_its_runbook() -> None:
    """Whoever is woken needs the page, not the site."""
    guide = (ROOT / "docs" / "monitoring.md").read_text()
    headings = {heading.lower() for heading in re.findall(r"^### (\w+)$", guide, re.MULTILINE)}
    anchors = {rule["annotations"]["runbook_url"].partition("docs/monitoring.md#")[2] for rule in RULES}
    assert anchors == {rule["alert"].lower() for rule in RULES} == headings
