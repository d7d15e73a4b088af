"""A tiny real problem laid out in a folder store: an ONNX classifier, labelled data, and the YAML that asks for it."""

from pathlib import Path

import numpy as np
import onnx
import yaml
from onnx import TensorProto, helper, numpy_helper

WIDTH, CLASSES, HIDDEN = 8, 3, 64


def lay_out(root: Path, samples: int = 200) -> dict:
    """Writes model and data below `root`; returns the resource."""
    random = np.random.default_rng(0)
    weights = random.normal(size=(WIDTH, HIDDEN)).astype(np.float32)
    head = random.normal(size=(HIDDEN, CLASSES)).astype(np.float32)
    for role in ("evaluation", "calibration"):
        x = random.normal(size=(samples, WIDTH)).astype(np.float32)
        label = (np.maximum(x @ weights, 0) @ head).argmax(axis=1)
        path = root / "data" / "tiny" / f"{role}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, x=x, label=label)
    (root / "models" / "tiny").mkdir(parents=True)
    onnx.save(_model(weights, head), str(root / "models" / "tiny" / "model.onnx"))
    return _resource()


def _model(weights, head):
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "w"], ["h"], name="first"),
            helper.make_node("Relu", ["h"], ["r"], name="relu"),
            helper.make_node("MatMul", ["r", "v"], ["logits"], name="head"),
        ],
        "tiny",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", WIDTH])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", CLASSES])],
        [numpy_helper.from_array(weights, "w"), numpy_helper.from_array(head, "v")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _resource() -> dict:
    source = {"uri": "s3://data/tiny/evaluation.npz", "format": "Npz"}
    return {
        "apiVersion": "strop.dev/v1alpha1",
        "kind": "ModelOptimization",
        "metadata": {"name": "tiny", "namespace": "team"},
        "spec": {
            "model": {
                "uri": "s3://models/tiny/model.onnx",
                "format": "Onnx",
                "inputs": [{"name": "x", "dtype": "float32", "shape": ["batch", WIDTH]}],
                "dimensions": [{"name": "batch", "min": 1, "opt": 4, "max": 16}],
            },
            "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
            "data": {"evaluation": source, "calibration": source | {"uri": "s3://data/tiny/calibration.npz"}},
            "steps": [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Static"}}],
            "targets": [{"name": "cpu", "runtime": "ONNXRuntime", "cpu": {"threads": 1}}],
            "gates": {"metricDrop": {"maxPoints": "20"}},
            "benchmark": {"calls": 50, "maxSeconds": 20},
            "output": {"uri": "s3://engines/tiny", "formats": ["Engine", "Onnx"]},
        },
    }


def write(path: Path, *documents: dict) -> Path:
    """YAML of the documents."""
    path.write_text(yaml.safe_dump_all(documents))
    return path
