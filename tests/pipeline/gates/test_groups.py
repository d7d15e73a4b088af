"""Samples of one group hang together: intervals know it, and a few groups bear no certainty."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from strop_api.status import GateVerdict
from strop_job.judgement.evidence import Evidence, MetricEvidence, gather
from strop_job.judgement.gates import judge_evidence
from strop_job.judgement.losses import _macro_f1s, figure_interval, loss_points, loss_relative, method
from strop_job.judgement.resampling import bootstrap
from strop_job.judgement.statistics import macro_f1, one_sided
from strop_job.judgement.student import t_quantile
from strop_job.stages import Artifact, ArtifactKind
from strop_job.steps.verify import save_samples
from strop_job.tasks import MetricSamples

LEVEL = one_sided(0.95)


def test_the_bound_over_groups_errs_as_often_as_it_says_where_the_naive_one_does_not(gate_runs) -> None:
    """A gate at 95% would publish three times as many bad models as it says, whenever a document is lost as a whole."""
    kind, random = gate_runs.Clusters(100, 0.1), np.random.default_rng(0)
    metrics = [kind.draw(random) for _ in range(600)]
    aware, naive = (
        np.mean([loss_points(replace(one, **change), LEVEL, 0).high < 2.0 for one in metrics])
        for change in ({}, {"groups": None})
    )
    assert aware == pytest.approx(0.05, abs=0.025)
    assert naive > 0.1


def test_a_macro_f1_over_groups_is_computed_anew_and_covers(gate_runs) -> None:
    """A metric that is no mean would get the interval of independent samples."""
    random, covered, naive = np.random.default_rng(1), 0, 0
    draws = [f1(random) for _ in range(1000)]
    true = float(np.mean([one.loss * 100 for one in draws]))
    for one in draws[:60]:
        found = loss_points(one, 0.9, 0)
        covered += found.low <= true <= found.high
    for one in draws[:12]:
        plain = loss_points(replace(one, groups=None), 0.9, 0)
        naive += plain.low <= true <= plain.high
    assert covered >= 0.8 * 60
    assert naive <= 0.7 * 12


def f1(random: np.random.Generator, groups: int = 60, size: int = 12) -> MetricEvidence:
    """Three classes; the engine loses some groups' samples far more than others'."""
    labels = random.integers(0, 3, groups * size)
    lost = np.repeat(random.beta(0.3, 3.0, groups), size)
    original = np.where(random.random(len(labels)) < 0.05, (labels + 1) % 3, labels)
    engine = np.where(random.random(len(labels)) < lost, (original + 1) % 3, original)
    codes = np.repeat(np.arange(groups), size)
    figures = (macro_f1(labels, original), macro_f1(labels, engine))
    return MetricEvidence("f1_macro", *figures, True, len(labels), None, (labels, original, engine), codes)


def grouped(groups: int, size: int, lost_groups: int = 0) -> MetricEvidence:
    """Accuracy of 1 before; the engine loses every sample of some groups."""
    codes = np.repeat(np.arange(groups), size)
    engine = (codes >= lost_groups).astype(np.float64)
    return MetricEvidence("accuracy", 1.0, engine.mean(), True, len(codes), (np.ones(len(codes)), engine), groups=codes)


def test_samples_that_all_agree_still_leave_doubt() -> None:
    """A bootstrap of equal answers has no width: a hundred of them would pass any gate for certain."""
    metric = grouped(30, 10)
    aware, naive = loss_points(metric, LEVEL, 0), loss_points(replace(metric, groups=None), LEVEL, 0)
    assert aware.point == 0
    assert 0 < naive.high < aware.high
    assert loss_relative(metric, LEVEL, 0).high == pytest.approx(aware.high / 100)
    assert figure_interval(metric, LEVEL, 0).low == pytest.approx(1 - aware.high / 100, abs=1e-3)


def test_equal_predictions_of_a_macro_f1_leave_doubt_too() -> None:
    """Fifty equal predictions would prove a loss of nothing."""
    labels = np.arange(50) % 5
    metric = MetricEvidence("f1_macro", 1.0, 1.0, True, 50, None, (labels, labels, labels))
    assert loss_points(metric, LEVEL, 0).high > 4


def test_groups_travel_with_the_samples_they_belong_to(tmp_path: Path) -> None:
    """The gate would draw samples where the spec says that documents are drawn."""
    right = MetricSamples("accuracy", 0.75, True, 4, np.array([1.0, 1.0, 1.0, 0.0]))
    save_samples(tmp_path / "samples.npz", right, right, np.array(["b", "a", "b", "c"]))
    facts = {"metric": {"name": "accuracy", "original": 0.75, "optimized": 0.75, "higherIsBetter": True, "samples": 4}}
    seen = gather(Artifact(ArtifactKind.MEASUREMENT, tmp_path, ("samples.npz",), facts), None, None)
    assert seen.metric is not None
    assert seen.metric.groups.tolist() == [1, 0, 1, 2]


def test_a_macro_f1_by_groups_is_that_of_their_samples() -> None:
    """Counting by group instead of by sample would give another figure, and nobody would see it."""
    one = f1(np.random.default_rng(3), groups=12)
    labels, _, engine = one.predictions
    drawn = np.random.default_rng(4).integers(0, 12, 12)
    rows = np.concatenate([np.flatnonzero(one.groups == group) for group in drawn])
    counted = _macro_f1s(labels, engine, one.groups)(drawn[None])[0]
    assert counted == pytest.approx(macro_f1(labels[rows], engine[rows]))


def test_few_groups_give_a_wide_interval_and_very_few_none(make_spec) -> None:
    """Five speakers would carry a verdict on all speakers."""
    spec = make_spec(gates={"metricDrop": {"maxPoints": "10", "confidence": "95%"}})
    parity = {"worst": 0.0, "tolerance": 1e-3, "shapes": []}
    few, enough = (
        judge_evidence(spec, spec.targets[0], Evidence(grouped(groups, 100), {}, parity, {}, 1)).gates[1]
        for groups in (5, 60)
    )
    assert few.verdict is GateVerdict.NOT_MEASURED
    assert "5 groups" in few.message
    assert enough.verdict is GateVerdict.PASSED
    assert "12 groups" in method(grouped(12, 10))
    assert "few" in method(grouped(12, 10))


def test_few_units_are_paid_for_with_students_t() -> None:
    """Eight rounds or documents would be resampled as if their spread were known."""
    values = np.random.default_rng(0).normal(0, 1, 8)
    found = bootstrap(lambda drawn: values[drawn].mean(axis=1), 8, level=0.95, seed=0)
    reach = t_quantile(0.975, 7) * values.std(ddof=1) / np.sqrt(8)
    assert (found.high - found.low) / 2 == pytest.approx(reach, rel=0.1)
    alone = bootstrap(lambda drawn: values[drawn].mean(axis=1), 1, seed=0)
    assert (alone.low, alone.high) == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("probability", "freedom", "value"),
    [(0.975, 1, 12.7062), (0.975, 2, 4.3027), (0.95, 7, 1.8946), (0.95, 10, 1.8125), (0.99, 120, 2.3578)],
)
def test_students_t_is_the_tabled_one(probability: float, freedom: int, value: float) -> None:
    """Every interval of few units would be off."""
    assert t_quantile(probability, freedom) == pytest.approx(value, abs=5e-5)
