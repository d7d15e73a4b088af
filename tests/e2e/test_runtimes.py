"""Every runtime that this worker's image holds does on a cluster what it does at home, and claims no more."""

import pytest

from e2e.runs import Run, applied, sample
from e2e.stack import Stack

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1500)]


def test_openvino_publishes_an_int8_engine_with_a_model_repository(stack: Stack) -> None:
    """Broken, NNCF or OpenVINO would not work in the locked-down pod, or its bundle would not be there."""
    document = sample("minilm-openvino-int8", seed=11)
    document["spec"]["output"]["formats"] = ["Engine", "Triton", "KServe"]
    with applied(stack.kubectl, document, "openvino") as run:
        run.wait("Ready")
        target = run.status["targets"][0]
        assert "int8" in target["realisedPrecision"]
        names = _published(stack, run)
        assert any(name.endswith("config.pbtxt") for name in names), names
        assert any("kserve" in name.lower() for name in names), names


def test_inductor_compiles_in_the_pod_and_publishes(stack: Stack) -> None:
    """Broken, the image lacks a compiler, or the compiler finds no folder it may write to."""
    with applied(stack.kubectl, sample("minilm-inductor-int8", seed=11), "inductor") as run:
        run.wait("Ready", 900)
        assert run.status["targets"][0]["verdict"] == "Published"


def test_an_engine_built_for_a_gpu_that_is_not_there_is_never_ready(stack: Stack) -> None:
    """Broken, a status would promise speed and accuracy that nobody has measured."""
    with applied(stack.kubectl, sample("minilm-rtx", seed=11), "rtx") as run:
        run.wait("Stalled")
        assert run.condition("Ready")["status"] == "False"
        assert run.condition("Ready")["reason"] == "NotMeasured"
        target = run.status["targets"][0]
        assert target["verdict"] == "NotMeasured"
        assert {"artifact", "speedup", "latency"} & set(target) == set()
        assert {gate["verdict"] for gate in target["gates"]} == {"NotMeasured"}
        assert target["built"]["digest"].startswith("sha256:")
        assert _published(stack, run) == []


def _published(stack: Stack, run: Run) -> list[str]:
    """Names of all objects below the run's output folder."""
    folder = run.get()["spec"]["output"]["uri"].removeprefix("s3://engines/")
    return stack.names("engines", f"{folder}/")
