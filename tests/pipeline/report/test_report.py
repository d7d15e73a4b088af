"""The report opens anywhere, says what happened first, trusts nobody's names, and is the same bytes each time."""

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

from strop_api.checks.evidence import COLLAPSED
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Outcome
from strop_api.status import TargetStatus, TargetVerdict
from strop_job.outcome import realised_precision
from strop_job.report import write_report
from strop_job.report.document import ReportDocument

VOID = {"meta", "link", "br", "img", "hr", "input", "use", "path"}


class Page(HTMLParser):
    """Collects ids, references and text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href")]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_outcome_comes_first_and_names_the_gate_that_was_missed(make_run, tmp_path: Path) -> None:
    """A reader would have to search for why nothing was published."""
    html, _ = write_report(tmp_path, make_run(microseconds=15_000))
    text = " ".join(Page(html.read_text()).texts)
    assert text.index("Gate missed: Speed-up") < text.index("is below 1.5x") < text.index("Metric drop")
    assert "is below 1.5x over the original. Nothing was published." in text


def test_findings_are_counted_first_and_told_with_what_would_mend_them(make_run, tmp_path: Path) -> None:
    """A reader would miss what no gate refuses, or see markup from a tensor's name."""
    critical = COLLAPSED.finding("class `<b>3</b>` is 99% of the answers: another scale?", mend="keep the head high")
    html, _ = write_report(tmp_path, replace(make_run(), findings=(critical, *make_run().findings)))
    page = Page(html.read_text())
    text = " ".join(" ".join(page.texts).split())
    assert text.index("Findings: 1 Critical, 1 Medium.") < text.index("Gates") < text.index("Answers collapsed")
    assert "Class <b>3</b> is 99% of the answers: another scale? Keep the head high." in text
    assert "<code>&lt;b&gt;3&lt;/b&gt;</code>" in html.read_text()


def test_a_published_run_says_where(make_run, tmp_path: Path) -> None:
    """A reader could not find the engine."""
    html, _ = write_report(tmp_path, make_run())
    text = " ".join(Page(html.read_text()).texts)
    assert "s3://engines/minilm/0123456789/engine.onnx" in text
    assert "All 7 gates passed." in text


def test_the_json_holds_the_same_figures_under_its_schema(make_run, tmp_path: Path) -> None:
    """A script that reads the report would break with each release, or see other figures than the page."""
    run = make_run()
    _, path = write_report(tmp_path, run)
    document = ReportDocument.model_validate_json(path.read_text())
    assert document.format == 1
    assert document.outcome is Outcome.PUBLISHED
    assert run.judgement is not None
    assert document.speedup == run.judgement.speedup
    assert [gate.gate for gate in document.gates] == [gate.gate for gate in run.judgement.gates]
    assert {variant.name: variant.calls for variant in document.variants} == {"original": 400, "optimized": 400}
    assert {"run", "outcome", "gates", "variants", "stages"} <= set(json.loads(path.read_text()))


def test_the_same_run_gives_the_same_bytes(make_run, tmp_path: Path) -> None:
    """Two reports of one run could not be compared, and a cached one would look new."""
    run = make_run()
    folders = [tmp_path / name for name in ("one", "two")]
    for folder in folders:
        folder.mkdir()
    first, second = (write_report(folder, run) for folder in folders)
    assert [path.read_bytes() for path in first] == [path.read_bytes() for path in second]


def test_the_page_refers_to_nothing_outside_itself(make_run, tmp_path: Path) -> None:
    """A report opened on a plane would be bare, and one opened at work would tell somebody."""
    html, _ = write_report(tmp_path, make_run())
    page = Page(html.read_text())
    assert [link for link in page.links if not link.startswith(("#", "data:"))] == []
    assert "script" not in page.tags
    assert re.findall(r"@import|url\((?!#)", html.read_text()) == []
    assert html.stat().st_size < 1_500_000


def test_no_two_plots_share_an_id(make_run, tmp_path: Path) -> None:
    """One plot's clip path would cut another's bars."""
    html, _ = write_report(tmp_path, make_run())
    page = Page(html.read_text())
    assert len(page.ids) == len(set(page.ids))
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)


def test_every_plot_is_well_formed(make_run, tmp_path: Path) -> None:
    """A browser would show half a picture."""
    html, _ = write_report(tmp_path, make_run())
    drawn = re.findall(r"<svg.*?</svg>", html.read_text(), re.DOTALL)
    assert len(drawn) == 6
    for svg in drawn:
        ET.fromstring(svg)


def test_names_and_messages_are_shown_as_text_never_as_markup(early_run, make_run, tmp_path: Path) -> None:
    """A tensor by the name of a script would run in the reader's browser."""
    html, _ = write_report(tmp_path, early_run)
    assert "script" not in Page(html.read_text()).tags
    assert "<script>alert('x')</script> & $x_1$" in " ".join(Page(html.read_text()).texts)
    html, _ = write_report(tmp_path, make_run(name="<b>$\\frac{</b>"))
    assert "b" in Page(html.read_text()).tags
    assert "<b>$\\frac" not in html.read_text()


def test_a_run_that_ended_early_still_gets_a_report(early_run, tmp_path: Path) -> None:
    """The user of a failed run would have nothing to look at."""
    html, path = write_report(tmp_path, early_run)
    assert "Invalid input" in html.read_text()
    document = ReportDocument.model_validate_json(path.read_text())
    assert (document.gates, document.variants, document.metric) == ([], [], None)


def test_fp16_on_a_cpu_is_said_to_compute_in_fp32(make_run, tmp_path: Path) -> None:
    """A reader would take a smaller file for a faster model, or the honest 0% for a fault."""
    run = make_run()
    document = run.request.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    document["steps"] = [{"name": "half", "type": "Quantize", "quantize": {"precision": "fp16", "method": "Cast"}}]
    request = run.request.model_copy(update={"spec": ModelOptimizationSpec.model_validate(document)})
    inspection = {"inspected": True, "macs": 680_000_000, "macsByFormat": {"fp32": 680_000_000}}
    verify = replace(run.verify, facts={**run.verify.facts, "inspection": inspection})
    html, _ = write_report(tmp_path, replace(run, request=request, verify=verify))
    assert "compute in fp32" in html.read_text()
    words = realised_precision(request.spec, request.spec.targets[0], verify.facts)
    assert words == "0% in fp16: ONNX Runtime's CPU kernels compute in fp32"
    TargetStatus(name="cpu", verdict=TargetVerdict.PUBLISHED, realised_precision=words)
    assert "fp32" not in (realised_precision(run.request.spec, run.request.spec.targets[0], run.verify.facts) or "")
