"""Where a published artifact comes from: spec, digests, versions, hardware, verdicts. Holds no credentials.

`provenance` gathers it while the run is at hand; `statement` puts it into the form that is published, `read` gets it
back out of that form and out of the one that release 0.1.0 published.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Sighting:
    """What a run says of itself beside its records."""

    started_at: str | None = None
    """When it began, RFC 3339 in UTC."""
    contents: Mapping[str, str] | None = None
    """By stage that brought something in: the digest of what came, as `sha256sum` prints it for a file."""
    evaluation_digest: str | None = None
    """Digest of the evaluation data."""
    evaluation_runs: int | None = None
    """How many runs of this namespace have been judged on that data, this one included."""


NOTHING = Sighting()


def provenance(
    request: RunRequest,
    hardware: Hardware,
    digests: Mapping[str, str],
    origins: Mapping[str, MadeFrom | None],
    judgement: Judgement | None,
    seen: Sighting = NOTHING,
) -> dict[str, JsonValue]:
    """Everything needed to say what a file is and to make it again. `digests` and `origins` are by stage name."""
    contents = seen.contents or {}
    found: dict[str, JsonValue] = {
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
            {"name": name, "digest": digest, "madeFrom": _origin(origins.get(name))}
            | ({"content": contents[name]} if name in contents else {})
            for name, digest in digests.items()
        ],
        "versions": versions(),
        "hardware": hardware.document(),
        "gates": [gate.model_dump(mode="json", by_alias=True, exclude_none=True) for gate in judgement.gates]
        if judgement
        else [],
    }
    if seen.started_at is not None:
        found["startedAt"] = seen.started_at
    if seen.evaluation_runs is not None:
        found["evaluation"] = {"digest": seen.evaluation_digest, "runs": seen.evaluation_runs}
    return found


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
