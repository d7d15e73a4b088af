"""The report on the engine itself: its layers by format, where it diverges, and what was built but never measured."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from strop_api.result import Outcome
from strop_api.status import ArtifactRef
from strop_job.judgement.gates import judge
from strop_job.report import RunReport, write_report
from strop_job.report.truth import LAYERS_SHOWN


def told(run: RunReport, folder: Path) -> str:
    """The page as a reader sees it."""
    html, _ = write_report(folder, run)
    return " ".join(re.sub(r"<[^>]+>", " ", html.read_text()).split())


def with_facts(run: RunReport, **facts: Any) -> RunReport:
    assert run.verify is not None
    return replace(run, verify=replace(run.verify, facts={**run.verify.facts, **facts}))


def layers(count: int) -> dict[str, Any]:
    """An engine whose layers grow heavier towards the end; every tenth stayed in FP32."""
    rows = [
        {"name": f"layer.{i}", "operator": "MatMul", "format": "int8" if i % 10 else "fp32", "macs": i}
        for i in range(count)
    ]
    return {"inspected": True, "macs": sum(range(count)), "macsByFormat": {"int8": 1}, "layers": rows}


def test_the_heaviest_layers_are_listed_with_their_formats(make_run, tmp_path: Path) -> None:
    """A reader could not see which layers kept the engine from being INT8."""
    text = told(with_facts(make_run(), inspection=layers(100)), tmp_path)
    assert "In which precision it computes" in text
    assert "layer.99 MatMul int8 2.0%" in text
    assert "layer.90 MatMul fp32 1.8%" in text
    assert f"layer.{99 - LAYERS_SHOWN} " not in text


def test_a_layers_name_is_shown_as_text(make_run, tmp_path: Path) -> None:
    """A node by the name of a script would run in the reader's browser."""
    seen = layers(3)
    seen["layers"][2]["name"] = "<script>alert('x')</script>"
    html, _ = write_report(tmp_path, with_facts(make_run(), inspection=seen))
    assert "<script>" not in html.read_text()
    assert "&lt;script&gt;" in html.read_text()


def test_an_engine_of_thousands_of_layers_keeps_the_page_small(make_run, tmp_path: Path) -> None:
    """The page would take seconds to open."""
    small, large = (write_report(tmp_path, with_facts(make_run(), inspection=layers(n)))[0] for n in (20, 400))
    assert large.stat().st_size < small.stat().st_size + 2_000


def test_the_first_diverging_layer_is_told_in_full(make_run, tmp_path: Path) -> None:
    """The status cuts long names; the report must not."""
    found = {
        "node": "encoder/fc2", "operator": "MatMul", "tensor": "fc2_out", "error": 0.31, "with": ["encoder/relu"],
        "note": "",
    }  # fmt: skip
    parity = {"worst": 0.4, "tolerance": 1e-3, "shapes": [], "divergence": found}
    text = told(with_facts(make_run(), parity=parity), tmp_path)
    assert (
        "MatMul encoder/fc2, tensor fc2_out, relative error 0.31; the engine runs it as one with encoder/relu" in text
    )


def test_a_record_of_an_earlier_release_is_shown_without_layers(make_run, tmp_path: Path) -> None:
    """A cached measurement from before would break the report."""
    text = told(with_facts(make_run(), inspection={"macs": 10, "macsByFormat": {"int8": 10}, "note": ""}), tmp_path)
    assert "In which precision it computes" not in text
    assert "of 10 multiply-accumulates 100% in int8" in text


def test_built_not_measured_comes_first_and_states_no_figure(make_run, tmp_path: Path) -> None:
    """A reader would take an engine that never ran for one that passed."""
    run = make_run()
    judgement = judge(run.request.spec, run.request.spec.targets[0], None, None, 23_400_000)
    kept = ArtifactRef(uri="s3://records/reports/1/unmeasured/engine.plan", digest="sha256:" + "c" * 64, size_bytes=9)
    reason = "the engine is for devices of compute capability 8.9, and no NVIDIA driver is visible here"
    built = replace(
        run, outcome=Outcome.NOT_MEASURED, message=f"built, not measured: {reason}", judgement=judgement, verify=None,
        benchmarks=(), artifact=None, built=kept, unmeasured=reason,
        facts={"check-graph": {"graph": {"fidelity": {"cosine": 0.99}, "computedBy": "ONNX Runtime on a CPU"}}},
    )  # fmt: skip
    text = told(built, tmp_path)
    assert text.index("Built, not measured") < text.index("Kept, not published") < text.index("Gates")
    assert "Ready stays false." in text
    assert "Left for a machine with the device" in text
    assert text.index("Of the graph, not of the engine") < text.index("cosine 0.9900")
    document = json.loads((tmp_path / "report.json").read_text())
    assert document["built"]["uri"] == kept.uri
    assert not {"artifact", "metric", "latency", "speedup"} & document.keys()
