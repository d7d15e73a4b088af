"""The operator's figures. Labels are bounded; names of objects appear only on gauges made from what exists now."""

from collections import Counter as Tallies
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from strop_api.reasons import Reason
from strop_api.status import GateVerdict
from strop_api.targets import Gates
from strop_operator.cache import Cache
from strop_operator.facts import ResourceFact

LONG_BUCKETS = (10, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14_400, 28_800, 57_600, 86_400)
STAGE_BUCKETS = (0.1, 1, 5, 15, 60, 300, 900, 3600, 14_400, 43_200, 86_400)
RECONCILE_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SPEEDUP_BUCKETS = (0.5, 0.8, 1, 1.2, 1.5, 2, 3, 4, 6, 8, 12, 16)
DROP_BUCKETS = (-1, -0.1, 0, 0.1, 0.25, 0.5, 1, 2, 5, 10, 25)

OTHER = "other"
"""What a word is counted as that no list knows: labels stay bounded whatever a later worker says."""
REASONS = tuple(map(str, Reason))
GATES = tuple(field.alias or name for name, field in Gates.model_fields.items())
CAUSES = (Reason.STORE_FAILED, Reason.DISK_FULL, Reason.WORKER_FAILED, Reason.RESULT_LOST)
"""Why an attempt can fail that another follows; beside these `Disrupted`."""
DISRUPTED = "Disrupted"
ERRANDS = {"Drift": ("Unchanged", "Changed", "Failed"), "CleanUp": ("Done", "Failed", "Abandoned")}
"""What can come of an errand of each kind."""


def known(word: str, words: Container[str]) -> str:
    """The word itself when it is one of these, else `other`."""
    return word if word in words else OTHER


class Metrics:
    """Counters and histograms, and gauges that are read when they are scraped."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series for each counter, which nobody reads
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._of_runs()
        self._of_results()
        self._of_the_operator()
        self._start_at_zero()

    def _of_runs(self) -> None:
        self.runs = self._counter("strop_runs", "Runs that ended.", "runtime", "precision", "outcome")
        self.duration = self._histogram(
            "strop_run_duration_seconds", "From the Job's creation to the recorded result.", LONG_BUCKETS,
            "runtime", "outcome",
        )  # fmt: skip
        self.wait = self._histogram(
            "strop_queue_wait_seconds", "From a run being wanted to its worker being at work.", LONG_BUCKETS
        )
        self.attempts = self._counter("strop_attempts_failed", "Failed attempts that another follows.", "cause")
        self.errands = self._counter("strop_errands", "Drift checks and clean-ups that ended.", "kind", "outcome")

    def _of_results(self) -> None:
        self.stages = self._counter(
            "strop_stages", "Stages of ended runs; cached ones were not done.", "stage", "cached"
        )
        self.stage_seconds = self._histogram(
            "strop_stage_duration_seconds", "Wall time of stages that were done.", STAGE_BUCKETS, "stage"
        )
        self.speedup = self._histogram(
            "strop_speedup_ratio", "Baseline's median latency over the engine's.", SPEEDUP_BUCKETS, "runtime"
        )
        self.drop = self._histogram(
            "strop_metric_drop_points", "Loss of the metric times 100; negative is a gain.", DROP_BUCKETS, "precision"
        )
        self.gates = self._counter("strop_gates", "Gates that were judged; only Passed passes.", "gate", "verdict")
        self.findings = self._counter("strop_findings", "Findings of ended runs.", "check", "severity")
        self.published = self._counter("strop_published_bytes", "Bytes of engines that were published.", "runtime")

    def _of_the_operator(self) -> None:
        self._reconcile = self._histogram("strop_reconcile_duration_seconds", "One reconcile.", RECONCILE_BUCKETS)
        self._errors = self._counter("strop_reconcile_errors", "Reconciles that failed.", "kind")
        self._leader = Gauge("strop_leader", "1 while this process acts.", registry=self.registry)
        build = Gauge("strop_build_info", "The operator's version.", ["version"], registry=self.registry)
        build.labels(own_version()).set(1)

    def _start_at_zero(self) -> None:
        """What alerts watch: a series that is born at 1 has not increased, for Prometheus."""
        for kind in ("api", "conflict", "bug"):
            self._errors.labels(kind)
        for cause in (*CAUSES, DISRUPTED):
            self.attempts.labels(str(cause))
        for kind, outcomes in ERRANDS.items():
            for outcome in outcomes:
                self.errands.labels(kind, outcome)
        for gate in GATES:
            for verdict in GateVerdict:
                self.gates.labels(gate, str(verdict))

    def _counter(self, name: str, help_: str, *labels: str) -> Counter:
        return Counter(name, help_, labels, registry=self.registry)

    def _histogram(self, name: str, help_: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, help_, labels, buckets=buckets, registry=self.registry)

    def reconciled(self, seconds: float) -> None:
        """A reconcile ended, well or not."""
        self._reconcile.observe(seconds)

    def error(self, kind: str) -> None:
        """A reconcile failed: `api`, `conflict` or `bug`."""
        self._errors.labels(kind).inc()

    def leading(self) -> None:
        """This process acts from now on."""
        self._leader.set(1)

    def watch(self, cache: Cache, ages: Callable[[], dict[str, float]], depth: Callable[[], int]) -> None:
        """Where the gauges of the moment come from."""
        self.registry.register(Moment(cache, ages, depth))


class Moment(Collector):
    """What is true now: nothing is kept, so nothing outlives its object."""

    def __init__(self, cache: Cache, ages: Callable[[], dict[str, float]], depth: Callable[[], int]) -> None:
        self._cache, self._ages, self._depth = cache, ages, depth

    def describe(self) -> Iterable[Metric]:
        """Nothing is known before the first scrape."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The gauges."""
        age = _gauge("strop_watch_age_seconds", "Since the watch last showed life.", "resource")
        for resource, seconds in self._ages().items():
            age.add_metric([resource], seconds)
        yield age
        yield GaugeMetricFamily("strop_queue_depth", "Resources that are due.", value=self._depth())
        yield self._reasons()
        yield from self._states()
        yield from self._figures()
        yield from self._progress()

    def _reasons(self) -> Metric:
        """Each reason always has its series, so that none appears or vanishes."""
        made = _gauge("strop_modeloptimizations", "Resources by the reason of Ready; other: none yet.", "reason")
        counts = Tallies(known(fact.reason, REASONS) for fact in self._cache.resources.values())
        for reason in (*REASONS, OTHER):
            made.add_metric([reason], counts[reason])
        return made

    def _states(self) -> Iterator[Metric]:
        """One family after the other: of ten thousand resources each is some megabytes, for a moment."""
        facts = self._cache.resources.values()
        yield _of_each("info", "The reason of Ready.", (((*f.key, f.reason), 1) for f in facts), "reason")
        yield _of_each("ready", "1 when Ready.", ((f.key, f.ready) for f in facts))
        stale = (((*f.key, f.stale), 1) for f in facts if f.stale)
        yield _of_each("stale", "1 while what was published has been overtaken.", stale, "reason")

    def _figures(self) -> Iterator[Metric]:
        """Of the last run that measured them; published or not."""
        facts = self._cache.resources.values()
        speedups = ((f.key, f.speedup) for f in facts if f.speedup is not None)
        yield _of_each("speedup_ratio", "Speed-up of the last run's first target.", speedups)
        drops = ((f.key, f.drop) for f in facts if f.drop is not None)
        yield _of_each("metric_drop_points", "Metric loss of the last run's first target.", drops)

    def _progress(self) -> Iterator[Metric]:
        """What running workers last said of themselves."""
        told = [(fact.key, self._cache.progress[uid].progress) for fact, uid in self._at_work()]
        shares = ((key, progress.percent / 100) for key, progress in told)
        yield _of_each("progress_ratio", "How far the run is; only while its worker tells.", shares)
        stages = (((*key, progress.stage), 1) for key, progress in told)
        yield _of_each("stage_info", "The stage that runs; only while the worker tells.", stages, "stage")

    def _at_work(self) -> Iterator[tuple[ResourceFact, str]]:
        """Each resource with the UID of the pod that speaks for it; one that has ended tells nothing more."""
        found: dict[tuple[str, str], str] = {}
        for uid in self._cache.progress:
            pod = self._cache.pods.get(uid)
            if pod is not None and pod.live and (key := self._cache.key_of(pod.owner_uid)) is not None:
                found[key] = uid
        return ((self._cache.resources[key], uid) for key, uid in found.items() if key in self._cache.resources)


def _gauge(name: str, help_: str, *labels: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, help_, labels=labels)


def _of_each(name: str, help_: str, rows: Iterable[tuple[Sequence[str], float]], *labels: str) -> Metric:
    """A gauge with a series for each resource: values of the labels, and the value."""
    made = _gauge(f"strop_modeloptimization_{name}", help_, "namespace", "name", *labels)
    for values, value in rows:
        made.add_metric(values, value)
    return made


def own_version() -> str:
    """The distribution's version."""
    try:
        return version("strop")
    except PackageNotFoundError:
        return "unknown"
