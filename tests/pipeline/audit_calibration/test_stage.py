"""The stage: real files, the real runtime, facts that a record and a report can hold."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from strop_api.optimization import ModelOptimizationSpec
from strop_job.audit.calibration import audit_calibration_stage
from strop_job.audit.facts import read
from strop_job.errors import InvalidInput
from strop_job.stages import Artifact

Pictures = Callable[[int, int], np.ndarray]
Audit = Callable[..., Artifact]
Program = tuple[dict[str, Any], Artifact]


def test_honest_data_passes_with_its_figures_on_record(honest: Pictures, audited: Audit) -> None:
    """Whoever reads the report wants to see what was compared, not only that nothing was found."""
    made = audited({"calibration": honest(60, 0), "evaluation": honest(80, 1)})
    assert made.facts["mismatches"] == 0
    assert read(made.facts) == []
    assert made.facts["samples"] == {"calibration": 60, "evaluation": 80}
    named = {row["name"]: row for row in made.facts["tensors"]}
    assert {"image", "scores"} < set(named)
    assert abs(named["image"]["excessDecibels"]) < 3
    written = json.loads(made.entry.read_text())
    assert written["distributions"]["tests"] > 5
    assert json.loads(json.dumps(made.facts)) == made.facts


def test_pixels_that_were_not_scaled_are_found(honest: Pictures, audited: Audit) -> None:
    """The commonest mistake of all must reach the stage's facts as critical."""
    made = audited({"calibration": 255 * honest(60, 0), "evaluation": honest(60, 1)})
    found = read(made.facts)
    assert made.facts["mismatches"] == len({one.check for one in found})
    assert {"calibration-range", "calibration-clipping"} <= {one.check for one in found}
    assert found[0].severity == "Critical"


def test_validation_is_the_reference_where_there_is_one(honest: Pictures, audited: Audit) -> None:
    """Evaluation data is read as little as possible: for copies alone."""
    made = audited({"calibration": honest(60, 0), "validation": honest(50, 1), "evaluation": 255 * honest(60, 2)})
    assert made.facts["reference"] == "validation"
    assert made.facts["mismatches"] == 0


def test_the_labels_of_evaluation_change_nothing(honest: Pictures, audited: Audit) -> None:
    """A check that looks at them would spend what the gates are judged on."""
    sets = {"calibration": honest(60, 0), "evaluation": honest(60, 1)}
    facts = [audited(sets, labels={"evaluation": np.full(60, label)}).facts for label in (0, 5)]
    assert facts[0] == facts[1]


def test_a_sorted_file_is_sampled_all_over(honest: Pictures, audited: Audit) -> None:
    """The first samples of a sorted evaluation set are one kind, and would make honest calibration look wrong."""
    dim, bright = 0.3 * honest(400, 1), honest(400, 2)
    mixed = np.concatenate([0.3 * honest(64, 3), honest(64, 4)])
    made = audited({"calibration": mixed, "evaluation": np.concatenate([dim, bright])})
    assert made.facts["samples"] == {"calibration": 128, "evaluation": 256}
    assert made.facts["mismatches"] == 0


@pytest.mark.parametrize("size", [1, 8])
def test_a_fixed_batch_is_filled_up_and_its_surplus_forgotten(size: int, honest: Pictures, audited: Audit) -> None:
    """Repeated samples would look like duplicates, and a short batch would be refused."""
    model = {
        "uri": "s3://models/small.onnx",
        "format": "Onnx",
        "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 3, 12, 12]}],
        "dimensions": [{"name": "batch", "min": size, "opt": size, "max": size}],
    }
    made = audited({"calibration": honest(37, 0), "evaluation": honest(45, 1)}, model=model)
    assert made.facts["samples"] == {"calibration": 37, "evaluation": 45}
    assert made.facts["mismatches"] == 0


def test_a_torch_program_is_compared_by_inputs_and_outputs(honest: Pictures, audited: Audit, program: Program) -> None:
    """Nobody marks the inside of a torch program; its outputs still tell other data from like data."""
    model, graph = program
    target = {"name": "cpu", "runtime": "Inductor", "cpu": {"threads": 1}}
    given = {"graph": graph, "model": model, "targets": [target]}
    sound = audited({"calibration": honest(60, 0), "evaluation": honest(60, 1)}, **given)
    assert sound.facts["mismatches"] == 0
    assert len(sound.facts["tensors"]) == 2
    wrong = audited({"calibration": 1 - honest(60, 0), "evaluation": honest(60, 1)}, **given)
    assert "calibration-distribution" in {found.check for found in read(wrong.facts)}


def test_no_calibration_data_is_an_error_that_names_its_field(honest: Pictures, audited: Audit) -> None:
    """A plan that asks for the audit with nothing to audit must not fail with a riddle."""
    with pytest.raises(InvalidInput, match=r"spec\.data\.calibration"):
        audited({"evaluation": honest(8, 1)})


def test_the_stage_is_keyed_by_what_it_reads(make_spec: Callable[..., ModelOptimizationSpec]) -> None:
    """Other samples of the same files are another audit; another target's threads are not."""
    spec, fewer = make_spec(), make_spec(samples=10)
    stage = audit_calibration_stage(spec, spec.targets[0])
    assert stage.needs == ("export", "resolve-calibration", "resolve-evaluation")
    assert (stage.name, stage.kind) == ("audit-calibration", "AuditCalibration")
    assert stage.parameters != audit_calibration_stage(fewer, spec.targets[0]).parameters


def test_a_leak_is_not_understated_where_there_are_many_evaluation_samples(honest: Pictures, audited: Audit) -> None:
    """Forty of a hundred calibration samples would be found one in eight, as only 256 of 2,000 were looked at."""
    evaluation = honest(2000, 1)
    leaked = np.concatenate([np.clip(evaluation[7::50] + 0.002, 0, 1), honest(60, 0)])
    made = audited({"calibration": leaked, "evaluation": evaluation})
    (found,) = [one for one in read(made.facts) if one.check == "calibration-leak"]
    share = int(found.message.split("%")[0])
    assert 40 <= share <= 50, found.message
    assert "(all 2,000 were compared)" in found.message
    assert (made.facts["leak"]["comparedWith"], made.facts["leak"]["ofEvaluation"]) == (2000, 2000)


def test_where_not_all_is_compared_the_share_is_a_least_one(
    honest: Pictures, audited: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bound on the work would be told as a figure of the data."""
    monkeypatch.setattr("strop_job.audit.calibration.stage.MOST_PRINTS", 300)
    evaluation = honest(600, 1)
    made = audited({"calibration": evaluation[:60] + np.float32(0.002), "evaluation": evaluation})
    (found,) = [one for one in read(made.facts) if one.check == "calibration-leak"]
    assert found.message.startswith("at least ")
    assert "300 of 600 were compared" in found.message
