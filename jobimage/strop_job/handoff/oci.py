"""The engine as an OCI artifact in an image layout, as ORAS writes one, with its provenance as annotations.

https://github.com/opencontainers/image-spec/blob/main/image-layout.md and, for what stands where an image has its
configuration, "Guidelines for Artifact Usage" in that specification's manifest.md. The same engine and provenance give
the same bytes.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from strop_api.identity import spec_hash
from strop_api.result import RunRequest
from strop_api.targets import Target
from strop_job.handoff.files import listed, place
from strop_job.hardware import this_machine
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext
from strop_job.store.digests import PREFIX, bytes_digest, file_digest, folder_digest
from strop_job.trust.provenance import versions

ARTIFACT_TYPE = "application/vnd.strop.engine.v1"
FILE_TYPE = "application/vnd.strop.engine.file.v1"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
INDEX_TYPE = "application/vnd.oci.image.index.v1+json"
EMPTY_TYPE, EMPTY = "application/vnd.oci.empty.v1+json", b"{}"
TITLE, REFERENCE = "org.opencontainers.image.title", "org.opencontainers.image.ref.name"
Descriptor = dict[str, Any]


def oci_stage(name: str, request: RunRequest, target: Target, engine: str, model: str) -> Stage:
    """The engine as an image layout tagged with the run's id. Facts: artifactType, digest, reference, notes."""
    return Stage(
        name=name,
        kind="OCI",
        version=1,
        run=partial(run_oci, engine=engine, model=model),
        parameters={
            "run": request.run_id,
            "resource": f"{request.namespace}/{request.name}",
            "target": target.name,
            "spec": spec_hash(request.spec),
        },
        needs=(engine, model),
        libraries=("strop",),
        hardware=True,
        weight=0.05,
    )


def run_oci(context: StageContext, engine: str, model: str) -> Artifact:
    """Writes `oci-layout`, `index.json` and the blobs."""
    made, folder = context.inputs[engine], context.folder
    layers = [_file(folder, made.folder / name, name) for name in made.files]
    noted = annotations(context.request, context.target, made, context.inputs[model])
    manifest = _manifest(_bytes(folder, EMPTY, EMPTY_TYPE), layers, noted)
    described = _bytes(folder, manifest, MANIFEST_TYPE)
    tagged = {**described, "artifactType": ARTIFACT_TYPE, "annotations": {REFERENCE: context.request.run_id}}
    index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": [tagged]}
    (folder / "index.json").write_bytes(_json(index))
    (folder / "oci-layout").write_bytes(_json({"imageLayoutVersion": "1.0.0"}))
    reference = f"oci:{context.request.run_id}"
    facts: dict[str, JsonValue] = {
        "artifactType": ARTIFACT_TYPE,
        "digest": described["digest"],
        "reference": reference,
        "notes": [f"`oras copy --from-oci-layout {reference} <registry>/<repository>:<tag>` uploads the artifact."],
    }
    return Artifact(ArtifactKind.BUNDLE, folder, listed(folder), facts)


def annotations(request: RunRequest, target: Target, engine: Artifact, model: Artifact) -> dict[str, str]:
    """What the engine is and what it was made from. The verdicts of the gates stand in the run's provenance.json."""
    spec = request.spec.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {
        "dev.strop.engine.digest": _digest(engine),
        "dev.strop.hardware": _text(this_machine().document()),
        "dev.strop.model.digest": _digest(model),
        "dev.strop.model.uri": request.spec.model.uri,
        "dev.strop.resource": f"{request.namespace}/{request.name}",
        "dev.strop.run": request.run_id,
        "dev.strop.runtime": target.runtime.value,
        "dev.strop.runtime.version": str(engine.facts.get("version", "")),
        "dev.strop.spec": _text(spec),
        "dev.strop.spec.hash": spec_hash(request.spec),
        "dev.strop.target": target.name,
        "dev.strop.versions": _text(versions()),
        "dev.strop.worker.image": request.image,
    }


def _digest(artifact: Artifact) -> str:
    """As records and provenance.json name it."""
    return folder_digest({name: file_digest(artifact.folder / name) for name in artifact.files})


def _manifest(config: Descriptor, layers: list[Descriptor], noted: Mapping[str, str]) -> bytes:
    return _json(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "artifactType": ARTIFACT_TYPE,
            "config": config,
            "layers": layers,
            "annotations": dict(noted),
        }
    )


def _file(folder: Path, source: Path, title: str) -> Descriptor:
    digest = file_digest(source)
    if not (blob := _blob(folder, digest)).exists():
        place(source, blob)
    size = source.stat().st_size
    return {"mediaType": FILE_TYPE, "digest": digest, "size": size, "annotations": {TITLE: title}}


def _bytes(folder: Path, content: bytes, media_type: str) -> Descriptor:
    digest = bytes_digest(content)
    blob = _blob(folder, digest)
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    return {"mediaType": media_type, "digest": digest, "size": len(content)}


def _blob(folder: Path, digest: str) -> Path:
    return folder / "blobs" / "sha256" / digest.removeprefix(PREFIX)


def _json(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, sort_keys=True).encode()


def _text(document: Mapping[str, JsonValue]) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"))
