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
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest
from strop_api.worker import HARMLESS_ENVIRONMENT
from strop_job.hardware import Hardware
from strop_job.judgement.gates import Judgement
from strop_job.outcome import now
from strop_job.records import MadeFrom

FORMAT = 1
HIDDEN = "[hidden]"
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
    evaluation_reads: int | None = None
    """How many models of this namespace have been measured on that data, this one included."""
    evaluation_readers: tuple[str, ...] = ()
    """Stages of this run that read any of it."""


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
        "spec": shown_spec(request.spec),
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
    if seen.evaluation_reads is not None:
        found["evaluation"] = {
            "digest": seen.evaluation_digest,
            "reads": seen.evaluation_reads,
            "readers": [*seen.evaluation_readers],
        }
    return found


def shown_spec(spec: ModelOptimizationSpec) -> dict[str, JsonValue]:
    """What was asked, for everybody who may read what is published.

    Without the values of variables that only a policy allows: a token or a proxy's password may be among them.
    """
    kept = [
        variable if variable.name in HARMLESS_ENVIRONMENT else variable.model_copy(update={"value": HIDDEN})
        for variable in spec.worker.env
    ]
    shown = spec.model_copy(update={"worker": spec.worker.model_copy(update={"env": kept})})
    return shown.model_dump(mode="json", by_alias=True, exclude_defaults=True)


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
