"""The gates on what an engine is: unknown never passes, and the words say which layer and which formats."""

from typing import Any

import pytest

from strop_api.status import GateStatus, GateVerdict
from strop_job.judgement.evidence import Evidence
from strop_job.judgement.gates import judge_evidence

PASSED, MISSED, NOT_MEASURED = GateVerdict.PASSED, GateVerdict.MISSED, GateVerdict.NOT_MEASURED
INT8 = {"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Dynamic"}}
HALF = {"name": "half", "type": "Quantize", "quantize": {"precision": "fp16", "method": "Cast"}}


def judged(spec, gate: str, **seen: Any) -> GateStatus:
    empty: dict[str, Any] = {"metric": None, "fidelity": {}, "parity": None, "latencies": {}, "engine_size_bytes": None}
    verdicts = judge_evidence(spec, spec.targets[0], Evidence(**{**empty, **seen})).gates
    return next(status for status in verdicts if status.gate == gate)


def realised(make_spec, inspection: dict[str, Any], *steps: dict[str, Any], least: str = "90%") -> GateStatus:
    spec = make_spec(steps=list(steps), gates={"realisedPrecision": {"min": least}})
    return judged(spec, "realisedPrecision", inspection=inspection)


@pytest.mark.parametrize(("int8", "verdict"), [(1000, PASSED), (900, PASSED), (899, MISSED), (0, MISSED)])
def test_the_share_of_compute_is_held_against_the_bound(make_spec, int8: int, verdict: GateVerdict) -> None:
    """An engine that keeps most of its compute in FP32 would be called INT8."""
    status = realised(make_spec, {"macs": 1000, "macsByFormat": {"int8": int8, "fp32": 1000 - int8}}, INT8)
    assert (status.verdict, status.measured, status.bound) == (verdict, f"{int8 / 1000:g}", "0.9")


def test_what_runs_in_another_format_is_said(make_spec) -> None:
    """A user could not see what to change."""
    status = realised(make_spec, {"macs": 1000, "macsByFormat": {"int8": 250, "fp32": 700, "fp16": 50}}, INT8)
    assert status.message == (
        "25.0% of the multiply-accumulates run in int8 (5.0% in fp16, 70.0% in fp32), which is below 90.0%"
    )


def test_the_precision_asked_for_last_counts(make_spec) -> None:
    """A cast behind a quantization would be held against the wrong format."""
    inspection = {"macs": 100, "macsByFormat": {"fp16": 100}}
    assert realised(make_spec, inspection, INT8, HALF).verdict is PASSED
    assert realised(make_spec, inspection, INT8).verdict is MISSED


@pytest.mark.parametrize(
    ("inspection", "words"),
    [
        ({}, "the engine was not inspected"),
        ({"macs": None, "note": "not inspected: no GPU"}, "the engine was not inspected: no GPU"),
        ({"macs": 0, "macsByFormat": {}}, "no multiply-accumulates were found in the engine"),
        (
            {"macs": 100, "macsByFormat": {"int8": 100}, "uncounted": {"LSTM": 2}},
            "the compute of 2 LSTM was not counted, so no share of all can be given",
        ),
    ],
)
def test_what_was_not_looked_at_never_passes(make_spec, inspection: dict[str, Any], words: str) -> None:
    """An engine that nobody could open, or half of which nobody counted, would be certified."""
    status = realised(make_spec, inspection, INT8, least="1%")
    assert (status.verdict, status.message, status.measured) == (NOT_MEASURED, words, None)


def test_without_a_quantize_step_there_is_nothing_to_hold_it_against(make_spec) -> None:
    """A share of nothing would pass."""
    assert realised(make_spec, {"macs": 1, "macsByFormat": {"fp32": 1}}).verdict is NOT_MEASURED


def parity_words(make_spec, **divergence: Any) -> str:
    parity = {"worst": 0.4, "tolerance": 1e-3, "shapes": [], "divergence": divergence}
    status = judged(make_spec(), "compileParity", parity=parity)
    assert status.verdict is MISSED
    return status.message


def test_the_first_diverging_layer_stands_in_the_verdict(make_spec) -> None:
    """A person would bisect a hundred layers by hand."""
    message = parity_words(make_spec, node="encoder/fc", operator="MatMul", tensor="t", error=0.31, **{"with": []})
    assert message.endswith("first diverging layer: MatMul `encoder/fc`, off by 0.31")


def test_a_layer_with_a_long_name_still_fits_the_status(make_spec) -> None:
    """The status would be refused by the API server, or the layer cut off."""
    name = "model/" + "encoder/layer/" * 30 + "fc2"
    message = parity_words(make_spec, node=name, operator="MatMul", tensor="t", error=None)
    assert len(message) <= 256
    assert message.endswith("/fc2`, not finite")


def test_why_no_layer_is_named_stands_in_the_verdict(make_spec) -> None:
    """Silence would look as if nobody had searched."""
    assert parity_words(make_spec, note="it was not located").endswith("beyond 0.001; it was not located")


def test_a_miscompiled_original_leaves_nothing_to_compare_with(make_spec) -> None:
    """An engine would pass against a broken original: it loses nothing, and is as fast as can be."""
    sound = {"worst": 1e-6, "tolerance": 1e-3, "shapes": []}
    broken = {"worst": 0.4, "tolerance": 1e-3, "passed": False}
    status = judged(make_spec(), "compileParity", parity=sound, original_parity=broken)
    assert status.verdict is GateVerdict.NOT_MEASURED
    assert "differs from its own graph by 0.4" in status.message
    assert judged(make_spec(), "compileParity", parity=sound, original_parity=broken | {"passed": True}).verdict is (
        GateVerdict.PASSED
    )
