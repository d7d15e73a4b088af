"""What the gates can tell from the data is reckoned before anything runs, and is right."""

from pathlib import Path

import numpy as np
import pytest

from strop_api.findings import Severity
from strop_job.audit.facts import read
from strop_job.audit.gates import audit_gates_stage
from strop_job.errors import InvalidInput
from strop_job.judgement.power import Margin, drop_power, lossless_power, power_findings, samples_needed
from strop_job.judgement.statistics import one_sided, paired_difference, paired_ratio
from strop_job.stages import Artifact, ArtifactKind

LEVEL = one_sided(0.95)
SURE = {"metricDrop": {"maxPoints": "1.0", "confidence": "95%"}}


@pytest.mark.parametrize(("samples", "discordant"), [(300, 0.05), (1000, 0.02), (4000, 0.05)])
def test_the_power_is_how_often_a_lossless_model_passes(samples: int, discordant: float) -> None:
    """A user would be told a chance that is not so."""
    half = discordant / 2
    draws = np.random.default_rng(0).multinomial(samples, [half, half, 1 - discordant], 1000)
    passed = np.mean([paired_difference(int(a), int(b), samples, LEVEL).high <= 0.01 for a, b, _ in draws])
    assert lossless_power(Margin(0.01, LEVEL), samples, discordant) == pytest.approx(passed, abs=0.04)


def test_the_power_of_a_relative_bound_is_right_too() -> None:
    """A gate on the relative loss would be advised by the figures of another."""
    draws = np.random.default_rng(0).multinomial(1000, [0.89, 0.01, 0.01, 0.09], 800)
    bounds = [1 - paired_ratio(int(a), int(lost), int(g), 1000, LEVEL).low for a, lost, g, _ in draws]
    found = lossless_power(Margin(0.01, LEVEL, relative=True), 1000, 0.02)
    assert found == pytest.approx(np.mean(np.array(bounds) <= 0.01), abs=0.05)


@pytest.mark.parametrize("level", [None, LEVEL])
def test_nothing_loses_more_than_all(level: float | None) -> None:
    """A bound of 100% would end the run in a trace."""
    assert lossless_power(Margin(1.0, level, relative=True), 50, 0.02) == pytest.approx(1.0, abs=1e-5)


def test_a_point_estimate_passes_half_the_lossless_models_at_least() -> None:
    """Without a confidence the reckoning would warn of every gate."""
    assert lossless_power(Margin(0.0, None), 1000, 0.02) > 0.5


def test_the_samples_advised_are_enough_and_not_far_too_many() -> None:
    """A user who follows the advice would fail again, or label ten times too much."""
    margin = Margin(0.01, LEVEL)
    needed = samples_needed(margin, 0.02, 0.8)
    assert needed is not None
    assert lossless_power(margin, needed, 0.02) >= 0.8
    assert lossless_power(margin, round(needed * 0.9), 0.02) < 0.8
    assert samples_needed(Margin(0.0, LEVEL), 0.02, 0.8) is None


def test_a_gate_that_nothing_could_pass_is_refused_with_the_number_that_would_do(make_spec) -> None:
    """Hours of training would end in a gate that was lost from the start."""
    with pytest.raises(InvalidInput, match=r"at least 268 samples") as refused:
        power_findings(make_spec(gates=SURE), 267)
    assert refused.value.field == "spec.gates.metricDrop"
    assert not any(found.severity is Severity.CRITICAL for found in power_findings(make_spec(gates=SURE), 268))


def test_a_gate_that_a_good_model_mostly_fails_is_warned_about(make_spec) -> None:
    """The run would end as inconclusive, and nobody would have said that it would."""
    (found,) = power_findings(make_spec(gates=SURE), 400)
    assert (found.check, found.severity) == ("gate-underpowered", Severity.HIGH)
    assert "passes 36.5% of runs if 2% of its answers differ (100% if 0% do, 21.5% if 5% do)" in found.message
    assert found.message.endswith("80% takes about 1,360 samples")
    assert len(found.message) <= 256
    assert power_findings(make_spec(gates=SURE), 2000) == []


def test_groups_make_samples_count_as_fewer(make_spec) -> None:
    """A thousand sentences of ten documents would be taken for a thousand documents."""
    assert power_findings(make_spec(gates=SURE), 1000) == []
    with pytest.raises(InvalidInput, match="1,000 samples in 10 groups"):
        power_findings(make_spec(gates=SURE), 1000, groups=10)
    with pytest.raises(InvalidInput, match="5 groups bear no confidence"):
        power_findings(make_spec(gates=SURE), 10_000, groups=5)


def test_a_metric_whose_spread_is_unknown_says_so(make_spec) -> None:
    """A chance would be made up for a metric of which nothing is known."""
    task = {"type": "Regression", "metric": "mse", "labels": "y"}
    (found,) = power_findings(make_spec(gates=SURE, task=task), 1000)
    assert (found.check, found.severity) == ("gate-power-unknown", Severity.LOW)
    assert drop_power(make_spec(gates=SURE, task=task), 1000) is None


def test_a_least_metric_that_no_answers_could_show_is_refused(make_spec) -> None:
    """All of 20 answers right do not show 95%."""
    spec = make_spec(gates={"metricMin": {"min": "0.95", "confidence": "95%"}})
    with pytest.raises(InvalidInput, match=r"spec\.gates\.metricMin: even a model that is always right"):
        power_findings(spec, 20)
    assert power_findings(spec, 100) == []


def test_a_p99_that_all_looks_could_not_bound_is_refused(make_spec) -> None:
    """The benchmark would be run three times for nothing."""
    gates = {"latency": {"p99MaxMicroseconds": 1000, "confidence": "95%"}}
    with pytest.raises(InvalidInput, match=r"spec\.benchmark\.calls: .*408 calls.*raise it to 136"):
        power_findings(make_spec(gates=gates, benchmark={"calls": 100}), 1000)
    assert power_findings(make_spec(gates=gates, benchmark={"calls": 400}), 1000) == []


@pytest.fixture
def counted(make_spec, make_context, tmp_path: Path):
    """Runs the stage on arrays."""

    def run(gates=SURE, groups=None, **arrays):
        evaluation = {"uri": "s3://data/eval.npz", "format": "Npz", **({"groups": groups} if groups else {})}
        spec = make_spec(gates=gates, data={"evaluation": evaluation})
        np.savez(tmp_path / "eval.npz", **arrays)
        data = Artifact(ArtifactKind.DATA, tmp_path, ("eval.npz",))
        return audit_gates_stage(spec).run(make_context(spec, {"resolve-evaluation": data}))

    return run


def rows(distinct: int, times: int = 1) -> dict[str, np.ndarray]:
    """Samples, each so many times."""
    x = np.zeros((distinct, 64), np.float32)
    x[:, 0] = np.arange(distinct)
    return {"x": np.tile(x, (times, 1)), "label": np.zeros(distinct * times, np.int64)}


def test_the_stage_counts_samples_and_groups_and_tells(counted) -> None:
    """The report could not say what the gate was worth."""
    made = counted(**rows(400), speaker=np.arange(400), groups="speaker")
    assert (made.facts["samples"], made.facts["distinct"], made.facts["groups"]) == (400, 400, 400)
    assert [found.check for found in read(made.facts)] == ["gate-underpowered"]
    assert made.facts["power"][0]["lossless"][0] == {"discordant": 0.0, "passes": 1.0}


def test_repeats_are_no_proof(counted) -> None:
    """A hundred samples, ten times over, would prove what a hundred cannot."""
    gates = {"metricDrop": {"maxPoints": "2.0", "confidence": "95%"}}
    with pytest.raises(InvalidInput, match=r"of 1,000 evaluation samples 100 are distinct, and even a model"):
        counted(gates, **rows(100, 10))


def test_repeats_are_said_and_not_reckoned_with(counted) -> None:
    """The power would be that of ten times the data."""
    made = counted({"metricDrop": {"maxPoints": "2.0", "confidence": "95%"}}, **rows(150, 10))
    first, second = read(made.facts)
    assert (first.check, first.severity) == ("evaluation-duplicates", Severity.HIGH)
    assert first.message.startswith("1,500 evaluation samples, 150 distinct")
    assert second.message.startswith("metricDrop: on 150 samples")


def test_a_few_repeats_and_equal_inputs_with_other_labels_are_not_said(counted) -> None:
    """Honest data has some, and a label is part of a sample."""
    arrays = rows(2000)
    arrays["x"][:40] = arrays["x"][40]
    arrays["x"][100:300] = arrays["x"][100]
    arrays["label"][100:300] = np.arange(200)
    made = counted(**arrays)
    assert made.facts["distinct"] == 1960
    assert read(made.facts) == []
