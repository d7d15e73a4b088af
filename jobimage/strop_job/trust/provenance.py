"""Where a published artifact comes from, as JSON: spec, digests, versions, hardware, verdicts. Holds no credentials."""

import platform
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version

from pydantic import JsonValue

from strop_api.identity import spec_hash
from strop_api.result import RunRequest
from strop_job.hardware import Hardware
from strop_job.judgement.gates import Judgement
from strop_job.outcome import now
from strop_job.records import MadeFrom

FORMAT = 1
LIBRARIES = (
    "strop",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "torch",
    "onnxscript",
    "numpy",
    "tokenizers",
    "safetensors",
    "openvino",
    "nncf",
    "torchao",
    "tensorrt",
    "tensorrt-rtx",
)


def provenance(
    request: RunRequest,
    hardware: Hardware,
    digests: Mapping[str, str],
    origins: Mapping[str, MadeFrom | None],
    judgement: Judgement | None,
) -> dict[str, JsonValue]:
    """Everything needed to say what a file is and to make it again. `digests` and `origins` are by stage name."""
    return {
        "format": FORMAT,
        "madeAt": now(),
        "run": {
            "id": request.run_id,
            "namespace": request.namespace,
            "name": request.name,
            "uid": request.uid,
            "target": request.target,
            "specHash": spec_hash(request.spec),
            "image": request.image,
        },
        "spec": request.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True),
        "stages": [
            {"name": name, "digest": digest, "madeFrom": _origin(origins.get(name))} for name, digest in digests.items()
        ],
        "versions": versions(),
        "hardware": hardware.document(),
        "gates": [gate.model_dump(mode="json", by_alias=True, exclude_none=True) for gate in judgement.gates]
        if judgement
        else [],
    }


def versions() -> dict[str, JsonValue]:
    """Of Python and of the distributions that shape bytes; what is not installed is left out."""
    found: dict[str, JsonValue] = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _origin(origin: MadeFrom | None) -> JsonValue:
    return None if origin is None else origin.model_dump(mode="json", by_alias=True)
