"""Small real data files and the specs that describe them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from strop_api.optimization import ModelOptimizationSpec
from strop_job.data import Samples, open_samples
from strop_job.stages import Artifact, ArtifactKind

IMAGE = {"name": "x", "dtype": "float32", "shape": ["batch", 2]}
IDS = [{"name": n, "dtype": "int64", "shape": ["batch", "sequence"]} for n in ("input_ids", "attention_mask")]


def spec_of(
    source: dict[str, Any],
    inputs: list[dict[str, Any]],
    task: dict[str, Any] | None = None,
    *,
    role: str = "evaluation",
    sequence: tuple[int, int, int] = (4, 8, 16),
) -> ModelOptimizationSpec:
    """A spec whose `data.<role>` is this source."""
    least, tuned, most = sequence
    given = {"uri": "s3://data/file", **source}
    document = {
        "model": {
            "uri": "s3://models/m.onnx",
            "format": "Onnx",
            "inputs": inputs,
            "dimensions": [
                {"name": "batch", "min": 1, "opt": 2, "max": 8},
                {"name": "sequence", "min": least, "opt": tuned, "max": most},
            ],
        },
        "task": task or {"type": "Classification", "metric": "accuracy", "labels": "label"},
        "data": {"evaluation": given, role: given},
        "targets": [{"name": "cpu", "runtime": "ONNXRuntime"}],
        "output": {"uri": "s3://engines/m"},
    }
    return ModelOptimizationSpec.model_validate(document)


Open = Callable[..., Samples]


@pytest.fixture
def opened(tmp_path: Path) -> Open:
    """Opens files below the test's folder as one set."""

    def open_(source: dict[str, Any], inputs: list[dict[str, Any]], **options: Any) -> Samples:
        spec = spec_of(source, inputs, **options)
        role = options.get("role", "evaluation")
        files = tuple(sorted(p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()))
        return open_samples(Artifact(ArtifactKind.DATA, tmp_path, files), getattr(spec.data, role), spec, role)

    return open_


@pytest.fixture
def tokenizer(tmp_path: Path) -> dict[str, Any]:
    """A `tokenizer.json` of a dozen words that itself pads to 128, as checkpoints often do; its place in the spec."""
    vocabulary = {
        w: i
        for i, w in enumerate(
            ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "cat", "dog", "sat", "ran", "on", "the", "mat", "far"]
        )
    }
    special = {t: {"id": t, "ids": [vocabulary[t]], "tokens": [t]} for t in ("[CLS]", "[SEP]")}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": {"strategy": {"Fixed": 128}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
                    "pad_type_id": 0, "pad_token": "[PAD]"},
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [],
            "special_tokens": special,
        },
        "decoder": None,
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(document))
    return {"uri": "s3://models/tokenizer.json", "column": "text", "maxLength": 12}
