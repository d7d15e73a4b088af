"""What people see of a run on the command line: live progress, then stages, gates, figures and paths. Only words."""

import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from rich import box
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from strop_api.findings import Finding, Severity
from strop_api.result import Outcome, Result
from strop_api.status import GateVerdict, Progress, TargetStatus
from strop_api.targets import SpeedupOver
from strop_job.conclude import Finished
from strop_job.judgement.comparison import Row
from strop_job.judgement.figures import bytes_text, seconds_text
from strop_job.judgement.headline import PHRASES, speed_text
from strop_job.judgement.statistics import Interval
from strop_job.plan import Plan
from strop_job.progress import Event, Update
from strop_job.records import Record
from strop_job.stages import Stage

VERDICT_STYLES = {
    GateVerdict.PASSED: "green",
    GateVerdict.MISSED: "red",
    GateVerdict.INCONCLUSIVE: "red",
    GateVerdict.NOT_MEASURED: "yellow",
}
SEVERITY_STYLES = {Severity.CRITICAL: "bold red", Severity.HIGH: "red", Severity.MEDIUM: "yellow", Severity.LOW: "dim"}
PLAIN_SECONDS = 5.0
"""Without a terminal: between two lines of the same stage."""
BAR_WIDTH = 28


class ConsoleReporter:
    """Shows progress in one live line on a terminal, as plain lines elsewhere. Redraws only when told something."""

    def __init__(self, console: Console) -> None:
        self._console, self._stop, self._told = console, False, 0.0
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> "ConsoleReporter":
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def stop(self) -> None:
        """Asks the pipeline to leave at its next report."""
        self._stop = True

    def stopping(self) -> bool:
        """Whether it was asked to."""
        return self._stop

    def tell(self, update: Update) -> None:
        """One update, drawn at once."""
        if update.event in (Event.CACHED, Event.FINISHED) and update.seconds >= 0:
            self._ended(update)
        if self._live:
            self._live.update(live_line(update.progress), refresh=True)
        elif update.event is Event.STARTED or (
            update.event is Event.WORKING and time.monotonic() - self._told >= PLAIN_SECONDS
        ):
            self._console.print(live_line(update.progress), soft_wrap=True)
            self._told = time.monotonic()

    def _ended(self, update: Update) -> None:
        mark = "=" if update.event is Event.CACHED else "+"
        words = f"cached, had cost {seconds_text(update.seconds)}" if mark == "=" else seconds_text(update.seconds)
        line = Text.assemble(f"{mark} ", (update.progress.stage, "bold"), f"  {words}")
        self._console.print(line, soft_wrap=True)


def live_line(progress: Progress) -> Text:
    """Bar, percent, stage, message, time left."""
    filled = round(progress.percent * BAR_WIDTH / 100)
    line = Text.assemble(
        ("━" * filled, "cyan"),
        ("─" * (BAR_WIDTH - filled), "dim"),
        f" {progress.percent:3d} %  ",
        (progress.stage, "bold"),
    )
    if progress.message:
        line.append(f"  {progress.message}")
    if seconds := progress.remaining_seconds:
        line.append(f"  about {seconds_text(seconds) if seconds >= 60 else f'{seconds} s'} left", "dim")
    return line


def show_finished(console: Console, finished: Finished, paths: Sequence[tuple[str, str]]) -> None:
    """Everything a person wants to know at the end."""
    console.print()
    console.print(stage_table(finished))
    if finished.compared:
        console.print()
        console.print(figure_table(finished.compared))
    if finished.result.target:
        for line in figure_lines(finished.result.target):
            console.print(line, soft_wrap=True, highlight=False)
        console.print()
        console.print(gate_table(finished.result.target))
    console.print()
    show_findings(console, finished.result.findings)
    show_verdict(console, finished.result)
    built = finished.result.target is not None and finished.result.target.built is not None
    for name, path in paths:
        name = "kept" if name == "engine" and built else name
        console.print(f"{name:8s} {escape(path)}", soft_wrap=True, highlight=False)
    console.print(f"{'time':8s} {seconds_text(finished.seconds)}", highlight=False)


def show_verdict(console: Console, result: Result) -> None:
    """The outcome in one line, with the field to change."""
    style = "bold green" if result.outcome is Outcome.PUBLISHED else "bold red"
    where = f"{result.field}: " if result.field else ""
    console.print(Text.assemble((str(result.outcome), style), f"  {where}{result.message}"), soft_wrap=True)


def show_plan(console: Console, plan: Plan, rows: Sequence[tuple[Stage, Record | None]]) -> None:
    """Every stage with what it reads and yields, and whether it is on record."""
    console.print(f"run {plan.request.run_id}", highlight=False)
    table = _table("stage", "reads", "yields", "on record")
    for stage, record in rows:
        state = "would run" if record is None else f"yes, {seconds_text(record.seconds)} saved"
        table.add_row(stage.name, ", ".join(stage.needs), str(plan.kinds.get(stage.name, "")), state)
    console.print(table)
    for note in plan.notes:
        console.print(Text.assemble(("note ", "yellow"), note), soft_wrap=True)
    show_findings(console, plan.findings)


def show_findings(console: Console, findings: Iterable[Finding]) -> None:
    """How bad, which check, what was seen, and on lines of its own what would mend it; nothing without findings."""
    listed = list(findings)
    if not listed:
        return
    table = _table("finding", "in words")
    for found in listed:
        mend = f"\n→ {found.mend}" if found.mend else ""
        words = Text.assemble((found.check, "bold"), f": {found.message}", (mend, "dim"))
        table.add_row(Text(found.severity.value, SEVERITY_STYLES[found.severity]), words)
    console.print(table)
    console.print()


def stage_table(finished: Finished) -> Table:
    """Stage, time, cached, size."""
    table = _table("stage", "time", "", "size", right=(1, 3))
    for row in finished.rows:
        table.add_row(row.name, seconds_text(row.seconds), "cached" if row.cached else "", bytes_text(row.size_bytes))
    return table


def figure_table(rows: Sequence[Row]) -> Table:
    """Original and optimized side by side."""
    table = _table("figure", "original", "optimized", "change", right=(1, 2))
    for row in rows:
        table.add_row(row.figure, row.original, row.optimized, row.change)
    return table


def figure_lines(target: TargetStatus) -> Iterator[str]:
    """What has no two sides: the speed-up that is stated, and how the engine computes."""
    if s := target.speedup:
        interval = Interval(float(s.ratio), float(s.low), float(s.high))
        yield f"speed-up {speed_text(interval)} over {PHRASES[SpeedupOver(s.over)]}"
    if target.realised_precision:
        yield f"precision {target.realised_precision}"


def _table(*headings: str, right: Sequence[int] = ()) -> Table:
    """Narrow enough for 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for at, heading in enumerate(headings):
        table.add_column(heading, justify="right" if at in right else "left", no_wrap=at == 0)
    return table


def gate_table(target: TargetStatus) -> Table:
    """Each gate's verdict with the figure and the bound."""
    table = _table("gate", "verdict", "in words")
    for gate in target.gates:
        table.add_row(gate.gate, Text(gate.verdict, VERDICT_STYLES[gate.verdict]), gate.message)
    return table


def local_path(root: Path, uri: str) -> str:
    """Where the folder store keeps an object."""
    return str(root / uri.removeprefix("s3://"))
