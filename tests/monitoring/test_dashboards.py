"""The dashboards as Grafana reads them: told apart, complete, and with nothing that only one cluster has."""

import json
import re
from typing import Any

import pytest

from monitoring.play import ALERTS

PAGES = {path.stem: json.loads(path.read_text()) for path in (ALERTS.parents[1] / "dashboards").glob("*.json")}


def panels(page: str) -> list[dict[str, Any]]:
    return [panel for panel in PAGES[page]["panels"] if panel["type"] != "row"]


@pytest.mark.parametrize("page", PAGES)
def test_panels_are_told_apart_and_lie_beside_each_other(page: str) -> None:
    """Two of one number, or one above another, and Grafana shows one of them."""
    every = PAGES[page]["panels"]
    assert len({panel["id"] for panel in every}) == len(every)
    taken: set[tuple[int, int]] = set()
    for panel in every:
        at = panel["gridPos"]
        cells = {(at["x"] + i, at["y"] + j) for i in range(at["w"]) for j in range(at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells


@pytest.mark.parametrize("page", PAGES)
def test_each_panel_says_what_it_shows_in_which_unit(page: str) -> None:
    """A curve without a unit is read in the wrong one."""
    for panel in panels(page):
        assert len(panel["description"]) > 5
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]


@pytest.mark.parametrize("page", PAGES)
def test_only_the_page_itself_says_which_prometheus(page: str) -> None:
    """A data source's UID is another in each Grafana."""
    sources = re.findall(r'"uid": "([^"]+)"', json.dumps(PAGES[page]))
    assert set(sources) == {"${datasource}", PAGES[page]["uid"]}


@pytest.mark.parametrize("page", PAGES)
def test_every_variable_that_is_used_can_be_chosen(page: str) -> None:
    """An unknown variable stays in the query as it is, and the panel is empty."""
    known = {variable["name"] for variable in PAGES[page]["templating"]["list"]}
    used = {name for p in panels(page) for t in p["targets"] for name in re.findall(r"\$(\w+)", t["expr"])}
    assert used - {"__rate_interval", "__range"} <= known


def test_the_pages_lead_to_each_other() -> None:
    """From what is not Ready to why, and back."""
    assert f"/d/{PAGES['run']['uid']}?" in json.dumps(PAGES["overview"])
    assert f"/d/{PAGES['overview']['uid']}" in json.dumps(PAGES["run"]["links"])
