"""The model card: metadata that Hugging Face's own library reads, figures that were measured, nothing that was not."""

import pytest
from huggingface_hub import ModelCard

from strop_api.checks.evidence import NOT_FASTER, SPEED_NOT_STATED
from strop_api.status import GateStatus, GateVerdict, Speedup
from strop_job.publish import PublishedFile, Role
from strop_job.trust.card import Card
from strop_job.trust.markup import code, plain

FILES = [
    PublishedFile(name="engine.onnx", digest="sha256:" + "1" * 64, size_bytes=12, role=Role.MEASURED),
    PublishedFile(name="onnx/model.onnx", digest="sha256:" + "2" * 64, size_bytes=5, role=Role.COMPANION),
]
HOSTILE = (
    "<script>alert(1)</script> | **bold** [x](http://evil.example) `tick` \n# heading --- ![i](x) https://evil.example"
)


def card(parts, judgement=None, spec=None, findings=(), **provenance) -> str:
    request = parts.make_request(spec)
    judgement = judgement or parts.make_judgement()
    document = parts.make_provenance(request, judgement, **provenance)
    return Card(request, request.spec.targets[0], judgement, document, {}, findings)(FILES)


def test_hugging_faces_own_library_reads_the_metadata(parts):
    """A hub would show a page without its figures, or refuse it."""
    data = ModelCard(card(parts)).data
    assert data.library_name == "onnx"
    assert {"strop", "onnxruntime", "int8"} <= set(data.tags)
    (result,) = data.eval_results
    assert (result.metric_type, result.metric_value, result.task_type) == ("accuracy", 0.945, "classification")
    assert result.dataset_type == "s3://bucket/data/eval.npz"


def test_a_model_of_the_hub_is_named_as_the_base(parts):
    """The hub could not show which model it was made from; for other addresses its check refuses the field."""
    spec = parts.make_spec()
    on_hub = spec.model_copy(update={"model": spec.model.model_copy(update={"uri": "hf://owner/name/model.onnx"})})
    data = ModelCard(card(parts, spec=on_hub)).data
    assert data.base_model == "owner/name"
    assert data.to_dict()["base_model_relation"] == "quantized"
    assert ModelCard(card(parts)).data.base_model is None


def test_only_what_was_measured_is_listed(parts):
    """The card would promise more than the gates saw."""
    text = card(parts)
    assert "| latency, median | 740 µs | 100 calls |" in text
    for absent in ("p99", "speed-up", "throughput", "peak memory", "license"):
        assert absent not in text
    speedup = Speedup(ratio="2.31", low="2.2", high="2.4", over="Original")
    assert "| speed-up | 2.31x, 95% 2.20x to 2.40x | over the original |" in card(
        parts, parts.make_judgement(speedup=speedup)
    )
    bare = card(parts, parts.make_judgement(metric=None, latency=None))
    assert "model-index" not in bare
    assert "accuracy of the original" not in bare


def test_it_tells_files_machine_gates_and_reads_of_the_evaluation_data(parts):
    """Whoever finds the folder would have to ask how good it is, and where."""
    text = card(parts, reads=4)
    assert "| `engine.onnx` | 12 | **measured** |" in text
    assert "| `onnx/model.onnx` | 5 | companion |" in text
    assert "onnxruntime" in text
    assert "Models measured on this evaluation data so far, this one included: 4." in text
    assert "| metricDrop | Passed | " in text


def test_what_no_gate_refused_is_told_and_trifles_are_not(parts):
    """Who loads the model would not know what the run itself doubted."""
    seen = [NOT_FASTER.finding("INT8 is not faster than FP16"), SPEED_NOT_STATED.finding(HOSTILE)]
    text = card(parts, findings=seen)
    assert "| Medium | not-faster | INT8 is not faster than FP16 |" in text
    assert "speed-not-stated" not in text
    assert "## Findings" not in card(parts, findings=seen[1:])
    assert "<script" not in card(parts, findings=[NOT_FASTER.finding(HOSTILE)])


def test_the_same_run_gives_the_same_bytes(parts):
    """A worker that was killed while it published could not go on: published files never change."""
    assert card(parts) == card(parts)


def test_hostile_words_stay_words(parts):
    """A tensor's or file's name could put a script, a link or a false verdict onto the page."""
    gate = GateStatus(gate="metricDrop", verdict=GateVerdict.PASSED, message=HOSTILE)
    spec = parts.make_spec()
    hostile = spec.model_copy(update={"model": spec.model.model_copy(update={"uri": "s3://b/`|<b>[x](y)"})})
    text = card(parts, parts.make_judgement(gates=[gate]), hostile)
    body = text.split("---\n", 2)[2]
    for markup in ("<script", "<b>", "](", "**bold**", "`tick`", "\n# heading", "http://", "https://"):
        assert markup not in body


@pytest.mark.parametrize("text", [HOSTILE, "a|b", "x_y*z", "~~~", "&amp;", "\u202eevil", "@someone", "1. item"])
def test_escaped_text_holds_no_markup(text):
    """One forgotten character is enough."""
    assert not set("<>|*_`[]!#&~@:") & set(plain(text).replace("&#", "").replace(";", "")) - {"&", "#"}
    assert "\u202e" not in plain(text)


def test_plain_names_are_shown_as_code():
    """Every file's name would be unreadable."""
    assert code("a_b/c-1.onnx") == "`a_b/c-1.onnx`"
    assert code("a`b") == "a&#96;b"
