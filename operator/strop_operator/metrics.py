"""The operator's figures. Labels are bounded; names of objects appear only on gauges made from what exists now."""

from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from strop_api.reasons import Reason
from strop_api.targets import Runtime

RUN_BUCKETS = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 57_600, 86_400)
RECONCILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)

State = tuple[str, str, str, bool]
"""Namespace, name, reason and whether it is Ready."""


class Metrics:
    """Counters and histograms, and gauges that are read when they are scraped."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._runs = Counter("strop_runs", "Runs that ended.", ["runtime", "outcome"], registry=self.registry)
        self._duration = Histogram(
            "strop_run_duration_seconds", "From the Job's creation to the recorded result.", ["runtime", "outcome"],
            buckets=RUN_BUCKETS, registry=self.registry,
        )  # fmt: skip
        self._reconcile = Histogram(
            "strop_reconcile_duration_seconds", "One reconcile.", buckets=RECONCILE_BUCKETS, registry=self.registry
        )
        self._errors = Counter("strop_reconcile_errors", "Reconciles that failed.", ["kind"], registry=self.registry)
        self._leader = Gauge("strop_leader", "1 while this process acts.", registry=self.registry)
        build = Gauge("strop_build_info", "The operator's version.", ["version"], registry=self.registry)
        build.labels(own_version()).set(1)
        for kind in ("api", "conflict", "bug"):
            self._errors.labels(kind)

    def run_ended(self, runtime: Runtime, outcome: Reason, seconds: float) -> None:
        """A run's result was recorded."""
        self._runs.labels(str(runtime), str(outcome)).inc()
        self._duration.labels(str(runtime), str(outcome)).observe(max(seconds, 0.0))

    def reconciled(self, seconds: float) -> None:
        """A reconcile ended, well or not."""
        self._reconcile.observe(seconds)

    def error(self, kind: str) -> None:
        """A reconcile failed: `api`, `conflict` or `bug`."""
        self._errors.labels(kind).inc()

    def leading(self) -> None:
        """This process acts from now on."""
        self._leader.set(1)

    def watch(
        self,
        states: Callable[[], Iterable[State]],
        ages: Callable[[], dict[str, float]],
        depth: Callable[[], int],
    ) -> None:
        """Where the gauges of the moment come from."""
        self.registry.register(Moment(states, ages, depth))


class Moment(Collector):
    """What is true now: nothing is kept, so nothing outlives its object."""

    def __init__(
        self, states: Callable[[], Iterable[State]], ages: Callable[[], dict[str, float]], depth: Callable[[], int]
    ) -> None:
        self._states, self._ages, self._depth = states, ages, depth

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        info = GaugeMetricFamily(
            "strop_modeloptimization_info", "The reason of Ready.", labels=["namespace", "name", "reason"]
        )
        ready = GaugeMetricFamily("strop_modeloptimization_ready", "1 when Ready.", labels=["namespace", "name"])
        for namespace, name, reason, is_ready in self._states():
            info.add_metric([namespace, name, reason], 1)
            ready.add_metric([namespace, name], float(is_ready))
        age = GaugeMetricFamily("strop_watch_age_seconds", "Since the watch last showed life.", labels=["resource"])
        for resource, seconds in self._ages().items():
            age.add_metric([resource], seconds)
        depth = GaugeMetricFamily("strop_queue_depth", "Resources that are due.", value=self._depth())
        yield from (info, ready, age, depth)


def own_version() -> str:
    """The distribution's version."""
    try:
        return version("strop")
    except PackageNotFoundError:
        return "unknown"
