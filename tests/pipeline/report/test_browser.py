"""The report in a real browser: silent, complete without a network, readable on a phone."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from strop_job.report import write_report

pytestmark = pytest.mark.browser
CHROMIUM = "/usr/bin/chromium"
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SIZES = {"desktop": (1280, 900), "phone": (380, 780)}


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium; a machine without it fails, since a report nobody looked at is not tested."""
    found = CHROMIUM if Path(CHROMIUM).exists() else shutil.which("chromium") or shutil.which("google-chrome")
    if found is None:
        pytest.fail("no Chromium: install what `make prerequisites` lists (Debian package `chromium`)")
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield launched
        launched.close()


class Opened:
    """A page with all it said and asked for."""

    def __init__(self, page: Page, path: Path) -> None:
        self.page, self.said, self.asked = page, list[str](), list[str]()
        page.on("console", lambda message: self.said.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.said.append(str(error)))
        page.on("request", lambda request: self.asked.append(request.url))
        page.goto(path.as_uri())


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("ending", ["published", "missed", "early"])
def test_the_report_is_silent_self_contained_and_fits(
    browser: Browser, make_run, early_run, tmp_path: Path, ending: str, size: str, scheme: str, pytestconfig
) -> None:
    """The report would ask the network, log errors, scroll sideways on a phone, or lose a picture."""
    run = early_run if ending == "early" else make_run(microseconds=7_100 if ending == "published" else 15_000)
    html, _ = write_report(tmp_path, run)
    width, height = SIZES[size]
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    try:
        opened = Opened(context.new_page(), html)
        page = opened.page
        assert opened.said == []
        assert [url for url in opened.asked if not url.startswith(("file:", "data:"))] == []
        assert page.evaluate("document.documentElement.scrollWidth") <= width
        boxes = [plot.bounding_box() for plot in page.locator("svg.plot").all()]
        assert len(boxes) == (0 if ending == "early" else 6)
        assert all(box and box["width"] > 250 and box["height"] > 60 for box in boxes)
        assert page.evaluate(TEXT_OUTSIDE) == []
        page.screenshot(path=tmp_path / f"{ending}-{size}-{scheme}.png", full_page=True)
    finally:
        context.close()


TEXT_OUTSIDE = """() => [...document.querySelectorAll('svg.plot')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('text')]
    .filter(text => { const box = text.getBoundingClientRect();
      return box.left < frame.left - 2 || box.right > frame.right + 2; })
    .map(text => svg.dataset.plot + ': ' + text.textContent);
})"""
