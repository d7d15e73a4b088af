"""A confidence is held to by every gate that takes one, over every look, and told where the samples leave it open."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Outcome
from strop_api.status import GateStatus, GateVerdict
from strop_job.errors import InvalidInput
from strop_job.judgement.evidence import Evidence, Latencies, MetricEvidence, gather, read_latencies
from strop_job.judgement.gates import Judgement, judge_evidence, undecided
from strop_job.judgement.looks import spent_confidence
from strop_job.stages import Artifact, ArtifactKind
from strop_job.steps.benchmark import benchmark_stage

PASSED, MISSED, INCONCLUSIVE = GateVerdict.PASSED, GateVerdict.MISSED, GateVerdict.INCONCLUSIVE
GOOD = Evidence(None, {}, {"worst": 0.0, "tolerance": 1e-3, "shapes": []}, {}, 1)


def timed(median: float, calls: int, *, mood: float = 0.0, seed: int = 0) -> Latencies:
    """Calls around a median in rounds of ten; `mood` is the spread of whole rounds."""
    random = np.random.default_rng(seed)
    moods = np.repeat(random.lognormal(0, mood, calls // 10), 10)
    return Latencies(median * moods * random.lognormal(0, 0.02, calls), np.arange(calls) // 10)


def right_of(samples: int, right: int, **more: Any) -> MetricEvidence:
    """Accuracy of an engine that answers so many samples rightly, as the original does."""
    figures = np.repeat([1.0, 0.0], [right, samples - right])
    return MetricEvidence("accuracy", figures.mean(), figures.mean(), True, samples, (figures, figures), **more)


def judged(spec: ModelOptimizationSpec, **seen: Any) -> Judgement:
    return judge_evidence(spec, spec.targets[0], replace(GOOD, **seen))


def only(judgement: Judgement, gate: str) -> GateStatus:
    return next(status for status in judgement.gates if status.gate == gate)


@pytest.mark.parametrize(
    ("samples", "right", "verdict"), [(2000, 1900, PASSED), (100, 95, INCONCLUSIVE), (2000, 1860, MISSED)]
)
def test_a_metric_surely_reaches_its_bound_only_with_enough_samples(make_spec, samples, right, verdict) -> None:
    """95 of 100 right answers would be sold as 94% for sure."""
    spec = make_spec(gates={"metricMin": {"min": "0.94", "confidence": "95%"}})
    status = only(judged(spec, metric=right_of(samples, right)), "metricMin")
    assert status.verdict is verdict
    assert "at 95% confidence at least" in status.message


def test_an_error_is_bounded_from_above(make_spec) -> None:
    """Where smaller is better the wrong end of the interval would decide."""
    errors = np.random.default_rng(0).exponential(0.1, 200)
    metric = MetricEvidence("mse", errors.mean(), errors.mean(), False, 200, (errors, errors))
    bound = f"{errors.mean() * 1.02:.4f}"
    plain, sure = ({"min": bound, **more} for more in ({}, {"confidence": "95%"}))
    assert only(judged(make_spec(gates={"metricMin": plain}), metric=metric), "metricMin").verdict is PASSED
    status = only(judged(make_spec(gates={"metricMin": sure}), metric=metric), "metricMin")
    assert status.verdict is INCONCLUSIVE
    assert "at most" in status.message


def test_a_p99_is_decided_by_its_upper_bound(make_spec) -> None:
    """A tail that 1,000 calls hardly show would pass by luck."""
    measured = timed(1000, 1000)
    p99 = measured.quantile(0.99)
    gates = {"latency": {"p99MaxMicroseconds": round(p99 * 1.001), "confidence": "95%"}}
    tight = judged(make_spec(gates=gates), latencies={"optimized": measured})
    assert only(tight, "latency.p99MaxMicroseconds").verdict is INCONCLUSIVE
    assert undecided(tight)
    wide = make_spec(gates={"latency": {"p99MaxMicroseconds": round(p99 * 1.1), "confidence": "95%"}})
    assert only(judged(wide, latencies={"optimized": measured}), "latency.p99MaxMicroseconds").verdict is PASSED


def test_a_p99_that_calls_cannot_bound_says_how_many_could(make_spec) -> None:
    """A finite end would be invented, and nobody would know what to change."""
    spec = make_spec(gates={"latency": {"p99MaxMicroseconds": 2000, "confidence": "95%"}}, benchmark={"maxLooks": 1})
    judgement = judged(spec, latencies={"optimized": timed(1000, 200)})
    status = only(judgement, "latency.p99MaxMicroseconds")
    assert (status.verdict, status.high, judgement.outcome) == (INCONCLUSIVE, None, Outcome.GATE_MISSED)
    needed = int(status.message.partition("needs about ")[2].split()[0])
    assert needed >= 299
    assert status.message.endswith("calls like these, not 200")


def test_calls_that_hang_together_bound_less(make_spec) -> None:
    """Forty rounds with moods of their own would count as four hundred independent calls."""
    gates = {"latency": {"p50MaxMicroseconds": 1015, "confidence": "95%"}}
    calm, moody = timed(1000, 400, seed=1), timed(1000, 400, mood=0.1, seed=4)
    moody = Latencies(moody.microseconds * 1000 / moody.median, moody.rounds)
    spec = make_spec(gates=gates)
    assert only(judged(spec, latencies={"optimized": calm}), "latency.p50MaxMicroseconds").verdict is PASSED
    assert only(judged(spec, latencies={"optimized": moody}), "latency.p50MaxMicroseconds").verdict is INCONCLUSIVE


def test_looks_share_the_error_and_never_exceed_it() -> None:
    """Looking until it passes would pass anything."""
    for looks in range(1, 6):
        errors = [1 - spent_confidence(0.95, look, looks) for look in range(1, looks + 1)]
        assert sum(errors) == pytest.approx(0.05)
    with pytest.raises(ValueError, match="never planned"):
        spent_confidence(0.95, 4, 3)


def test_another_look_is_taken_only_where_it_can_help(make_spec) -> None:
    """Machines would be kept busy for a run whose metric is inconclusive for good."""
    gates = {
        "metricDrop": {"maxPoints": "1.0", "confidence": "95%"},
        "speedup": {"min": "1.2", "over": "Original", "confidence": "95%"},
    }
    slow = {"original": timed(1210, 400, mood=0.3, seed=1), "optimized": timed(1000, 400, mood=0.3, seed=6)}
    ratio = slow["original"].median / slow["optimized"].median
    slow["original"] = Latencies(slow["original"].microseconds * 1.21 / ratio, slow["original"].rounds)
    sure, unsure = right_of(10_000, 9000), right_of(100, 90)
    assert undecided(judged(make_spec(gates=gates), metric=sure, latencies=slow))
    assert not undecided(judged(make_spec(gates=gates), metric=unsure, latencies=slow))
    fast = {"original": timed(2000, 400, seed=1), "optimized": timed(1000, 400, seed=2)}
    assert not undecided(judged(make_spec(gates=gates), metric=sure, latencies=fast))


def test_no_further_look_is_taken_where_all_would_not_suffice(make_spec) -> None:
    """The machine would be timed three times for a bound that three times as many calls do not have."""
    spec = make_spec(gates={"latency": {"p99MaxMicroseconds": 2000, "confidence": "95%"}})
    few = judged(spec, latencies={"optimized": timed(1000, 100)})
    status = only(few, "latency.p99MaxMicroseconds")
    assert status.verdict is INCONCLUSIVE
    assert status.message.endswith("calls like these, and all 3 looks have 300; look 1 of at most 3")
    assert not undecided(few)
    assert undecided(judged(spec, latencies={"optimized": timed(1000, 300)}))


def test_a_confidence_that_no_look_can_use_names_its_field(make_spec) -> None:
    """The run would end in a traceback."""
    spec = make_spec(gates={"latency": {"p50MaxMicroseconds": 2000, "confidence": "40%"}})
    with pytest.raises(InvalidInput, match=r"spec\.gates\.latency\.confidence"):
        judged(spec, latencies={"optimized": timed(1000, 400)})


def saved(folder: Path, **variants: Latencies) -> Artifact:
    """The benchmark of one look."""
    folder.mkdir()
    arrays = {name: found.microseconds for name, found in variants.items()}
    np.savez(folder / "latencies.npz", **arrays, **{f"{name}.rounds": found.rounds for name, found in variants.items()})
    return Artifact(ArtifactKind.MEASUREMENT, folder, ("latencies.npz",), {"batch": 1, "mostBatch": 4})


def test_looks_are_joined_round_after_round(tmp_path: Path) -> None:
    """Rounds of two looks that share a number would be drawn as one, and the interval would lie."""
    looks = [saved(tmp_path / str(n), optimized=timed(1000, 100, seed=n)) for n in range(2)]
    joined = read_latencies(looks)["optimized"]
    assert joined.rounds.tolist() == (np.arange(200) // 10).tolist()
    seen = gather(None, looks, None)
    assert (seen.looks, seen.capacity.most_batch if seen.capacity else None) == (2, 4)
    assert read_latencies(looks[0])["optimized"].rounds.max() == 9
    assert gather(None, None, None).latencies == {}


def test_a_second_look_times_the_same_engines_anew(make_spec, make_engine, make_context) -> None:
    """The record of the first look would be taken for the second, and no call would be new."""
    spec = make_spec(benchmark={"calls": 50, "maxSeconds": 10})
    engines = {"compile-original": make_engine("original", 2), "compile": make_engine("optimized", 1)}
    stages = {"optimized": "compile", "original": "compile-original"}
    first, second = (benchmark_stage(stages, spec, spec.targets[0], look=look) for look in (1, 2))
    assert (first.name, second.name) == ("benchmark", "benchmark-2")
    assert first.parameters != second.parameters
    made = second.run(make_context(spec, engines))
    assert len(read_latencies(made)["optimized"].microseconds) == 50
    assert {row["batch"] for row in made.facts["throughput"]} == {4}


@pytest.mark.parametrize(("found", "verdict"), [(0, PASSED), (2, PASSED), (3, MISSED)])
def test_mismatches_of_the_calibration_data_are_counted_against_the_bound(make_spec, found, verdict) -> None:
    """Ranges observed on other data than the model meets would be published."""
    spec = make_spec(gates={"calibration": {"maxMismatches": 2}})
    status = only(judged(spec, calibration={"mismatches": found}), "calibration")
    assert (status.verdict, status.measured, status.bound) == (verdict, str(found), "2")


def test_calibration_data_that_nobody_audited_does_not_pass(make_spec) -> None:
    """A spec without calibration data would pass a gate on it."""
    judgement = judged(make_spec(gates={"calibration": {"maxMismatches": 2}}))
    assert only(judgement, "calibration").verdict is GateVerdict.NOT_MEASURED
    assert "spec.data.calibration" in judgement.message
