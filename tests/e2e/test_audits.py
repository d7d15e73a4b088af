"""What a run is given is looked at before anything is made of it."""

import io

import numpy as np
import pytest

from e2e.runs import applied, sample
from e2e.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]


def test_calibration_data_of_another_kind_ends_the_run_before_anything_is_quantized(stack: Stack) -> None:
    """Broken, hours of a GPU would go into a model whose ranges were taken from the wrong data."""
    stack.write("data", "magika/blank.npz", _blank(stack.read("data", "magika/calibration.npz")))
    document = sample("magika-static-int8")
    document["spec"]["data"]["calibration"]["uri"] = "s3://data/magika/blank.npz"
    document["spec"]["gates"]["calibration"] = {"maxMismatches": 0}
    with applied(stack.kubectl, document, "mismatched") as run:
        run.wait("Stalled")
        status = run.status
        assert run.condition("Stalled")["reason"] == "GateMissed"
        gates = {gate["gate"]: gate["verdict"] for gate in status["targets"][0]["gates"]}
        assert gates.pop("calibration") == "Missed"
        assert set(gates.values()) == {"NotMeasured"}, "nothing else was there to be judged"

        stages = {stage["name"] for stage in status["stages"]}
        assert "audit-calibration" in stages
        assert stages.isdisjoint({"int8", "compile", "benchmark", "verify"}), stages

        found = [finding for finding in status["findings"] if finding["check"].startswith("calibration-")]
        assert found, status["findings"]
        assert all(finding["message"] and finding["mend"] for finding in found)
        _the_report_lies_in_the_store(stack, status["report"])
        assert stack.names("engines", "mismatched/") == []
        assert "GateMissed" in run.events()
        assert "Findings" in run.events(), "what is critical or high is told as an Event too"


def _blank(samples: bytes) -> bytes:
    """The same samples as a reader that failed would give them: all of them empty."""
    arrays, out = dict(np.load(io.BytesIO(samples))), io.BytesIO()
    np.savez(out, **arrays | {"bytes": np.zeros_like(arrays["bytes"])})
    return out.getvalue()


def _the_report_lies_in_the_store(stack: Stack, uri: str) -> None:
    bucket, _, name = uri.removeprefix("s3://").partition("/")
    assert b"calibration" in stack.read(bucket, name)
