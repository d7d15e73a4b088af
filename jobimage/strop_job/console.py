"""What people see of a run on the command line: live progress, then stages, gates, figures and paths. Only words."""

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from strop_api.result import Outcome, Result
from strop_api.status import GateVerdict, Progress, TargetStatus
from strop_job.pipeline import Finished
from strop_job.plan import Plan
from strop_job.progress import Event, Update
from strop_job.records import Record
from strop_job.stages import Stage

VERDICT_STYLES = {
    GateVerdict.PASSED: "green",
    GateVerdict.MISSED: "red",
    GateVerdict.NOT_MEASURED: "yellow",
}
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
        words = f"cached, had cost {update.seconds:.1f} s" if mark == "=" else f"{update.seconds:.1f} s"
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
    if progress.remaining_seconds is not None:
        line.append(f"  about {duration(progress.remaining_seconds)} left", "dim")
    return line


def duration(seconds: float) -> str:
    """`42 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def show_finished(console: Console, finished: Finished, paths: Sequence[tuple[str, str]]) -> None:
    """Everything a person wants to know at the end."""
    console.print()
    console.print(stage_table(finished))
    if finished.result.target:
        console.print(figure_table(finished.result.target))
        console.print(gate_table(finished.result.target))
    for warning in finished.result.warnings:
        console.print(Text.assemble(("warning ", "yellow"), warning), soft_wrap=True)
    show_verdict(console, finished.result)
    for name, path in paths:
        console.print(f"{name:8s} {escape(path)}", soft_wrap=True, highlight=False)
    console.print(f"{'time':8s} {duration(finished.seconds)}", highlight=False)


def show_verdict(console: Console, result: Result) -> None:
    """The outcome in one line, with the field to change."""
    style = "bold green" if result.outcome is Outcome.PUBLISHED else "bold red"
    where = f"{result.field}: " if result.field else ""
    console.print(Text.assemble((str(result.outcome), style), f"  {where}{result.message}"), soft_wrap=True)


def show_plan(console: Console, plan: Plan, rows: Sequence[tuple[Stage, Record | None]]) -> None:
    """Every stage with what it reads, and whether it is on record."""
    table = Table("stage", "reads", "on record", title=f"run {plan.request.run_id}", title_justify="left")
    for stage, record in rows:
        state = "would run" if record is None else f"yes, {record.seconds:.1f} s saved"
        table.add_row(stage.name, ", ".join(stage.needs), state)
    console.print(table)
    for warning in plan.warnings:
        console.print(Text.assemble(("warning ", "yellow"), warning), soft_wrap=True)


def stage_table(finished: Finished) -> Table:
    """Stage, time, cached, size."""
    table = Table("stage", "time", "cached", "size", title="stages", title_justify="left")
    for row in finished.rows:
        table.add_row(row.name, f"{row.seconds:.2f} s", "yes" if row.cached else "", size_words(row.size_bytes))
    return table


def figure_table(target: TargetStatus) -> Table:
    """Metric, latency, speed-up, size: only what was measured."""
    table = Table("figure", "value", title=f"target {target.name}", title_justify="left")
    if m := target.metric:
        interval = f", 95% interval {m.low} to {m.high}" if m.low is not None else ""
        table.add_row(
            m.name, f"{m.original} → {m.optimized} (loss {m.drop_points} points{interval}; {m.samples} samples)"
        )
    if latency := target.latency:
        p99 = f", p99 {latency.p99_microseconds:,} µs" if latency.p99_microseconds is not None else ""
        table.add_row("latency", f"p50 {latency.p50_microseconds:,} µs{p99} ({latency.calls} calls)")
    if s := target.speedup:
        table.add_row("speed-up", f"{s.ratio}x over {s.over} (95% interval {s.low} to {s.high})")
    if target.realised_precision:
        table.add_row("precision", target.realised_precision)
    if target.artifact:
        table.add_row("size", size_words(target.artifact.size_bytes))
    return table


def size_words(size_bytes: int) -> str:
    """In KiB or MiB."""
    return f"{size_bytes / 2**20:.2f} MiB" if size_bytes >= 2**19 else f"{size_bytes / 2**10:.1f} KiB"


def gate_table(target: TargetStatus) -> Table:
    """Each gate's verdict with the figure and the bound."""
    table = Table("gate", "verdict", "in words", title="gates", title_justify="left")
    for gate in target.gates:
        table.add_row(gate.gate, Text(gate.verdict, VERDICT_STYLES[gate.verdict]), gate.message)
    return table


def local_path(root: Path, uri: str) -> str:
    """Where the folder store keeps an object."""
    return str(root / uri.removeprefix("s3://"))
