"""What the measurements of a run say beside its gates: each doubt is raised where it is due, and only there."""

import numpy as np
import pytest

from strop_api.checks import CATALOGUE
from strop_api.checks import evidence as checks
from strop_api.checks.training import UNTRAINED
from strop_api.findings import Severity
from strop_api.targets import MetricDropGate
from strop_job.judgement.classes import agreement, effective_classes
from strop_job.judgement.evidence import Capacity, MetricEvidence
from strop_job.judgement.power import samples_advised
from strop_job.judgement.soundness import Footprint, footprint, soundness
from strop_job.stages import Artifact, ArtifactKind

TENTH = {"maxPoints": "1.0"}


@pytest.fixture
def said(make_spec, make_evidence):
    """The findings on a metric, by check."""

    def find(metric, *, footprint=None, seen=None, **spec):
        found = soundness(*_run(make_spec(**spec)), make_evidence(metric, **(seen or {})), footprint)
        assert all(finding.check in CATALOGUE for finding in found)
        return {finding.check: finding for finding in found}

    return find


def _run(spec):
    return spec, spec.targets[0]


@pytest.fixture
def good(labels, noisy, classified):
    """An original right in 92%, an engine that differs from it in 1%."""
    original = noisy(labels, 0.08)
    return classified(labels, original, noisy(original, 0.01))


def test_a_sound_run_is_not_doubted(said, good):
    """Doubts raised about everything are read by nobody."""
    assert said(good, footprint=Footprint(3_000_000, 120_000_000)) == {}


def test_an_original_that_guesses_is_said(said, labels, noisy, classified, random):
    """Quantizing an untrained model loses nothing, and every gate on the loss passes."""
    guess = random.integers(0, 10, len(labels))
    found = said(classified(labels, guess, guess))[UNTRAINED.name]
    assert found.severity is Severity.CRITICAL
    assert "cannot be told from guessing" in found.message


def test_an_original_that_answers_one_class_guesses_however_often_it_is_right(said, labels, classified):
    """On data of which 95% are one class, 95% is no merit."""
    rare = np.where(np.arange(len(labels)) % 20 == 0, 1, 0)
    constant = np.zeros_like(rare)
    found = said(classified(rare, constant, constant))
    assert UNTRAINED.name in found
    assert checks.CONSTANT_PASSES.name in found


def test_a_trained_model_on_rare_positives_does_not_guess(said, classified):
    """It is hardly more often right than a constant, and knows a lot."""
    rare = np.where(np.arange(4000) % 50 == 0, 1, 0)
    answers = rare.copy()
    answers[::100] = 0
    assert UNTRAINED.name not in said(classified(rare, answers, answers))


def test_an_original_that_is_hardly_better_than_guessing_is_said(said, labels, noisy, classified):
    """There is little to lose, so that little is lost."""
    weak = noisy(labels, 0.8)
    assert list(said(classified(labels, weak, weak))) == [checks.WEAK_ORIGINAL.name]


@pytest.mark.parametrize(("metric", "figure", "guesses"), [
    ("recall_at_1", 0.002, True), ("recall_at_1", 0.3, False), ("mrr", 0.008, True), ("mrr", 0.4, False),
])  # fmt: skip
def test_retrieval_in_random_order_is_a_guess(said, metric, figure, guesses):
    """A tokenizer that is not the model's makes every text the same."""
    task = {"type": "Retrieval", "metric": metric, "labels": "answer"}
    found = said(MetricEvidence(metric, figure, figure, True, 1000), task=task)
    assert (UNTRAINED.name in found) is guesses


def test_evaluation_labels_of_one_class_are_said(said, classified):
    """The first thousand rows of a sorted file are mostly one class."""
    same = np.full(500, 3)
    found = said(classified(same, same, same))
    assert "class 3" in found[checks.ONE_LABEL.name].message
    assert UNTRAINED.name not in found


def test_a_gate_that_the_most_frequent_class_passes_is_said(said, noisy, classified):
    """Ninety of a hundred are one class, and the gates ask for 85%."""
    mostly = np.where(np.arange(4000) % 10 == 0, 1, 0)
    answers = mostly.copy()
    answers[::40] = 0
    metric = classified(mostly, answers, answers)
    assert checks.CONSTANT_PASSES.name in said(metric, gates={"metricMin": {"min": "0.85"}})
    assert checks.CONSTANT_PASSES.name in said(metric, gates={"metricDrop": {"maxRelative": "10%"}})
    assert checks.CONSTANT_PASSES.name not in said(metric, gates={"metricMin": {"min": "0.95"}})
    assert checks.CONSTANT_PASSES.name not in said(metric)
    stricter = {"metricMin": {"min": "0.85"}, "metricDrop": TENTH}
    assert checks.CONSTANT_PASSES.name not in said(metric, gates=stricter)


def differing(labels, lost, gained):
    """Two models' answers: so many only the first gives rightly, so many only the second."""
    wrong = (labels + 1) % 10
    original, optimized = labels.copy(), labels.copy()
    original[:gained], optimized[gained : gained + lost] = wrong[:gained], wrong[gained : gained + lost]
    return labels, original, optimized


def test_too_few_samples_for_the_loss_asked_about_are_said_with_how_many_would_do(said, labels, classified):
    """Whoever is told to take more wants to know how many, and the same before a run and after it."""
    found = said(classified(*differing(labels[:400], 4, 4)))[checks.FEW_EVALUATION_SAMPLES.name]
    assert "400 samples" in found.message
    needed = samples_advised(MetricDropGate(max_points="1.0", confidence="95%"))
    assert f"about {needed:,} samples, if 2.0% of their answers differ" in found.message
    more = said(classified(*differing(labels[:400], 10, 10)))[checks.FEW_EVALUATION_SAMPLES.name]
    advised = int(more.message.rsplit("about ", 1)[1].split()[0].replace(",", ""))
    assert advised > 2 * needed
    enough = differing(np.resize(labels, advised), advised // 40, advised // 40)
    assert checks.FEW_EVALUATION_SAMPLES.name not in said(classified(*enough))


def test_data_that_decides_is_not_too_small(said, labels, classified):
    """A loss of twenty points, or a proof, would be doubted for want of samples."""
    lost = classified(*differing(labels[:400], 80, 0))
    assert checks.FEW_EVALUATION_SAMPLES.name not in said(lost)
    gate = {"metricDrop": {"maxPoints": "1.0", "confidence": "95%"}}
    assert checks.FEW_EVALUATION_SAMPLES.name not in said(classified(*differing(labels[:300], 0, 0)), gates=gate)
    assert checks.FEW_EVALUATION_SAMPLES.name in said(classified(*differing(labels[:200], 2, 2)), gates=gate)


def test_a_much_too_wide_interval_is_worse(said, labels, classified):
    """Sixty samples against a gate of a tenth of a point decide nothing at all."""
    metric = classified(*differing(labels[:60], 1, 1))
    found = said(metric, gates={"metricDrop": {"maxPoints": "0.1"}})[checks.FEW_EVALUATION_SAMPLES.name]
    assert found.severity is Severity.HIGH


FAR = {"sqnrDecibels": -1.0, "cosine": 0.36}


@pytest.mark.parametrize(("parity", "words", "mend"), [
    ({"worst": 0.01, "tolerance": 0.1}, "the quantized graph is at fault, not the compiler", "method Dynamic"),
    ({"worst": 3.0, "tolerance": 0.1}, "the compiler may be at fault", "compileParity"),
    ({"worst": None, "tolerance": 0.1}, "the compiler may be at fault", "compileParity"),
    (None, "was not measured", "excludeNodes"),
])  # fmt: skip
def test_a_model_that_quantization_ruined_is_explained(said, labels, noisy, classified, parity, words, mend):
    """Half of the metric would be lost and nothing would say where."""
    metric = classified(labels, noisy(labels, 0.05), noisy(labels, 0.5))
    found = said(metric, seen={"fidelity": FAR, "parity": parity})[checks.QUANTIZATION_RUINED.name]
    assert found.severity is Severity.HIGH
    assert "SQNR -1.0 dB, cosine 0.36" in found.message
    assert words in found.message
    assert mend in found.mend
    assert len(found.message) <= 256


def test_the_mend_of_a_ruined_model_is_one_that_the_target_takes(said, labels, noisy, classified):
    """OpenVINO would refuse Dynamic, and whoever has Percentile has it."""
    metric = classified(labels, noisy(labels, 0.05), noisy(labels, 0.5))
    asked = {"precision": "int8", "method": "Static", "calibrator": "Percentile", "perChannel": False}
    steps, targets = [{"name": "q", "type": "Quantize", "quantize": asked}], [{"name": "t", "runtime": "OpenVINO"}]
    found = said(metric, seen={"fidelity": FAR}, steps=steps, targets=targets)[checks.QUANTIZATION_RUINED.name]
    assert found.mend == "keep layers high by excludeNodes or opTypes; set perChannel: true"
    cast = [{"name": "q", "type": "Quantize", "quantize": {"precision": "fp16", "method": "Cast"}}]
    assert "overflow" in said(metric, seen={"fidelity": FAR}, steps=cast)[checks.QUANTIZATION_RUINED.name].mend


def test_outputs_that_moved_and_lost_nothing_are_not_ruined(said, good, labels, noisy, classified):
    """Scores of another scale answer the same; a lost metric with like outputs has another cause."""
    assert said(good, seen={"fidelity": FAR}) == {}
    lost = classified(labels, noisy(labels, 0.05), noisy(labels, 0.5))
    near = {"fidelity": {"sqnrDecibels": 30.0, "cosine": 0.999, "agreement": 0.9}}
    assert checks.QUANTIZATION_RUINED.name not in said(lost, seen=near)
    assert checks.QUANTIZATION_RUINED.name not in said(lost, seen={"fidelity": FAR}, steps=[])


def test_answers_that_collapse_to_one_class_are_said(said, labels, noisy, classified):
    """A saturated scale answers the same for everything."""
    original = noisy(labels, 0.05)
    found = said(classified(labels, original, np.full_like(labels, 7)))[checks.COLLAPSED.name]
    assert found.severity is Severity.CRITICAL
    assert "class 7 for 100% of the samples" in found.message


def test_answers_that_mostly_collapse_are_said(said, labels, noisy, classified, random):
    """Nine of ten samples in one class is a collapse too."""
    original = noisy(labels, 0.05)
    mostly = np.where(random.random(len(labels)) < 0.85, 2, original)
    assert checks.COLLAPSED.name in said(classified(labels, original, mostly))


def test_scores_that_are_nan_are_said(said, labels, noisy, classified):
    """NaN has no largest class; it is no answer at all."""
    original = noisy(labels, 0.05)
    broken = np.where(labels == 4, -1, original)
    assert "NaN" in said(classified(labels, original, broken))[checks.COLLAPSED.name].message


def test_two_classes_of_which_one_is_rare_have_not_collapsed(said, classified):
    """An original that hardly ever answers otherwise leaves nothing to collapse."""
    rare = np.where(np.arange(4000) % 40 == 0, 1, 0)
    fewer = rare.copy()
    fewer[::80] = 0
    assert checks.COLLAPSED.name not in said(classified(rare, rare, fewer))


def test_an_engine_better_than_its_original_is_suspicious_unless_something_was_trained(said, labels, noisy, classified):
    """Rounding adds no knowledge; evaluation samples in the calibration data do."""
    metric = classified(labels, noisy(labels, 0.15), noisy(labels, 0.05))
    assert "points better" in said(metric)[checks.SUSPICIOUSLY_BETTER.name].message
    tuned = [{"name": "t", "type": "FineTune", "fineTune": {}}]
    assert checks.SUSPICIOUSLY_BETTER.name not in said(metric, steps=tuned)


def test_a_gain_within_the_noise_is_not_suspicious(said, labels, noisy, classified):
    """Half of all honest runs gain a little by luck."""
    original = noisy(labels, 0.08)
    lucky = original.copy()
    lucky[np.flatnonzero(original != labels)[:4]] = labels[np.flatnonzero(original != labels)[:4]]
    assert said(classified(labels, original, lucky)) == {}


def test_compute_that_is_not_at_the_precision_asked_for_is_said(said, good):
    """INT8 in the file and floats in the engine is a smaller file, and no faster."""
    little = {"inspection": {"macs": 100, "macsByFormat": {"int8": 30, "fp32": 70}}}
    assert "30.0%" in said(good, seen=little)[checks.HARDLY_REALISED.name].message
    assert checks.HARDLY_REALISED.name not in said(good, seen=little, gates={"realisedPrecision": {"min": "20%"}})
    uncounted = {"inspection": {**little["inspection"], "uncounted": {"Einsum": 1}}}
    assert said(good, seen=uncounted) == {}
    assert said(good, seen={"inspection": {}}) == {}
    assert said(good, seen=little, steps=[]) == {}


def test_a_larger_engine_is_said(said, good):
    """An engine that grows was to become smaller."""
    assert checks.LARGER.name in said(good, footprint=Footprint(900_000))
    assert said(good, footprint=Footprint(990_000)) == {}
    assert said(good, footprint=Footprint(900_000), steps=[]) == {}


def test_more_memory_than_the_original_is_said_where_the_engine_lives(said, good):
    """What fitted beside another service may no longer fit."""
    assert checks.MORE_MEMORY.name in said(good, footprint=Footprint(None, 80_000_000))
    assert said(good, footprint=Footprint(None, 95_000_000)) == {}
    device = [{"name": "g", "runtime": "TensorRT", "accelerator": {}}]
    on_device = {"capacity": Capacity(1, 1, 100_000_000, 50_000_000)}
    found = said(good, seen=on_device, targets=device, footprint=Footprint(None, 1, 40_000_000))
    assert "of device memory" in found[checks.MORE_MEMORY.name].message


def test_what_was_not_measured_is_not_doubted(said):
    """Half a run must be reported, not crash."""
    nothing = {"engine_size_bytes": None, "capacity": None, "inspection": {}}
    assert said(None, seen=nothing) == {}
    assert said(MetricEvidence("accuracy", float("nan"), 0.5, True, 10), seen=nothing) == {}
    assert said(MetricEvidence("mse", 1.0, 1.1, False, 10), seen=nothing) == {}


def test_the_originals_memory_is_read_from_the_benchmark(tmp_path):
    """A missing benchmark, or one without memory, leaves it unmeasured."""
    facts = {"variants": {"original": {"peakMemoryBytes": 5, "peakDeviceMemoryBytes": None}}}
    benchmark = Artifact(ArtifactKind.MEASUREMENT, tmp_path, (), facts)
    assert footprint(7, benchmark) == Footprint(7, 5, None)
    assert footprint(None, None) == Footprint()
    assert footprint(7, Artifact(ArtifactKind.MEASUREMENT, tmp_path, (), {})) == Footprint(7)


def test_kappa_is_that_of_the_textbook():
    """Cohen's own kind of table: 20 and 15 agree of 50, 25 and 30 said yes."""
    labels = np.repeat([1, 1, 0, 0], [20, 5, 10, 15])
    answers = np.repeat([1, 0, 1, 0], [20, 5, 10, 15])
    found = agreement(labels, answers)
    assert found.observed == pytest.approx(0.7)
    assert found.expected == pytest.approx(0.5)
    assert found.kappa == pytest.approx(0.4)


def test_the_error_of_kappa_at_chance_is_what_guessing_shows(random):
    """An error that is too small would call honest weak models guesses, or guesses honest."""
    kappas = []
    for _ in range(400):
        labels, answers = random.choice(4, 500, p=[0.4, 0.3, 0.2, 0.1]), random.choice(4, 500, p=[0.1, 0.2, 0.3, 0.4])
        kappas.append(agreement(labels, answers).kappa)
    told = agreement(labels, answers).error_at_chance
    assert float(np.std(kappas)) == pytest.approx(told, rel=0.12)


def test_effective_classes_count_what_is_answered():
    """One class is 1, four equally often are 4."""
    assert effective_classes(np.zeros(10, np.int64)) == pytest.approx(1)
    assert effective_classes(np.arange(12) % 4) == pytest.approx(4)
