"""What must not be published is not, and the status says why in words."""

import pytest

from e2e.runs import applied, sample
from e2e.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


def test_a_slower_int8_model_is_refused_and_nothing_is_published(stack: Stack) -> None:
    """Broken, a model slower than its original would be served."""
    with applied(stack.kubectl, sample("magika-naive-int8"), "naive") as run:
        run.wait("Stalled")
        assert run.condition("Stalled")["reason"] == "GateMissed"
        assert run.condition("Ready")["status"] == "False"
        target = run.status["targets"][0]
        assert target["verdict"] == "GateMissed"
        assert "artifact" not in target
        missed = [g for g in target["gates"] if g["verdict"] == "Missed"]
        assert [g["gate"] for g in missed] == ["speedup"]
        assert float(missed[0]["measured"]) < 1
        assert "speed" in run.condition("Stalled")["message"]
        assert run.status["report"].startswith("s3://strop-records/")
        assert stack.names("engines", "naive/") == []


def test_a_missing_model_is_a_clear_error(stack: Stack) -> None:
    """Broken, a typing error in a URI would be retried for hours."""
    document = sample("magika-static-int8")
    document["spec"]["model"]["uri"] = "s3://models/magika/no-such-model.onnx"
    with applied(stack.kubectl, document, "missing") as run:
        run.wait("Stalled")
        stalled = run.condition("Stalled")
        assert stalled["reason"] == "InvalidInput"
        assert "spec.model.uri" in stalled["message"]
        assert "no-such-model.onnx" in stalled["message"]


def test_a_wish_of_a_later_release_is_refused_by_name(stack: Stack) -> None:
    """Broken, a step would be skipped in silence and the model published without it."""
    document = sample("minilm-int8")
    document["spec"]["data"]["training"] = {
        **document["spec"]["data"]["evaluation"],
        "uri": "s3://data/minilm/training.parquet",
    }
    document["spec"]["steps"].insert(
        0, {"name": "thin", "type": "Prune", "prune": {"method": "Structured", "amount": "30%"}}
    )
    with applied(stack.kubectl, document, "later") as run:
        run.wait("Stalled", 60)
        assert run.condition("Stalled")["reason"] == "Unsupported"
        assert "Prune" in run.condition("Stalled")["message"]
        assert run.jobs() == []


def test_a_spec_that_contradicts_itself_is_refused_at_admission(stack: Stack) -> None:
    """Broken, a user would wait for a pod to learn of a typing error."""
    document = sample("magika-static-int8")
    del document["spec"]["data"]["calibration"]
    with pytest.raises(Exception, match=r"calibration"), applied(stack.kubectl, document, "contradiction"):
        pass
