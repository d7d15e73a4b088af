"""The overview: what runs now, how runs end, what they gain, where their time goes, how the operator fares."""

from grafana_foundation_sdk.builders import dashboard as board
from parts import OVERVIEW_PAGE, RUN_PAGE, bars, chosen, figure, filled, labels, lines, listing, page, quantile

STALLED = (
    "InvalidSpec|Unsupported|NotAllowed|NoPolicy|NameConflict|GateMissed|NotMeasured|InvalidInput|StoreFailed"
    "|OutOfMemory|DiskFull|DeadlineExceeded|EvictedTooOften|WorkerFailed"
)
WAITING = "Launched|Queued|Unschedulable|ImagePullFailed|PodRefused"
CHOSEN = "var-datasource=${datasource}&var-namespace=${__data.fields.namespace}&var-name=${__value.text}"
TO_RUN = f"/d/{RUN_PAGE}?{CHOSEN}"
GOOD_BAD = ((None, "green"), (1, "red"))


def overview():
    """The whole page."""
    made = page(OVERVIEW_PAGE, "Strop: overview", "Optimizations of models: outcomes, gains, time, the operator.")
    window = board.IntervalVariable("window").label("Counted over").values("1h,6h,1d,7d").current(chosen("6h", "6h"))
    of_namespaces = labels("namespace", "Namespace", "strop_modeloptimization_info").multi(True)
    of_namespaces = of_namespaces.include_all(True).all_value(".*").current(chosen("All", "$__all"))
    made = made.time("now-24h", "now").with_variable(window).with_variable(of_namespaces)
    return filled(made, ROWS)


def count(reasons: str) -> str:
    """PromQL of how many resources are there for these reasons."""
    return f'sum(strop_modeloptimizations{{reason=~"{reasons}"}})'


NOW = (
    figure("Running", "Workers at work, by what their resources say.", (count("Running|Retrying"), "")),
    figure("Waiting", "Wanted, and no worker at work yet.", (count(WAITING), "")),
    figure("Published", "What is published passed all its gates.", (count("Published"), "")),
    figure(
        "Stalled", "Nothing happens until somebody changes something.", (count(STALLED), ""),
        steps=((None, "green"), (1, "orange")),
    ),
    figure(
        "Stale", "Published, and overtaken since: source, image or runtime has changed.",
        ("count(strop_modeloptimization_stale) or vector(0)", ""), steps=((None, "green"), (1, "orange")),
    ),
    figure(
        "Failed of ended runs", "Ended otherwise than published, missed gates included.",
        (
            '1 - sum(increase(strop_runs_total{outcome="Published"}[$__range]))'
            " / sum(increase(strop_runs_total[$__range]))",
            "",
        ),
        unit="percentunit", steps=((None, "green"), (0.25, "orange"), (0.5, "red")),
    ),
)  # fmt: skip
RUNS = (
    lines(
        "Runs that ended", "By outcome, within the window.",
        ("sum by (outcome) (increase(strop_runs_total[$window]))", "{{outcome}}"), stacked=True,
    ),
    lines(
        "Duration of runs", "From the Job's creation to the recorded result.",
        (quantile(0.5, "strop_run_duration_seconds", "runtime"), "{{runtime}} median"),
        (quantile(0.95, "strop_run_duration_seconds", "runtime"), "{{runtime}} 95%"), unit="s",
    ),
    lines(
        "Wait for a worker", "From a run being wanted to its worker being at work.",
        (quantile(0.5, "strop_queue_wait_seconds"), "median"),
        (quantile(0.95, "strop_queue_wait_seconds"), "95%"), unit="s",
    ),
    bars(
        "By runtime and precision", "Runs that ended.",
        ("sum by (runtime, precision) (increase(strop_runs_total[$__range]))", "{{runtime}} {{precision}}"),
    ),
    bars(
        "Failed attempts", "That another attempt follows, by cause.",
        ("sum by (cause) (increase(strop_attempts_failed_total[$__range])) > 0", "{{cause}}"),
    ),
    bars(
        "Drift checks and clean-ups", "What came of them.",
        ("sum by (kind, outcome) (increase(strop_errands_total[$__range])) > 0", "{{kind}}: {{outcome}}"),
    ),
)  # fmt: skip
GAINS = (
    lines(
        "Speed-up", "Baseline's median latency over the engine's, of runs that measured it, published or not.",
        (quantile(0.5, "strop_speedup_ratio", "runtime"), "{{runtime}} median"), unit="x",
    ),
    lines(
        "Loss of the metric", "In points, of runs that measured it; below zero is a gain.",
        (quantile(0.5, "strop_metric_drop_points", "precision"), "{{precision}} median"),
        (quantile(0.95, "strop_metric_drop_points", "precision"), "{{precision}} 95%"),
    ),
    bars(
        "Gates that did not pass", "Missed, inconclusive or not measured.",
        (
            'sum by (gate, verdict) (increase(strop_gates_total{verdict!="Passed"}[$__range])) > 0',
            "{{gate}}: {{verdict}}",
        ),
    ),
    bars(
        "Findings", "Of ended runs; what each means stands in docs/checks.md.",
        ("topk(12, sum by (check, severity) (increase(strop_findings_total[$__range])) > 0)", "{{severity}} {{check}}"),
        width=12,
    ),
    lines(
        "Published", "Bytes of engines, within the window.",
        ("sum by (runtime) (increase(strop_published_bytes_total[$window]))", "{{runtime}}"), unit="bytes", width=12,
        stacked=True,
    ),
)  # fmt: skip
STAGES = (
    lines(
        "Time of stages", "95%, of stages that were done; a result that had no room for its stages tells none.",
        (quantile(0.95, "strop_stage_duration_seconds", "stage"), "{{stage}}"), unit="s", width=12,
    ),
    bars(
        "Where the time goes", "Sum over all stages that were done.",
        ("sum by (stage) (increase(strop_stage_duration_seconds_sum[$__range]))", "{{stage}}"), unit="s", width=6,
    ),
    bars(
        "Taken from records", "Share of stages that earlier runs had done already.",
        (
            'sum by (stage) (increase(strop_stages_total{cached="true"}[$__range]))'
            " / sum by (stage) (increase(strop_stages_total[$__range]))",
            "{{stage}}",
        ),
        unit="percentunit", width=6,
    ),
)  # fmt: skip
OPERATOR = (
    figure("Version", "Of the operator.", ("max by (version) (strop_build_info)", "{{version}}"), named=True),
    figure(
        "Acting", "Processes that hold the Lease: exactly one.", ("sum(strop_leader)", ""),
        steps=((None, "red"), (1, "green"), (2, "red")),
    ),
    figure(
        "Oldest watch", "Since a watch last showed life; healthy ones do every four minutes.",
        ("max(strop_watch_age_seconds)", ""), unit="s", steps=((None, "green"), (300, "orange"), (420, "red")),
    ),
    figure("Due", "Resources that wait to be looked at.", ("sum(strop_queue_depth)", "")),
    figure(
        "Bugs", "Reconciles that failed for a cause nobody foresaw.",
        ('sum(increase(strop_reconcile_errors_total{kind="bug"}[$__range]))', ""), steps=GOOD_BAD,
    ),
    figure(
        "Memory", "Resident, of the processes that serve these figures.",
        ("max(process_resident_memory_bytes and on (instance) strop_build_info)", ""), unit="bytes",
    ),
    lines(
        "Time of a reconcile", "Of the operator itself, writes included.",
        (quantile(0.5, "strop_reconcile_duration_seconds", window="$__rate_interval"), "median"),
        (quantile(0.99, "strop_reconcile_duration_seconds", window="$__rate_interval"), "99%"), unit="s",
    ),
    lines(
        "Failed reconciles", "api: the server refused or was away; conflict: read again at once.",
        ("sum by (kind) (rate(strop_reconcile_errors_total[$__rate_interval]))", "{{kind}}"), unit="reqps",
    ),
    lines(
        "Processor", "Cores that the operator uses.",
        ("rate(process_cpu_seconds_total[$__rate_interval]) and on (instance) strop_build_info", "{{instance}}"),
        unit="none",
    ),
)  # fmt: skip
RESOURCES = (
    listing(
        "Not Ready", "Each leads to its page.",
        (
            'strop_modeloptimization_info{namespace=~"$namespace"} and on (namespace, name)'
            " strop_modeloptimization_ready == 0",
            "",
        ),
        hidden=("instance", "job", "pod", "container", "endpoint", "service"), link=TO_RUN,
    ),
)  # fmt: skip
ROWS = (
    ("Now", NOW), ("Runs", RUNS), ("What runs gain", GAINS), ("Stages", STAGES), ("Operator", OPERATOR),
    ("Resources", RESOURCES),
)  # fmt: skip
