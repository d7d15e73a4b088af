"""Every gate passes, misses and is left unmeasured for the right reasons, in words with figures and units."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import Outcome
from strop_api.status import GateStatus, GateVerdict
from strop_job.errors import InvalidInput
from strop_job.judgement.evidence import Evidence, Latencies, MetricEvidence
from strop_job.judgement.gates import Judgement, judge, judge_evidence
from strop_job.stages import Artifact, ArtifactKind

PASSED, MISSED, NOT_MEASURED = GateVerdict.PASSED, GateVerdict.MISSED, GateVerdict.NOT_MEASURED
INCONCLUSIVE = GateVerdict.INCONCLUSIVE


def timed(median: float, *, calls: int = 400, spread: float = 0.02, seed: int = 0) -> Latencies:
    """Calls around a median, in rounds of ten."""
    noise = np.random.default_rng(seed).lognormal(0, spread, calls)
    return Latencies(median * noise / np.median(noise), np.arange(calls) // 10)


def answers(samples: int, right: int, lost: int = 0, gained: int = 0) -> MetricEvidence:
    """Accuracy of an original with `right` right answers, of which the engine loses some and gains others."""
    original = np.zeros(samples)
    original[:right] = 1
    optimized = original.copy()
    optimized[:lost] = 0
    optimized[right : right + gained] = 1
    return MetricEvidence("accuracy", original.mean(), optimized.mean(), True, samples, (original, optimized))


def words(judgement: Judgement) -> list[str]:
    """What is said beside the gates."""
    return [found.message for found in judgement.findings]


def evidence(**changes: Any) -> Evidence:
    """A run where everything was measured and went well: 2x faster, no loss."""
    good: dict[str, Any] = {
        "metric": answers(1000, 900),
        "fidelity": {"cosine": 0.995, "agreement": 0.99, "sqnrDecibels": 25.0},
        "parity": {"worst": 1e-6, "tolerance": 1e-3, "shapes": [[1], [8]]},
        "latencies": {"original": timed(2000, seed=1), "optimized": timed(1000, seed=2)},
        "engine_size_bytes": 1_000_000,
    }
    return Evidence(**{**good, **changes})


def judged(spec: ModelOptimizationSpec, **changes: Any) -> Judgement:
    return judge_evidence(spec, spec.targets[0], evidence(**changes))


def only(judgement: Judgement, gate: str) -> GateStatus:
    return next(status for status in judgement.gates if status.gate == gate)


def test_with_no_gate_a_loss_of_more_than_a_point_is_refused(make_spec) -> None:
    """A spec that names no gate would publish any wreck."""
    kept, wrecked = judged(make_spec(), metric=answers(1000, 900, lost=9)), answers(1000, 900, lost=11)
    assert kept.passed
    assert [status.gate for status in kept.gates] == ["compileParity", "metricDrop"]
    status = only(judged(make_spec(), metric=wrecked), "metricDrop")
    assert (status.verdict, status.measured, status.bound) == (MISSED, "1.1", "1")


def test_without_confidence_the_point_decides_and_the_interval_is_shown(make_spec) -> None:
    """A reader could not see how sure the verdict is."""
    spec = make_spec(gates={"metricDrop": {"maxPoints": "1.0"}})
    status = only(judged(spec, metric=answers(200, 180, lost=2, gained=1)), "metricDrop")
    assert status.verdict is PASSED
    assert float(status.high or 0) > 1.0
    assert status.message == "accuracy is 0.50 points worse (95% -1.87 to 3.13), within 1.00"


def test_with_confidence_few_samples_cannot_prove_non_inferiority(make_spec) -> None:
    """A gate at 95% confidence would pass on a handful of samples."""
    spec = make_spec(gates={"metricDrop": {"maxPoints": "1.0", "confidence": "95%"}})
    few, many = judged(spec, metric=answers(100, 90)), judged(spec, metric=answers(10_000, 9000, lost=20, gained=20))
    assert (few.outcome, many.outcome) == (Outcome.GATE_MISSED, Outcome.PUBLISHED)
    assert only(few, "metricDrop").verdict is INCONCLUSIVE
    assert few.message.startswith("inconclusive: accuracy is 0.00 points worse")
    assert "at 95% confidence at most 2.63" in few.message


def test_a_relative_drop_is_held_against_the_original(make_spec) -> None:
    """A loss of 9 of 900 right answers is 1%, whatever the accuracy is."""
    spec = make_spec(gates={"metricDrop": {"maxRelative": "1%"}})
    status = only(judged(spec, metric=answers(1000, 900, lost=9)), "metricDrop")
    assert (status.verdict, status.measured) == (PASSED, "0.01")
    assert status.message.startswith("accuracy is 1.0% of the original's worse (95% ")


def test_an_error_that_grows_is_a_loss(make_spec) -> None:
    """A regression model twice as bad would count as improved."""
    original = np.random.default_rng(0).exponential(0.1, 500)
    metric = MetricEvidence("mse", original.mean(), 2 * original.mean(), False, 500, (original, 2 * original))
    judgement = judged(make_spec(gates={"metricDrop": {"maxRelative": "50%"}}), metric=metric)
    assert only(judgement, "metricDrop").verdict is MISSED
    assert judgement.metric is not None
    assert float(judgement.metric.drop_points) == pytest.approx(metric.loss * 100, rel=1e-4)


def test_a_macro_f1_gets_its_interval_from_recomputing_it(make_spec) -> None:
    """A metric that is no mean would be shown without doubt."""
    random = np.random.default_rng(0)
    labels = random.integers(0, 5, 300)
    wrong = np.where(random.random(300) < 0.1, (labels + 1) % 5, labels)
    metric = MetricEvidence("f1_macro", 1.0, 0.9, True, 300, None, (labels, labels, wrong))
    judgement = judged(make_spec(), metric=metric)
    assert judgement.metric is not None
    assert judgement.metric.low is not None
    assert float(judgement.metric.low) < 10 < float(judgement.metric.high or 0)


def test_confidence_without_raw_samples_is_not_measured(make_spec) -> None:
    """A verdict at 95% confidence would rest on one figure."""
    spec = make_spec(gates={"metricDrop": {"maxPoints": "1.0", "confidence": "95%"}})
    judgement = judged(spec, metric=MetricEvidence("accuracy", 0.9, 0.9, True, 100))
    assert only(judgement, "metricDrop").verdict is NOT_MEASURED
    assert judgement.outcome is Outcome.NOT_MEASURED


def test_an_engine_whose_metric_is_no_number_misses(make_spec) -> None:
    """NaN compares as neither more nor less, and would slip through a gate."""
    judgement = judged(make_spec(), metric=MetricEvidence("mse", 0.1, float("nan"), False, 100))
    assert only(judgement, "metricDrop").verdict is MISSED
    assert judgement.metric is None


def test_a_slow_engine_misses_the_speed_gate_in_words(make_spec) -> None:
    """A user could not see by how much, over what, and how sure."""
    spec = make_spec(gates={"speedup": {"min": "1.2", "over": "Original"}})
    latencies = {"original": timed(310, seed=1), "optimized": timed(1000, seed=2)}
    judgement = judged(spec, latencies=latencies)
    status = only(judgement, "speedup")
    assert (status.verdict, words(judgement), judgement.message) == (MISSED, [], status.message)
    assert status.message == "speed-up 0.31x (95% 0.31 to 0.31) is below 1.2x over the original"


def test_with_confidence_the_lower_bound_must_reach_the_speed_asked_for(make_spec) -> None:
    """A noisy 1.21x would pass a gate of 1.2x at 95% confidence."""
    latencies = {"original": timed(1210, spread=0.3, seed=1), "optimized": timed(1000, spread=0.3, seed=2)}
    plain, sure = ({"min": "1.2", "over": "Original", **more} for more in ({}, {"confidence": "95%"}))
    assert only(judged(make_spec(gates={"speedup": plain}), latencies=latencies), "speedup").verdict is PASSED
    judgement = judged(make_spec(gates={"speedup": sure}), latencies=latencies)
    status = only(judgement, "speedup")
    assert (status.verdict, judgement.outcome) == (INCONCLUSIVE, Outcome.GATE_MISSED)
    assert status.message.startswith("inconclusive: speed-up 1.21x (96.67% ")
    assert status.message.endswith("which is below 1.2x over the original; look 1 of at most 3")


def test_the_best_unquantized_variant_is_the_fastest_one(make_spec) -> None:
    """An engine slower than plain FP16 would be sold as a gain."""
    latencies = {"original": timed(2000), "fp16": timed(900, seed=1), "optimized": timed(1000, seed=2)}
    judgement = judged(make_spec(), latencies=latencies)
    assert judgement.speedup is not None
    assert float(judgement.speedup.ratio) == pytest.approx(0.9, abs=0.01)
    assert words(judgement) == ["the engine is slower than FP16: 0.90x (95% 0.90 to 0.90)"]


def test_each_unquantized_variant_is_compared_by_name(make_spec) -> None:
    """INT8 that loses to FP16 would be told apart from nothing, or only when a gate asks for it."""
    steps = [{"name": "q", "type": "Quantize", "quantize": {"precision": "int8", "method": "Dynamic"}}]
    latencies = {"original": timed(800, seed=1), "fp16": timed(500, seed=2), "optimized": timed(1000, seed=3)}
    notes = words(judged(make_spec(steps=steps), latencies=latencies))
    assert [note.split(":")[0] for note in notes] == ["INT8 is slower than the original", "INT8 is slower than FP16"]
    assert "0.50x (95% " in notes[1]


@pytest.mark.parametrize(
    ("dense", "said"),
    [
        (1300, "sparseWeights helped: 1.30x (95% "),
        (800, "sparseWeights made it slower: 0.80x (95% "),
        (1000, "sparseWeights did not help: "),
    ],
)
def test_whether_sparse_weights_helped_is_said_by_a_measurement(make_spec, dense: float, said: str) -> None:
    """The flag would be left on where it costs, or called a gain that nobody measured."""
    noisy = {"dense": timed(dense, spread=0.2, seed=1), "optimized": timed(1000, spread=0.2, seed=2)}
    judgement = judged(make_spec(), latencies={"original": timed(5000), **noisy})
    assert words(judgement)[-1].startswith(said)
    assert judgement.speedup is not None
    assert float(judgement.speedup.ratio) == pytest.approx(5, rel=0.05), "never a baseline of the speed-up"


def test_what_a_missed_gate_said_is_not_said_again(make_spec) -> None:
    """A reader would be told twice of one baseline, or never of the other."""
    spec = make_spec(gates={"speedup": {"min": "1.2", "over": "FP16"}})
    latencies = {"original": timed(800, seed=1), "fp16": timed(500, seed=2), "optimized": timed(1000, seed=3)}
    judgement = judged(spec, latencies=latencies)
    assert only(judgement, "speedup").verdict is MISSED
    assert [note.split(":")[0] for note in words(judgement)] == ["the engine is slower than the original"]


def test_not_faster_is_said_and_does_not_refuse(make_spec) -> None:
    """A model that gained nothing would be published without a word, or refused though nobody asked for speed."""
    latencies = {"original": timed(1000, spread=0.2, seed=1), "optimized": timed(1000, spread=0.2, seed=2)}
    judgement = judged(make_spec(), latencies=latencies)
    assert judgement.passed
    assert "the interval includes 1" in words(judgement)[0]


def test_too_few_rounds_give_no_speedup(make_spec) -> None:
    """An interval from two rounds would be made up."""
    spec = make_spec(gates={"speedup": {"min": "1.2"}})
    latencies = {"original": timed(2000, calls=20), "optimized": timed(1000, calls=20)}
    judgement = judged(spec, latencies=latencies)
    assert only(judgement, "speedup").verdict is NOT_MEASURED
    assert judgement.speedup is None


def test_latency_bounds_hold_median_and_p99_apart(make_spec) -> None:
    """A fast median would hide a slow tail."""
    spec = make_spec(gates={"latency": {"p50MaxMicroseconds": 1100, "p99MaxMicroseconds": 1010}})
    judgement = judged(spec)
    assert only(judgement, "latency.p50MaxMicroseconds").verdict is PASSED
    tail = only(judgement, "latency.p99MaxMicroseconds")
    assert tail.verdict is MISSED
    assert tail.message.startswith("p99 latency 1.0")


def test_a_p99_gate_with_too_few_calls_is_not_measured(make_spec) -> None:
    """A p99 of 100 calls is the slowest call."""
    spec = make_spec(gates={"latency": {"p99MaxMicroseconds": 9000}})
    judgement = judged(spec, latencies={"optimized": timed(1000, calls=100)})
    assert only(judgement, "latency.p99MaxMicroseconds").verdict is NOT_MEASURED
    assert judgement.latency is not None
    assert judgement.latency.p99_microseconds is None


def test_size_is_held_in_bytes(make_spec) -> None:
    """An engine beyond the device's memory would be published."""
    spec = make_spec(gates={"size": {"max": "1M"}})
    assert only(judged(spec), "size").verdict is PASSED
    status = only(judged(spec, engine_size_bytes=1_000_001), "size")
    assert (status.verdict, status.measured, status.bound) == (MISSED, "1e06", "1e06")
    assert "is above" in status.message


def test_fidelity_bounds_are_each_a_gate(make_spec) -> None:
    """Outputs far from the original's would pass on one of three figures."""
    spec = make_spec(gates={"fidelity": {"cosineMin": "0.99", "agreementMin": "99.5%", "sqnrMinDecibels": 20}})
    verdicts = {status.gate: status.verdict for status in judged(spec).gates if status.gate.startswith("fidelity")}
    assert verdicts == {
        "fidelity.cosineMin": PASSED,
        "fidelity.agreementMin": MISSED,
        "fidelity.sqnrMinDecibels": PASSED,
    }


def test_an_engine_unlike_its_own_graph_is_refused_without_being_asked(make_spec) -> None:
    """A miscompiled engine would be published because no gate named it."""
    judgement = judged(make_spec(), parity={"worst": 0.5, "tolerance": 1e-3, "shapes": []})
    assert only(judgement, "compileParity").verdict is MISSED


def test_nothing_passes_where_nothing_was_measured(make_spec) -> None:
    """A skipped measurement would count as success."""
    spec = make_spec(
        gates={
            "metricDrop": {"maxPoints": "1"},
            "metricMin": {"min": "0.5"},
            "speedup": {"min": "1.1"},
            "latency": {"p50MaxMicroseconds": 1},
            "throughput": {"minPerSecond": 1},
            "size": {"max": "1Gi"},
            "peakMemory": {"max": "1Gi"},
            "fidelity": {"cosineMin": "0.9"},
            "realisedPrecision": {"min": "90%"},
            "calibration": {"maxMismatches": 0},
        }
    )
    judgement = judge(spec, spec.targets[0], None, None, None)
    assert {status.verdict for status in judgement.gates} == {NOT_MEASURED}
    assert len(judgement.gates) == 11
    assert (judgement.passed, judgement.outcome) == (False, Outcome.NOT_MEASURED)
    assert (judgement.metric, judgement.latency, judgement.speedup) == (None, None, None)


def test_a_missed_gate_outweighs_one_that_was_not_measured(make_spec) -> None:
    """A run that certainly failed would be reported as merely incomplete."""
    spec = make_spec(gates={"metricMin": {"min": "0.99"}, "size": {"max": "1Gi"}})
    assert judged(spec, engine_size_bytes=None).outcome is Outcome.GATE_MISSED


def test_a_senseless_confidence_names_its_field(make_spec) -> None:
    """The run would die of a traceback after an hour of work."""
    spec = make_spec(gates={"speedup": {"min": "1.2", "confidence": "100%"}})
    with pytest.raises(InvalidInput, match=r"spec\.gates\.speedup\.confidence"):
        judged(spec)


def test_the_judgement_is_made_again_from_the_records_alone(make_spec, tmp_path: Path) -> None:
    """Changing a gate would mean measuring again."""
    seen = evidence()
    assert seen.metric is not None
    assert seen.metric.per_sample is not None
    np.savez(tmp_path / "samples.npz", original=seen.metric.per_sample[0], optimized=seen.metric.per_sample[1])
    arrays = {name: found.microseconds for name, found in seen.latencies.items()}
    rounds = {f"{name}.rounds": found.rounds for name, found in seen.latencies.items()}
    np.savez(tmp_path / "latencies.npz", **arrays, **rounds)
    facts: dict[str, Any] = {
        "metric": {"name": "accuracy", "original": 0.9, "optimized": 0.9, "higherIsBetter": True, "samples": 1000},
        "fidelity": dict(seen.fidelity),
        "parity": dict(seen.parity or {}),
    }
    verify = Artifact(ArtifactKind.MEASUREMENT, tmp_path, ("samples.npz",), facts)
    benchmark = Artifact(ArtifactKind.MEASUREMENT, tmp_path, ("latencies.npz",))
    spec = make_spec(gates={"metricDrop": {"maxPoints": "1.0"}, "speedup": {"min": "1.5"}})
    read_back = judge(spec, spec.targets[0], verify, benchmark, seen.engine_size_bytes)
    assert read_back == judge_evidence(spec, spec.targets[0], seen)
    assert read_back.passed
