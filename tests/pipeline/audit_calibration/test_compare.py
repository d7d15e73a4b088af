"""Every kind of mismatch is told from honest data, by its own name and with its figures."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from strop_api.checks.calibration import CHECKS
from strop_api.findings import Severity
from strop_job.audit.calibration import Observed, Verdict, compare, observe

Pictures = Callable[[int, int], np.ndarray]
Look = Callable[[np.ndarray], Observed]
Tokens = Callable[[int, int], dict[str, np.ndarray]]
COUNT = 96


def names(verdict: Verdict) -> set[str]:
    return {
        found.check.removeprefix("calibration-") for found in verdict.findings if found.severity is not Severity.LOW
    }


def tokens_seen(arrays: dict[str, np.ndarray]) -> Observed:
    return observe(
        ({name: array[i : i + 1] for name, array in arrays.items()} for i in range(len(arrays["input_ids"]))), None
    )


@pytest.mark.parametrize("seed", range(5))
def test_two_honest_sets_are_told_nothing_about(seed: int, honest: Pictures, seen: Look) -> None:
    """A finding on honest data would make people switch the audit off."""
    verdict = compare(seen(honest(COUNT, 2 * seed)), seen(honest(COUNT, 2 * seed + 1)))
    assert not verdict.findings
    assert verdict.mismatches == 0


def blurred(images: np.ndarray) -> np.ndarray:
    return np.mean([np.roll(images, step, 3) for step in range(-3, 4)], axis=0).astype(np.float32)


def grainy(images: np.ndarray) -> np.ndarray:
    return (images + np.random.default_rng(9).normal(0, 0.2, images.shape)).astype(np.float32)


MISMATCHES = {
    "0..255": (lambda x: 255 * x, "range"),
    "dark": (lambda x: 0.1 * x, "range"),
    "broken pixel": (lambda x: np.where(np.arange(len(x))[:, None, None, None] % 30 == 0, 1000 * x, x), "range"),
    "inverted": (lambda x: 1 - x, "distribution"),
    "blue for red": (lambda x: x[:, ::-1], "distribution"),
    "grain": (grainy, "distribution"),
    "blur": (blurred, "distribution"),
    "zeros": (np.zeros_like, "degenerate"),
    "one picture": (lambda x: x[:1], "degenerate"),
    "the same picture": (lambda x: np.repeat(x[:1], len(x), axis=0), "degenerate"),
    "three pictures": (lambda x: x[:3], "size"),
}


@pytest.mark.parametrize("name", MISMATCHES)
def test_a_planted_mismatch_is_found_under_its_name(name: str, honest: Pictures, seen: Look) -> None:
    """Otherwise a model would be quantized with ranges of something else."""
    spoil, wanted = MISMATCHES[name]
    spoiled = np.ascontiguousarray(spoil(honest(COUNT, 0)).astype(np.float32))
    verdict = compare(seen(spoiled), seen(honest(COUNT, 1)))
    assert wanted in names(verdict)
    assert 1 <= verdict.mismatches <= len(CHECKS)


def test_a_finding_says_what_was_seen_of_which_input(honest: Pictures, seen: Look) -> None:
    """A message without figures sends people looking for what the audit already knows."""
    verdict = compare(seen(255 * honest(COUNT, 0)), seen(honest(COUNT, 1)), reference_name="validation")
    message = next(found.message for found in verdict.findings if found.check == "calibration-range")
    assert re.match(r"input `image`: calibration spans [\d.]+ to 255, validation [\d.]+ to 1: ", message)
    assert "not divided by 255?" in message
    assert "dB" in message


def test_activations_that_clip_are_named_where_no_input_is_off(honest: Pictures, seen: Look) -> None:
    """Ranges of inputs may agree while those inside the model do not."""
    flat = np.full((COUNT, 3, 12, 12), 0.05, np.float32)
    flat[:, :, 0, 0] = np.linspace(0.9, 1.0, COUNT)[:, None]
    verdict = compare(seen(flat + 0.001 * honest(COUNT, 0)), seen(honest(COUNT, 1)))
    assert "clipping" in names(verdict)
    assert "range" not in names(verdict)


def test_near_copies_of_evaluation_samples_are_a_leak(honest: Pictures, seen: Look) -> None:
    """Exact copies are refused elsewhere; an augmented copy is as much of a leak."""
    reference = honest(COUNT, 1)
    leaked = np.concatenate([1.01 * reference[:24], honest(COUNT - 24, 0)])
    verdict = compare(seen(leaked), seen(reference))
    assert names(verdict) == {"leak"}
    assert re.match(r"2[5-9]% of 96 calibration samples", verdict.findings[0].message)


def test_a_leak_is_looked_for_in_what_is_held_out(honest: Pictures, seen: Look) -> None:
    """With validation as the reference, evaluation samples in the calibration set would go unnoticed."""
    held_out = honest(COUNT, 2)
    leaked = np.concatenate([held_out[:24] + 0.002, honest(COUNT - 24, 0)]).astype(np.float32)
    reference = seen(honest(COUNT, 1))
    assert names(compare(seen(leaked), reference)) == set()
    assert names(compare(seen(leaked), reference, seen(held_out))) == {"leak"}


def test_frames_of_a_few_videos_are_near_duplicates(honest: Pictures, seen: Look) -> None:
    """Ninety-six frames of six scenes are six samples."""
    random = np.random.default_rng(4)
    frames = np.repeat(honest(6, 0), 16, axis=0) + random.normal(0, 0.002, (COUNT, 3, 12, 12))
    verdict = compare(seen(frames.astype(np.float32)), seen(honest(COUNT, 1)))
    assert "duplicates" in names(verdict)


def test_classes_that_calibration_never_shows_are_missed(honest: Pictures, seen: Look) -> None:
    """The head of a file that is sorted by class is one class."""
    reference, pool = seen(honest(COUNT, 1)), seen(honest(600, 0))
    assert pool.classes is not None
    counts = np.bincount(pool.classes)
    rarest = min((count, kind) for kind, count in enumerate(counts) if count >= 20)[1]
    verdict = compare(pool.take(np.flatnonzero(pool.classes == rarest)), reference)
    assert "coverage" in names(verdict)


def test_one_label_counts_where_the_model_misses_classes_as_well(honest: Pictures, seen: Look) -> None:
    """Calibration data often carries placeholders for labels: alone they are no evidence, only worth telling."""
    reference, mine = seen(honest(COUNT, 1)), seen(honest(COUNT, 0))
    assert reference.classes is not None
    assert not compare(replace(mine, labels=np.arange(COUNT) % 6), reference).findings
    told = compare(replace(mine, labels=np.full(COUNT, 4)), reference)
    assert told.mismatches == 0
    assert "the label 4" in told.findings[0].message
    rare = int(np.bincount(reference.classes).argmin())
    verdict = compare(replace(mine, labels=np.full(COUNT, 4), classes=np.full(COUNT, rare)), reference)
    assert names(verdict) == {"coverage"}


def other_words(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**arrays, "input_ids": np.where(arrays["input_ids"] > 2, arrays["input_ids"] + 700, arrays["input_ids"])}


def padded_with_a_word(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**arrays, "input_ids": np.where(arrays["input_ids"] == 0, 11, arrays["input_ids"])}


def cut_short(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: np.where(np.arange(24) < 5, array, 0) for name, array in arrays.items()}


def unmasked(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**arrays, "attention_mask": np.ones_like(arrays["attention_mask"])}


def swapped(arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {"input_ids": arrays["attention_mask"], "attention_mask": arrays["input_ids"]}


@pytest.mark.parametrize(
    ("spoil", "wanted"),
    [
        (other_words, "coverage"),
        (padded_with_a_word, "coverage"),
        (cut_short, "distribution"),
        (unmasked, "degenerate"),
        (swapped, "coverage"),
    ],
)
def test_texts_prepared_otherwise_are_found(spoil: Callable, wanted: str, tokens: Tokens) -> None:
    """Another vocabulary, truncation and a forgotten mask change what the model computes, but no range of an input."""
    reference = tokens_seen(tokens(COUNT, 1))
    assert not compare(tokens_seen(tokens(COUNT, 0)), reference).findings
    assert wanted in names(compare(tokens_seen(spoil(tokens(COUNT, 0))), reference))


def test_inputs_that_differ_without_effect_inside_the_model_are_milder(tokens: Tokens) -> None:
    """Critical says that the model is likely to be wrong: not where its activations are the same on both sets."""

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"out": inputs["attention_mask"].astype(np.float32)}

    def look(arrays: dict[str, np.ndarray]) -> Observed:
        rows = range(COUNT)
        return observe(({n: array[row : row + 1] for n, array in arrays.items()} for row in rows), run, ("out",))

    verdict = compare(look(other_words(tokens(COUNT, 0))), look(tokens(COUNT, 1)))
    assert [(found.check, found.severity) for found in verdict.findings] == [("calibration-coverage", Severity.MEDIUM)]
    assert verdict.mismatches == 1


def test_activations_that_are_not_numbers_are_told_and_harm_no_other_judge(honest: Pictures) -> None:
    """A division by an empty mask yields NaN on calibration data alone, long before the quantizer trips over it."""

    def run(inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        total = inputs["image"].sum(axis=(1, 2, 3), keepdims=True)
        with np.errstate(invalid="ignore", divide="ignore"):
            return {"out": (inputs["image"] / np.where(total < 20, np.nan, total)).reshape(len(total), -1)}

    def look(images: np.ndarray) -> Observed:
        return observe(({"image": one[None]} for one in images), run, ("out",))

    bright, dim = honest(COUNT, 0) + 0.5, honest(COUNT, 1)
    dim[::2] *= 0.01
    verdict = compare(look(dim.astype(np.float32)), look(bright.astype(np.float32)))
    broken = [found for found in verdict.findings if "NaN" in found.message]
    assert len(broken) == 1
    assert "of 96 calibration samples, for none of evaluation" in broken[0].message


def test_an_empty_set_is_refused(honest: Pictures, seen: Look) -> None:
    """Silence about nothing would read as a clean bill."""
    full = seen(honest(8, 0))
    with pytest.raises(ValueError, match="nothing was observed"):
        compare(full.take([]), full)


@pytest.mark.parametrize("count", [1, 3])
def test_a_reference_of_next_to_nothing_is_said_and_not_compared(count: int, honest: Pictures, seen: Look) -> None:
    """Its own extremes are no range: honest calibration would be called critical, or silence taken for a pass."""
    verdict = compare(seen(honest(COUNT, 0)), seen(honest(count, 1)))
    assert [(found.check, found.severity) for found in verdict.findings] == [
        ("calibration-degenerate", Severity.HIGH),
    ]
    assert verdict.mismatches == 1


def test_an_evaluation_set_of_one_sample_over_and_over_is_named(honest: Pictures, seen: Look) -> None:
    """The calibration data is not at fault, and nobody would look at the other reader."""
    verdict = compare(seen(honest(COUNT, 0)), seen(np.repeat(honest(1, 1), COUNT, axis=0)))
    assert [found.check for found in verdict.findings] == ["calibration-degenerate"]
    assert "spec.data.evaluation" in verdict.findings[0].mend
