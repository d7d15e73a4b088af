"""The smallest documents that pass every rule; tests change copies of them."""

from typing import Any

Document = dict[str, Any]

MINIMAL: Document = {
    "apiVersion": "strop.dev/v1alpha1",
    "kind": "ModelOptimization",
    "metadata": {"name": "digits", "namespace": "default"},
    "spec": {
        "model": {
            "uri": "s3://models/digits.onnx",
            "format": "Onnx",
            "inputs": [{"name": "image", "dtype": "float32", "shape": ["batch", 1, 8, 8]}],
            "dimensions": [{"name": "batch", "min": 1, "opt": 8, "max": 32}],
        },
        "task": {"type": "Classification", "metric": "accuracy", "labels": "label"},
        "data": {
            "calibration": {"uri": "s3://data/calibration.npz", "format": "Npz"},
            "evaluation": {"uri": "s3://data/evaluation.npz", "format": "Npz"},
        },
        "steps": [{"name": "int8", "type": "Quantize", "quantize": {"precision": "int8", "method": "Static"}}],
        "targets": [{"name": "cpu", "runtime": "ONNXRuntime"}],
        "output": {"uri": "s3://engines/digits"},
    },
}

POLICY: Document = {
    "apiVersion": "strop.dev/v1alpha1",
    "kind": "OptimizationPolicy",
    "metadata": {"name": "default", "namespace": "default"},
    "spec": {
        "stores": [
            {
                "name": "default",
                "endpoint": "https://minio.storage.svc:9000",
                "credentialsSecretName": "store",
                "outputPrefixes": ["s3://engines/{namespace}/"],
            }
        ],
        "images": [{"name": "cpu", "ref": f"example.org/strop/cpu@sha256:{'0' * 64}", "runtimes": ["ONNXRuntime"]}],
    },
}
