"""A figure that is not a number: JSON cannot say it, and who reads it back must judge as the one that saw it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from strop_api.result import Outcome
from strop_job.judgement.gates import judge
from strop_job.records import Records
from strop_job.stages import Artifact, ArtifactKind
from strop_job.store.local import LocalStore

GATES = {
    "metric_drop": {"max_points": "1"},
    "metric_min": {"min": "0.1"},
    "fidelity": {"cosine_min": "0.9", "sqnr_min_decibels": "10"},
}


def measured(folder: Path, **metric: float) -> Artifact:
    """What verify leaves, with figures that are not numbers."""
    figures = {"name": "mse", "original": 0.5, "optimized": math.inf, "higherIsBetter": False, "samples": 4} | metric
    folder.mkdir(parents=True)
    np.savez(folder / "samples.npz", original=np.full(4, 0.5), optimized=np.full(4, np.inf))
    facts = {
        "metric": figures,
        "fidelity": {"cosine": math.nan, "sqnrDecibels": -math.inf},
        "parity": {"shapes": [{"sizes": {"batch": 4}, "error": math.inf}], "worst": math.inf, "tolerance": 0.001},
    }
    return Artifact(ArtifactKind.MEASUREMENT, folder, ("samples.npz",), facts)


@pytest.mark.parametrize("metric", [{"optimized": math.inf}, {"optimized": math.nan}, {"original": math.nan}])
def test_the_verdicts_of_a_cached_run_are_those_of_the_first(make_spec, tmp_path: Path, metric) -> None:
    """The second run would crash on the record of the first, or judge otherwise."""
    spec = make_spec(gates=GATES)
    made = measured(tmp_path / "made", **metric)
    records = Records(LocalStore(tmp_path / "store"), "s3://records/team")
    record = records.commit("0" * 64, made, 1.0)
    json.dumps(record.facts, allow_nan=False)
    found = records.find("0" * 64)
    assert found is not None
    first = judge(spec, spec.targets[0], made, None, 1)
    again = judge(spec, spec.targets[0], records.fetch(found, tmp_path / "again"), None, 1)
    assert again == first
    assert first.outcome is Outcome.GATE_MISSED
    verdicts = {gate.gate: str(gate.verdict) for gate in first.gates}
    assert verdicts["compileParity"] == "Missed"
    assert verdicts["metricDrop"] == verdicts["metricMin"] == ("NotMeasured" if "original" in metric else "Missed")
    assert verdicts["fidelity.cosineMin"] == verdicts["fidelity.sqnrMinDecibels"] == "NotMeasured"
