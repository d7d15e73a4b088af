"""Provenance as it is published: an in-toto Statement v1 with a SLSA Provenance v1 predicate, and back.

Only fields of these two specifications are used. Both say that consumers must ignore fields they do not know, yet
slsa-verifier refuses them (DisallowUnknownFields). So what is Strop's own lies where the specifications leave the form
open: hardware in `internalParameters`; stages, verdicts and the reads of the evaluation data as annotations of
`byproducts`. Sources: https://in-toto.io/Statement/v1, https://slsa.dev/spec/v1.1/provenance.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from pydantic import Field, JsonValue

from strop_api.status import GateStatus
from strop_api.told import Told
from strop_job.errors import InvalidInput
from strop_job.store.digests import PREFIX

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
BUILD_TYPE = "https://strop.dev/provenance/model-optimization/v1"
"""What the parameters of the predicate mean: docs/trust.md."""
BUILDER_ID = "https://strop.dev/provenance/worker/v1"
VERDICTS_TYPE = "https://strop.dev/provenance/verdicts/v1"
EVALUATION_TYPE = "https://strop.dev/provenance/evaluation/v1"
RESOLVE = "resolve-"
"""How the stages are called that bring something in."""
PROVENANCE_LIMIT_BYTES = 16 << 20


class StageOrigin(Told):
    """One stage of the run."""

    name: str
    """Name of the stage."""
    digest: str
    """Over the sorted names and digests of its files."""
    content: str | None = None
    """Of what it brought in; None for other stages, and before release 0.2."""
    made_from: dict[str, JsonValue] | None = None
    """What its record's key was computed from."""

    @property
    def parameters(self) -> dict[str, JsonValue]:
        """What of the spec and of the source's listing decided it."""
        found = (self.made_from or {}).get("parameters")
        return found if isinstance(found, dict) else {}


class RunOrigin(Told):
    """The run that published."""

    id: str = ""
    """Identity of the run."""
    namespace: str = ""
    """Namespace of the resource."""
    name: str = ""
    """Name of the resource."""
    uid: str = ""
    """UID of the resource."""
    target: str = ""
    """The target it served."""
    spec_hash: str = ""
    """Of the fields that decide the outcome."""
    image: str = ""
    """The worker image."""


class EvaluationReads(Told):
    """How often the evaluation data has been measured on."""

    digest: str | None = None
    """Of the data."""
    reads: int
    """Models of the namespace that were measured on it, up to this one."""
    readers: list[str] = []
    """Stages of the run that read any of it."""


class Provenance(Told):
    """What is known of a published folder, whatever form it was published in."""

    made_at: str = ""
    """When it was judged."""
    started_at: str | None = None
    """When the run began."""
    run: RunOrigin = RunOrigin()
    """Which run."""
    spec: dict[str, JsonValue] = {}
    """What was asked."""
    stages: list[StageOrigin] = []
    """In the order of the plan."""
    versions: dict[str, str] = {}
    """Of Python, the libraries and the driver."""
    hardware: dict[str, JsonValue] = {}
    """The machine that measured."""
    gates: list[GateStatus] = []
    """Every gate's verdict."""
    evaluation: EvaluationReads | None = None
    """None before release 0.2, and where nothing was judged on data."""
    subjects: dict[str, str] | None = Field(default=None, exclude=True)
    """`sha256:…` of each published file by name; None before release 0.2."""
    measured: list[str] = []
    """Names of those that passed the gates; empty before release 0.2."""

    def stage(self, name: str) -> StageOrigin | None:
        """The stage of that name."""
        return next((stage for stage in self.stages if stage.name == name), None)


def statement(document: Mapping[str, JsonValue], files: Mapping[str, str], measured: Collection[str]) -> bytes:
    """The statement about the files (`sha256:…` by name) that a run with this provenance publishes."""
    seen = Provenance.model_validate(document).model_copy(update={"measured": sorted(measured)})
    made = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": name, "digest": _digest_set(digest)} for name, digest in sorted(files.items())],
        "predicateType": PREDICATE_TYPE,
        "predicate": {"buildDefinition": _definition(seen), "runDetails": _details(seen)},
    }
    return json.dumps(made, indent=2, sort_keys=True).encode()


def read(data: bytes) -> Provenance:
    """What a published `provenance.json` says: a statement, or the document of release 0.1.0. Raises InvalidInput."""
    try:
        found = json.loads(data)
        if isinstance(found, dict) and found.get("_type") == STATEMENT_TYPE:
            return Provenance.model_validate(_from_statement(found))
        if isinstance(found, dict) and found.get("format") == 1:
            return Provenance.model_validate(found)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InvalidInput(f"the provenance cannot be read: {type(error).__name__}") from None
    raise InvalidInput("the provenance is neither an in-toto statement nor that of an earlier release")


def _definition(seen: Provenance) -> dict[str, Any]:
    run = seen.run
    return {
        "buildType": BUILD_TYPE,
        "externalParameters": {"spec": seen.spec, "target": run.target},
        "internalParameters": {
            "namespace": run.namespace,
            "name": run.name,
            "uid": run.uid,
            "runId": run.id,
            "specHash": run.spec_hash,
            "hardware": seen.hardware,
        },
        "resolvedDependencies": [*_sources(seen), *_image(run.image)],
    }


def _details(seen: Provenance) -> dict[str, Any]:
    metadata = {"invocationId": f"{seen.run.namespace}/{seen.run.name}/{seen.run.id}"}
    metadata |= {"startedOn": seen.started_at} if seen.started_at else {}
    metadata |= {"finishedOn": seen.made_at} if seen.made_at else {}
    return {
        "builder": {"id": BUILDER_ID, "version": seen.versions | _drivers(seen.hardware)},
        "metadata": metadata,
        "byproducts": [*map(_stage, seen.stages), *_verdicts(seen), *_evaluation(seen)],
    }


def _sources(seen: Provenance) -> Iterator[dict[str, Any]]:
    """Model, data, tokenizers and code, each by the digest of its content where the run noted it."""
    for stage in seen.stages:
        if not stage.name.startswith(RESOLVE):
            continue
        known = stage.parameters
        described = {"name": stage.name.removeprefix(RESOLVE), "digest": _digest_set(stage.content or stage.digest)}
        uri = {"uri": str(known["uri"])} if known.get("uri") else {}
        yield described | uri | {"annotations": {"listing": known.get("version"), "bytes": known.get("sizeBytes")}}


def _image(image: str) -> Iterator[dict[str, Any]]:
    """The worker image, which holds the code; its digest where it is named by one."""
    if image:
        name, _, digest = image.partition("@")
        yield {"name": "worker-image", "uri": name} | ({"digest": _digest_set(digest)} if digest else {})


def _stage(stage: StageOrigin) -> dict[str, Any]:
    annotations = {"madeFrom": stage.made_from} | ({"content": stage.content} if stage.content else {})
    return {"name": f"stage/{stage.name}", "digest": _digest_set(stage.digest), "annotations": annotations}


def _verdicts(seen: Provenance) -> Iterator[dict[str, Any]]:
    gates = [gate.model_dump(mode="json", by_alias=True, exclude_none=True) for gate in seen.gates]
    yield {"name": "verdicts", "uri": VERDICTS_TYPE, "annotations": {"gates": gates, "measured": seen.measured}}


def _evaluation(seen: Provenance) -> Iterator[dict[str, Any]]:
    if seen.evaluation is not None:
        told = seen.evaluation.model_dump(mode="json", by_alias=True)
        yield {"name": "evaluation", "uri": EVALUATION_TYPE, "annotations": told}


def _drivers(hardware: Mapping[str, JsonValue]) -> dict[str, str]:
    """Versions of what lies below the libraries."""
    found = {"linux": str(hardware["kernel"])} if hardware.get("kernel") else {}
    gpus = hardware.get("gpus")
    drivers = sorted({str(g["driver"]) for g in gpus if isinstance(g, dict)}) if isinstance(gpus, list) else []
    return found | ({"nvidia-driver": ", ".join(drivers)} if drivers else {})


def _digest_set(digest: str) -> dict[str, str]:
    algorithm, _, value = digest.partition(":")
    return {algorithm: value}


def _from_statement(found: Mapping[str, Any]) -> dict[str, Any]:
    """The document that the statement was made of; raises KeyError and the like where it is not one of ours."""
    if found["predicateType"] != PREDICATE_TYPE or found["predicate"]["buildDefinition"]["buildType"] != BUILD_TYPE:
        raise ValueError("another build type")
    definition, details = found["predicate"]["buildDefinition"], found["predicate"]["runDetails"]
    external, internal = definition["externalParameters"], definition["internalParameters"]
    products = {product["name"]: product for product in details["byproducts"]}
    image = next((d for d in definition["resolvedDependencies"] if d["name"] == "worker-image"), None)
    run = {key: internal[key] for key in ("namespace", "name", "uid", "specHash")}
    return {
        "madeAt": details["metadata"].get("finishedOn", ""),
        "startedAt": details["metadata"].get("startedOn"),
        "run": run | {"id": internal["runId"], "target": external["target"], "image": _image_name(image)},
        "spec": external["spec"],
        "stages": [_stage_back(name, p) for name, p in products.items() if name.startswith("stage/")],
        "versions": details["builder"]["version"],
        "hardware": internal["hardware"],
        "gates": products["verdicts"]["annotations"]["gates"],
        "measured": products["verdicts"]["annotations"]["measured"],
        "evaluation": products["evaluation"]["annotations"] if "evaluation" in products else None,
        "subjects": _subjects(found["subject"]),
    }


def _subjects(listed: list[dict[str, Any]]) -> dict[str, str]:
    found = {str(subject["name"]): PREFIX + str(subject["digest"]["sha256"]) for subject in listed}
    if len(found) != len(listed):
        raise ValueError("a file is named twice")
    return found


def _stage_back(name: str, product: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": name.removeprefix("stage/"),
        "digest": PREFIX + product["digest"]["sha256"],
        **product["annotations"],
    }


def _image_name(image: Mapping[str, Any] | None) -> str:
    if image is None:
        return ""
    return f"{image['uri']}@{PREFIX}{image['digest']['sha256']}" if "digest" in image else str(image["uri"])
