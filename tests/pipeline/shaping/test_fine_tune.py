"""Fine-tuning: what it gains, that it can be killed and resumed, and what it refuses."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from strop_api.steps import FineTuneStep, Step, StepType
from strop_job.errors import Evicted, InvalidInput

FIELDS = {"learning_rate": "0.003", "batch_size": 32}


def tuned(epochs=3, **changes) -> Step:
    return Step(name="recover", type=StepType.FINE_TUNE, fine_tune=FineTuneStep(epochs=epochs, **(FIELDS | changes)))


def test_training_on_gains_on_validation_data_and_says_how(problem):
    """Broken, a step would take hours and change nothing, or say that it had."""
    made = problem.run(problem.spec(tuned()), "recover")
    facts = made.facts
    assert facts["after"]["figure"] > facts["before"]["figure"]
    assert [entry["number"] for entry in facts["curve"]] == [0, 1, 2, 3]
    assert facts["curve"][facts["bestEpoch"]]["metric"] == pytest.approx(facts["after"]["figure"])


def test_the_best_weights_are_kept_even_those_before_training(problem):
    """Broken, a learning rate that ruins the model would be handed on to the next step."""
    made = problem.run(problem.spec(tuned(epochs=2, learning_rate="5")), "recover")
    assert made.facts["bestEpoch"] == 0
    assert made.facts["after"]["figure"] == made.facts["before"]["figure"]
    assert "learning-rate-range" in {found["check"] for found in made.facts["findings"]}


def test_a_killed_training_resumes_and_ends_bit_for_bit_the_same(problem, kept_files, evict_after):
    """Broken, an eviction would cost the whole training, or quietly yield another model."""
    spec = problem.spec(tuned(epochs=24, batch_size=8, learning_rate="0.0005"))
    with pytest.raises(Evicted):
        problem.run(spec, "recover", checkpoints=kept_files, report=evict_after("epoch "))
    assert kept_files.saved == ["checkpoint.pt"]
    resumed = problem.run(spec, "recover", checkpoints=kept_files)
    whole = problem.run(spec, "recover")
    assert (resumed.facts["resumed"], whole.facts["resumed"]) == (True, False)
    ours, theirs = load_file(resumed.entry), load_file(whole.entry)
    assert all(np.array_equal(ours[name], theirs[name]) for name in theirs)
    assert resumed.facts["curve"] == whole.facts["curve"]


def test_the_same_seed_gives_the_same_weights(problem):
    """Broken, a result could not be made again."""
    first, second = (problem.run(problem.spec(tuned(epochs=1)), "recover") for _ in range(2))
    assert first.entry.read_bytes() == second.entry.read_bytes()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (np.arange(512) % 8, "labels run from . to 7; the model has 4 classes"),
        (np.full(512, 2, np.int64), "all its samples have the same label"),
    ],
)
def test_labels_that_teach_nothing_are_refused(problem, trained_bars, tmp_path, labels, said):
    """Broken, hours of training would end in a model that always says the same."""
    images = np.load(trained_bars / "training.npz")["image"]
    np.savez(tmp_path / "training.npz", image=images, label=labels)
    held = problem.inputs["resolve-training"]
    problem.inputs["resolve-training"] = type(held)(held.kind, tmp_path, ("training.npz",))
    with pytest.raises(InvalidInput, match=said):
        problem.run(problem.spec(tuned(epochs=1)), "recover")
