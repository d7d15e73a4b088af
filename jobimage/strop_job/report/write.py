"""Writes a run's report: `report.html`, which opens from a disk with no network and no script, and `report.json`."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup
from pydantic import ValidationError

from strop_job.judgement.evidence import Latencies, read_latencies
from strop_job.report import truth, words
from strop_job.report.assemble import assemble
from strop_job.report.document import ReportDocument
from strop_job.report.run import RunReport

if TYPE_CHECKING:
    import jinja2

HTML_FILE, JSON_FILE = "report.html", "report.json"
TEMPLATES = Path(__file__).parent / "templates"


def write_report(folder: Path, run: RunReport) -> tuple[Path, Path]:
    """Writes both files into `folder` and returns their paths, HTML first. The same run gives the same bytes."""
    latencies: dict[str, Latencies] = read_latencies(run.benchmarks) if run.benchmarks else {}
    document = assemble(run, latencies)
    html, json = folder / HTML_FILE, folder / JSON_FILE
    json.write_text(document.model_dump_json(by_alias=True, exclude_none=True, indent=2) + "\n")
    html.write_text(render(document, latencies), encoding="utf-8")
    return html, json


def tells_the_same(kept: bytes, run: RunReport) -> bool:
    """Whether an earlier `report.json` of this run says all that a new one would.

    It may differ in when it was written and in what came from records: the earlier one tells what really ran.
    """
    try:
        earlier = ReportDocument.model_validate_json(kept)
    except ValidationError:
        return False
    return _timeless(earlier) == _timeless(assemble(run, read_latencies(run.benchmarks) if run.benchmarks else {}))


def _timeless(document: ReportDocument) -> dict[str, Any]:
    found = document.model_dump(mode="json", exclude={"run": {"finished_at"}, "provenance": {"madeAt", "startedAt"}})
    return found | {"stages": [{**stage, "cached": False} for stage in found["stages"]]}


def render(document: ReportDocument, latencies: dict[str, Latencies]) -> str:
    """The page. Every name and message is escaped: they come from models, data files and specs of other people."""
    from strop_job.report.plots import plots  # matplotlib takes a second to import: only where something is drawn

    style = Markup((TEMPLATES / "report.css").read_text())  # noqa: S704 - our own file
    return _template().render(
        report=document,
        plots=list(plots(document, latencies)),
        headline=words.headline(document),
        counted=words.counted(document),
        tiles=words.tiles(document),
        gates=words.worst_first(document),
        measured=words.measured(document),
        layers=truth.heaviest_layers(document),
        graph=list(truth.graph_rows(document)),
        to_verify=truth.to_verify(document),
        style=style,
    )


@cache
def _template() -> "jinja2.Template":
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    filters: dict[str, Any] = {
        "microseconds": words.microseconds_text,
        "bytes": words.bytes_text,
        "seconds": words.seconds_text,
        "pretty": words.pretty,
        "short": words.short_digest,
        "shorten": words.shorten,
        "verdict": words.VERDICTS.__getitem__,
        "gate_name": words.gate_name,
        "severity": words.SEVERITIES.__getitem__,
        "title_of": words.check_title,
        "explained": words.check_explained,
        "sentence": words.sentence,
        "spans": words.spans,
    }
    environment.filters.update(filters)
    return environment.get_template("report.html.j2")
