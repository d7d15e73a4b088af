"""What `output.formats` asks for beside the engine: bundles for servers, registries and devices.

Each is a stage of its own, made before the judgement, published only after it, and a companion of the engine: files
with the engine's very bytes are as measured as the engine, nothing else here is.
"""

from collections.abc import Callable
from dataclasses import dataclass

from strop_api.checks.spec import FORMAT_IS_NOT_THE_ENGINE, FORMAT_SKIPPED
from strop_api.findings import Finding
from strop_api.model import ModelFormat
from strop_api.result import RunRequest
from strop_api.targets import OutputFormat, Target
from strop_job.backends import TRAITS
from strop_job.errors import Unsupported
from strop_job.handoff.device import CONVERTERS, DeviceEnvironment, device_stage, find_environment, missing
from strop_job.handoff.folders import BUNDLE_STAGES, CORE_ML, FOLDERS, KSERVE, LITERT, OCI, TRITON, folder_of
from strop_job.handoff.kserve import kserve_stage
from strop_job.handoff.oci import oci_stage
from strop_job.handoff.triton import triton_stage
from strop_job.stages import ArtifactKind, Stage

__all__ = ["BUNDLE_STAGES", "HandOff", "folder_of", "hand_off"]

FORMATS = "spec.output.formats"


@dataclass(frozen=True)
class HandOff:
    """What follows from `output.formats`."""

    stages: tuple[Stage, ...] = ()
    """To be walked after the engine is compiled."""
    companions: tuple[str, ...] = ()
    """Stages whose files are published beside the engine's."""
    findings: tuple[Finding, ...] = ()
    """What is left out, and what is not what its name may suggest."""


def hand_off(
    request: RunRequest,
    target: Target,
    *,
    engine: str,
    graph: str,
    export: str,
    model: str,
    code: str | None = None,
    environment: Callable[[], DeviceEnvironment] = find_environment,
) -> HandOff:
    """What the spec lists beside the engine. The names are those of stages: `graph` is what was compiled, `code` holds
    the architecture's source where it is not the image's.

    A device format whose converter is not here is left out with a finding. Raises Unsupported for a device format of
    an ONNX model, which no converter here reads.
    """
    asked = set(request.spec.output.formats)
    graphs, warned = _graph(asked, target, graph=graph, export=export)
    served = _served(request, target, asked, engine=engine, model=model)
    on_devices = HandOff()
    if asked & CONVERTERS.keys():
        on_devices = _devices(request, asked, environment(), model=model, code=code)
    stages = (*served, *on_devices.stages)
    return HandOff(stages, (*graphs, *(stage.name for stage in stages)), (*warned, *on_devices.findings))


def _graph(
    asked: set[OutputFormat], target: Target, *, graph: str, export: str
) -> tuple[tuple[str, ...], tuple[Finding, ...]]:
    """The stage with the ONNX graph, and what must be said of it."""
    if OutputFormat.ONNX not in asked:
        return (), ()
    if graph == export or TRAITS[target.runtime].quantizes_to is ArtifactKind.ONNX_GRAPH:
        return (graph,), ()
    said = f"{FORMATS}: Onnx is the graph before quantization, since {target.runtime} quantizes a form of its own"
    return (export,), (FORMAT_IS_NOT_THE_ENGINE.finding(said),)


def _served(
    request: RunRequest, target: Target, asked: set[OutputFormat], *, engine: str, model: str
) -> tuple[Stage, ...]:
    stages: list[Stage] = []
    if asked & {OutputFormat.TRITON, OutputFormat.KSERVE}:  # KServe serves the repository
        stages.append(triton_stage(TRITON, request, target, engine))
    if OutputFormat.KSERVE in asked:
        stages.append(kserve_stage(KSERVE, request, target, engine, FOLDERS[TRITON]))
    if OutputFormat.OCI in asked:
        stages.append(oci_stage(OCI, request, target, engine, model))
    return tuple(stages)


def _devices(
    request: RunRequest, asked: set[OutputFormat], found: DeviceEnvironment, *, model: str, code: str | None
) -> HandOff:
    stages: list[Stage] = []
    findings: list[Finding] = []
    for name, wanted in ((LITERT, OutputFormat.LITERT), (CORE_ML, OutputFormat.CORE_ML)):
        if wanted not in asked:
            continue
        if request.spec.model.format is ModelFormat.ONNX:
            message = f"{wanted} is converted from torch, and the model is an ONNX file"
            raise Unsupported(message, field=FORMATS, mend=f"give Safetensors or TorchExport, or leave {wanted} out")
        if reason := missing(found, wanted):
            findings.append(FORMAT_SKIPPED.finding(f"{FORMATS}: {wanted} is skipped: {reason}"))
            continue
        stages.append(device_stage(name, request.spec, wanted, found, model=model, code=code))
    return HandOff(tuple(stages), (), tuple(findings))
