"""A KServe InferenceService that serves the published Triton repository: `inferenceservice.yaml`.

KServe hands what lies at `storageUri` to Triton as its model repository, whatever the format of the model inside.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import yaml
from pydantic import JsonValue

from strop_api.result import RunRequest
from strop_api.support import NODE_FEATURES
from strop_api.targets import Target
from strop_job.backends import TRAITS
from strop_job.handoff.measured import measured_with, threads_of
from strop_job.handoff.triton import VERSION_COMPATIBLE, loads_any_later, precision_note, server_note
from strop_job.stages import Artifact, ArtifactKind, Stage, StageContext
from strop_job.store.digests import file_digest
from strop_job.store.objects import join

FILE = "inferenceservice.yaml"
NAME_LIMIT = 53
"""KServe appends `-predictor`, and a name ends at 63."""
MEASURED = "measured.strop.dev/"
"""Prefix of the annotations that tell with what the engine was measured."""
HEAD = """\
# {note}
# KServe's own Triton runtime may be older: name the release in spec.predictor.model.runtimeVersion.
# Reading {uri} needs the store's credentials: name their service account in spec.predictor.serviceAccountName.
"""


class _Dumper(yaml.SafeDumper):
    """Quotes text that other readers could take for a number, such as the run `1234e56789`."""


_Dumper.add_representer(
    str, lambda dumper, text: dumper.represent_str(text) if text[:1].isalpha() else _quoted(dumper, text)
)


def _quoted(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


def kserve_stage(name: str, request: RunRequest, target: Target, engine: str, folder: str) -> Stage:
    """The manifest for the repository that is published to `folder`. Facts: storageUri, notes."""
    uri = join(request.spec.output.uri, request.run_id, folder)
    document, threads = inference_service(request, target, uri), threads_of(target)
    return Stage(
        name=name,
        kind="KServe",
        version=2,
        run=partial(run_kserve, document=document, uri=uri, engine=engine, threads=threads),
        parameters={"document": document, "threads": threads},
        needs=(engine,),
        libraries=TRAITS[target.runtime].libraries,
        hardware=True,
        weight=0.05,
    )


def run_kserve(
    context: StageContext, document: Mapping[str, Any], uri: str, engine: str, threads: int | None
) -> Artifact:
    """Writes the manifest; annotations hold the engine's digest and with what it was measured."""
    made = context.inputs[engine]
    notes = (server_note(made, context.target), *precision_note(made, context.target))
    metadata = document["metadata"]
    measured = {f"{MEASURED}{name}": value for name, value in measured_with(made.facts, threads).items()}
    annotations = metadata["annotations"] | {"strop.dev/engine-digest": file_digest(made.entry)} | measured
    marked = {**document, "metadata": {**metadata, "annotations": annotations}}
    text = HEAD.format(note="\n# ".join(notes), uri=uri) + yaml.dump(marked, Dumper=_Dumper, sort_keys=False)
    (context.folder / FILE).write_text(text)
    facts: dict[str, JsonValue] = {"storageUri": uri, "notes": [f"`{FILE}` serves {uri}."]}
    return Artifact(ArtifactKind.BUNDLE, context.folder, (FILE,), facts)


def inference_service(request: RunRequest, target: Target, uri: str) -> dict[str, Any]:
    """The manifest of one target."""
    model = {
        "modelFormat": {"name": "triton", "version": "2"},
        "protocolVersion": "v2",
        "storageUri": uri,
        **_arguments(target),
        **_resources(request, target),
    }
    return {
        "apiVersion": "serving.kserve.io/v1beta1",
        "kind": "InferenceService",
        "metadata": {
            "name": service_name(request.name),
            "annotations": {
                "strop.dev/resource": f"{request.namespace}/{request.name}",
                "strop.dev/run": request.run_id,
            },
        },
        "spec": {"predictor": {"minReplicas": 1, **_nodes(target), "model": model}},
    }


def service_name(name: str) -> str:
    """A resource's name as KServe takes it: lower-case letters, digits and dashes, a letter first, at most 53."""
    safe = re.sub(r"[^a-z0-9-]", "-", name)
    return (safe if safe[0].isalpha() else f"m-{safe}")[:NAME_LIMIT].rstrip("-")


def _arguments(target: Target) -> dict[str, Any]:
    """What the server must be started with; KServe adds it to its runtime's own arguments."""
    return {"args": [VERSION_COMPATIBLE]} if loads_any_later({}, target) else {}


def _resources(request: RunRequest, target: Target) -> dict[str, Any]:
    """What the engine was measured with: the target's threads or the worker's limits, and the accelerator."""
    worker = request.spec.worker.resources.limits
    threads = str(target.cpu.threads) if target.cpu and target.cpu.threads else worker.cpu
    named = {"cpu": threads, "memory": worker.memory}
    amounts = {name: str(amount) for name, amount in named.items() if amount is not None}
    if target.accelerator:
        amounts[target.accelerator.resource] = str(target.accelerator.count)
    return {"resources": {"requests": amounts, "limits": dict(amounts)}} if amounts else {}


def _nodes(target: Target) -> dict[str, Any]:
    labels: dict[str, str] = {"kubernetes.io/arch": target.cpu.arch} if target.cpu else {}
    if target.accelerator and target.accelerator.product:
        labels["nvidia.com/gpu.product"] = target.accelerator.product
    return {**({"nodeSelector": labels} if labels else {}), **_preferred(target)}


def _preferred(target: Target) -> dict[str, Any]:
    """Nodes labelled with the instruction set, as for the worker: no requirement, few clusters label their nodes."""
    label = NODE_FEATURES.get(target.cpu.isa or "") if target.cpu else None
    if label is None:
        return {}
    preference = {"matchExpressions": [{"key": label, "operator": "In", "values": ["true"]}]}
    terms = [{"weight": 100, "preference": preference}]
    return {"affinity": {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": terms}}}
