"""What `strop status` shows of one resource: how it stands, its run, its stages, its targets with their gates."""

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime

from rich.text import Text
from rich.tree import Tree

from strop_api.findings import Severity
from strop_api.reasons import Reason
from strop_api.status import (
    ConditionType,
    GateVerdict,
    MetricFigures,
    ModelOptimizationStatus,
    Progress,
    RunStatus,
    Speedup,
    TargetStatus,
    TargetVerdict,
)
from strop_cli.optimizations import Optimization, is_current
from strop_cli.words import moment, shown
from strop_job.judgement.figures import bytes_text, microseconds_text, seconds_text

BAR = 24
GATE_TONES = {GateVerdict.PASSED: "green", GateVerdict.NOT_MEASURED: "yellow"}
BAD = "red"


def tree(found: Optimization, passed: Sequence[str] = (), now: datetime | None = None) -> Tree:
    """Everything the status says. `passed` are stages that were seen to begin and then another did: while a run goes on
    its status names the present one alone."""
    status = found.status
    root = Tree(_headline(found), guide_style="dim")
    if status.run is not None:
        run = root.add(_run_line(status.run, now or datetime.now(UTC)))
        for line in _stage_lines(status, passed):
            run.add(line)
    for target in status.targets:
        branch = root.add(_target_line(target))
        for line in _target_lines(target):
            branch.add(line)
    if status.findings:
        branch = root.add("findings")
        for found_ in status.findings:
            tone = "bold red" if found_.severity in (Severity.CRITICAL, Severity.HIGH) else "yellow"
            words = f" {found_.check}: {found_.message}"
            branch.add(Text.assemble((found_.severity.value, tone), shown(words)))
    if status.report:
        root.add(Text(f"report {shown(status.report)}"))
    return root


def plain(found: Optimization) -> str:
    """How it stands, in a line for where nothing can be redrawn: what changes this line is worth another."""
    progress = found.status.progress
    words = _headline(found).plain
    return words if progress is None else f"{words}  {progress_line(progress).plain}"


def _headline(found: Optimization) -> Text:
    ready = found.ready
    name = Text.assemble((f"{found.namespace}/{found.name}", "bold"))
    if ready is None:
        return name.append("  not seen by the operator yet", "yellow")
    settled = found.condition(ConditionType.STALLED) is not None
    tone = "green" if ready.reason is Reason.PUBLISHED else BAD if settled else "cyan"
    name.append(f"  {ready.reason}", f"bold {tone}")
    if ready.message:
        name.append(f"  {shown(ready.message)}")
    if not is_current(found):
        name.append("  (of an earlier request; the operator has not answered the new one yet)", "yellow")
    if (stale := found.condition(ConditionType.STALE)) is not None:
        name.append(f"  stale: {stale.reason}: {shown(stale.message)}", "yellow")
    return name


def _run_line(run: RunStatus, now: datetime) -> Text:
    words = f"run {run.id}  attempt {run.attempt}"
    end = moment(run.finished_at) if run.finished_at else now
    took = seconds_text(max(0.0, (end - moment(run.started_at)).total_seconds()))
    return Text(f"{words}  {'took' if run.finished_at else 'for'} {took}" + (f"  pod {run.pod}" if run.pod else ""))


def _stage_lines(status: ModelOptimizationStatus, passed: Sequence[str]) -> Iterator[Text]:
    for stage in status.stages:
        words = "cached, had cost " if stage.cached else ""
        mark = "=" if stage.cached else "✓"
        yield Text.assemble((f"{mark} ", "green"), shown(stage.name), (f"  {words}{_seconds(stage.seconds)}", "dim"))
    if status.stages:
        return
    for name in passed:
        yield Text.assemble(("✓ ", "green"), shown(name))
    if status.progress is not None:
        yield Text.assemble(("▸ ", "cyan"), progress_line(status.progress))


def progress_line(progress: Progress) -> Text:
    """Bar, percent of the whole run, stage, message, time left."""
    filled = round(progress.percent * BAR / 100)
    line = Text.assemble(
        ("━" * filled, "cyan"), ("─" * (BAR - filled), "dim"), f" {progress.percent:3d} %  ",
        (shown(progress.stage), "bold"),
    )  # fmt: skip
    if progress.message:
        line.append(f"  {shown(progress.message)}")
    if progress.remaining_seconds is not None:
        line.append(f"  about {seconds_text(progress.remaining_seconds)} left", "dim")
    return line


def _seconds(figure: str) -> str:
    return seconds_text(float(figure))


def _target_line(target: TargetStatus) -> Text:
    tone = "green" if target.verdict is TargetVerdict.PUBLISHED else BAD
    return Text.assemble(f"target {target.name}  ", (str(target.verdict), tone))


def _target_lines(target: TargetStatus) -> Iterator[Text]:
    if target.metric is not None:
        yield Text(metric_words(target.metric))
    if target.speedup is not None:
        yield Text(speedup_words(target.speedup))
    if (latency := target.latency) is not None:
        p99 = f", p99 {microseconds_text(latency.p99_microseconds)}" if latency.p99_microseconds else ""
        yield Text(f"latency p50 {microseconds_text(latency.p50_microseconds)}{p99}")
    if target.realised_precision:
        yield Text(f"precision {shown(target.realised_precision)}")
    for gate in target.gates:
        tone = GATE_TONES.get(gate.verdict, BAD)
        yield Text.assemble((str(gate.verdict), tone), f"  {shown(gate.gate)}", f"  {shown(gate.message)}".rstrip())
    for label, engine in (("published", target.artifact), ("built, not measured", target.built)):
        if engine is not None:
            yield Text(f"{label} {shown(engine.uri)} ({bytes_text(engine.size_bytes)})")
            yield Text(engine.digest, "dim")


def metric_words(metric: MetricFigures) -> str:
    """`accuracy 0.970 → 0.965, 0.50 points lost (95%: 0.1 to 0.9) on 360 samples`."""
    interval = f" (95%: {metric.low} to {metric.high})" if metric.low is not None and metric.high is not None else ""
    change = f"{metric.drop_points} points lost{interval}"
    return f"{shown(metric.name)} {metric.original} → {metric.optimized}, {change} on {metric.samples} samples"


def speedup_words(speedup: Speedup) -> str:
    """`speed-up 2.31x (95%: 2.2 to 2.4) over BestUnquantized`."""
    return f"speed-up {speedup.ratio}x (95%: {speedup.low} to {speedup.high}) over {shown(speedup.over)}"
