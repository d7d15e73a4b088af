"""The page of one resource: where its run is, what it came to, what its worker uses."""

from grafana_foundation_sdk.builders import dashboard as board
from parts import OVERVIEW_PAGE, RUN_PAGE, figure, filled, labels, lines, listing, page

OF_RESOURCE = 'namespace="$namespace", name="$name"'
OF_WORKER = 'namespace="$namespace", strop_dev_optimization="$name"'
LABELS = ("instance", "job", "pod", "container", "endpoint", "service")


def run():
    """The whole page."""
    made = page(RUN_PAGE, "Strop: one run", "One ModelOptimization: its state, its figures, its worker.")
    named = labels("name", "ModelOptimization", 'strop_modeloptimization_info{namespace="$namespace"}')
    made = made.time("now-6h", "now").with_variable(labels("namespace", "Namespace", "strop_modeloptimization_info"))
    made = made.with_variable(named)
    made = made.link(board.DashboardLink("Overview").type("link").url(f"/d/{OVERVIEW_PAGE}").icon("dashboard"))
    return filled(made, ROWS)


STATE = (
    figure(
        "Reason", "Of the condition Ready.", (f"strop_modeloptimization_info{{{OF_RESOURCE}}}", "{{reason}}"), width=6,
        named=True,
    ),
    figure(
        "Ready", "1: published, and every gate passed.", (f"strop_modeloptimization_ready{{{OF_RESOURCE}}}", ""),
        width=3, steps=((None, "orange"), (1, "green")),
    ),
    figure("Progress", "Of the whole run.", (f"strop_modeloptimization_progress_ratio{{{OF_RESOURCE}}}", ""),
           unit="percentunit", width=3),
    figure("Stage", "That runs.", (f"strop_modeloptimization_stage_info{{{OF_RESOURCE}}}", "{{stage}}"), width=6,
           named=True),
    figure("Speed-up", "Of the last run that measured it, published or not.",
           (f"strop_modeloptimization_speedup_ratio{{{OF_RESOURCE}}}", ""), unit="x", width=3),
    figure("Loss", "Of the metric, in points; below zero is a gain.",
           (f"strop_modeloptimization_metric_drop_points{{{OF_RESOURCE}}}", ""), width=3),
    lines("Reasons", "Which held when.", (f"strop_modeloptimization_info{{{OF_RESOURCE}}}", "{{reason}}"), width=12),
    lines("Progress", "As the worker tells the operator.",
          (f"strop_modeloptimization_progress_ratio{{{OF_RESOURCE}}}", "progress"), unit="percentunit", width=12),
    listing("Stale", "What has overtaken what was published.", (f"strop_modeloptimization_stale{{{OF_RESOURCE}}}", ""),
            hidden=LABELS),
)  # fmt: skip
WORKER = (
    lines("Processor", "Cores in use, and what the container may use.",
          (f"rate(strop_worker_cpu_seconds_total{{{OF_WORKER}}}[$__rate_interval])", "used {{pod}}"),
          (f"strop_worker_cpu_limit_cores{{{OF_WORKER}}}", "limit {{pod}}"), unit="none"),
    lines("Memory", "Working set, and what the container may use.",
          (f"strop_worker_memory_bytes{{{OF_WORKER}}}", "used {{pod}}"),
          (f"strop_worker_memory_limit_bytes{{{OF_WORKER}}}", "limit {{pod}}"), unit="bytes"),
    lines("Measuring", "1 while latency is measured; the kernel's counters are then left alone.",
          (f"strop_worker_measuring{{{OF_WORKER}}}", "{{pod}}")),
    lines("Stages", "As the worker itself tells.", (f"strop_worker_stage_info{{{OF_WORKER}}}", "{{stage}}"), width=12),
    lines("Progress", "As the worker itself tells.",
          (f"strop_worker_progress_ratio{{{OF_WORKER}}}", "{{strop_dev_target}}"), unit="percentunit", width=12),
)  # fmt: skip
ROWS = (("State", STATE), ("Worker, with metrics.podMonitor.workers", WORKER))
