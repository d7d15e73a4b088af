"""What the operator counts is what has happened, and its labels stay few."""

import re

import pytest

from monitoring.play import Watched

pytestmark = pytest.mark.apiserver

CPU = {"runtime": "ONNXRuntime"}
COUNTED = [
    ("strop_runs_total", CPU | {"precision": "int8", "outcome": "Published"}, 4),
    ("strop_runs_total", CPU | {"precision": "int8", "outcome": "GateMissed"}, 2),
    ("strop_runs_total", CPU | {"precision": "int8", "outcome": "WorkerFailed"}, 2),
    ("strop_run_duration_seconds_count", CPU | {"outcome": "Published"}, 4),
    ("strop_attempts_failed_total", {"cause": "StoreFailed"}, 1),
    ("strop_stages_total", {"stage": "resolve", "cached": "true"}, 8),
    ("strop_stages_total", {"stage": "quantize", "cached": "false"}, 8),
    ("strop_stage_duration_seconds_sum", {"stage": "export"}, 12),
    ("strop_speedup_ratio_count", CPU, 6),
    ("strop_metric_drop_points_bucket", {"precision": "int8", "le": "1.0"}, 4),
    ("strop_gates_total", {"gate": "metricDrop", "verdict": "Missed"}, 2),
    ("strop_gates_total", {"gate": "metricDrop", "verdict": "Passed"}, 4),
    ("strop_gates_total", {"gate": "latency", "verdict": "Missed"}, 0),
    ("strop_findings_total", {"check": "calibration-range", "severity": "High"}, 4),
    ("strop_published_bytes_total", CPU, 4000),
    ("strop_errands_total", {"kind": "Drift", "outcome": "Changed"}, 1),
    ("strop_errands_total", {"kind": "Drift", "outcome": "Failed"}, 1),
    ("strop_errands_total", {"kind": "CleanUp", "outcome": "Done"}, 1),
    ("strop_errands_total", {"kind": "CleanUp", "outcome": "Failed"}, 1),
]


@pytest.mark.parametrize(("metric", "labels", "value"), COUNTED)
def test_each_thing_is_counted_once(watched: Watched, metric: str, labels: dict[str, str], value: float) -> None:
    """A reconcile is repeated at will: what it counts twice nobody can believe."""
    assert watched.operator.metric(metric, **labels) == value


def test_the_wait_is_that_of_workers_that_were_seen_at_work(watched: Watched) -> None:
    """Eleven: the nine that ended, the one that is tried again, and the one that runs."""
    assert watched.operator.metric("strop_queue_wait_seconds_count") >= 10


def test_a_resource_has_its_figures(watched: Watched) -> None:
    """The page of a run shows nothing else."""
    of = {"namespace": watched.namespace}
    metric = watched.operator.metric
    assert metric("strop_modeloptimization_speedup_ratio", name="published-0", **of) == 2.31
    assert metric("strop_modeloptimization_metric_drop_points", name="missed-0", **of) == 3.0
    assert metric("strop_modeloptimization_stale", name="published-0", reason="SourceChanged", **of) == 1
    assert metric("strop_modeloptimization_progress_ratio", name="running", **of) == 0.4
    assert metric("strop_modeloptimization_stage_info", name="running", stage="int8", **of) == 1
    assert metric("strop_modeloptimization_info", name="cleaned", **of) == 0


def test_counters_and_histograms_have_only_labels_with_closed_lists(watched: Watched) -> None:
    """One label with a name in it, and Prometheus keeps a series for everything there ever was."""
    text = watched.operator.get("/metrics")[1]
    kinds = dict(re.findall(r"^# TYPE (strop_\w+) (\w+)$", text, re.MULTILINE))
    labels = {
        label
        for name, kind in kinds.items()
        if kind in ("counter", "histogram")
        for line in re.findall(rf"^{name}(?:_bucket)?{{(.*)}} ", text, re.MULTILINE)
        for label in re.findall(r'(\w+)="', line)
    }
    assert labels == {
        "runtime", "precision", "outcome", "cause", "kind", "stage", "cached", "gate", "verdict", "check", "severity",
        "le",
    }  # fmt: skip
    assert "_created" not in text
