"""Formats for devices, LiteRT and Core ML: converted from the original torch model in an environment of its own.

The converters want an older torch than the worker has, so they live in another environment, made from
`requirements/device.lock`, whose interpreter STROP_DEVICE_PYTHON names. Nothing of them is measured: the file is
checked, and said to be checked, no more.
"""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import version
from types import MappingProxyType

from strop_api.model import ModelFormat
from strop_api.optimization import ModelOptimizationSpec
from strop_api.targets import OutputFormat
from strop_job.handoff.checked import CHECKED, checked_facts
from strop_job.handoff.files import listed
from strop_job.models.exporter import export_in_child, order_for
from strop_job.stages import WHOLE_SECONDS, Artifact, ArtifactKind, Stage, StageContext
from strop_job.steps.export import refuse_code

VARIABLE = "STROP_DEVICE_PYTHON"
"""Names the interpreter of the environment with the converters; by default the worker's own is asked."""
PROBE_SECONDS = 60.0
CONVERTERS: Mapping[OutputFormat, tuple[str, ...]] = MappingProxyType(
    {
        OutputFormat.LITERT: ("litert-torch", "ai-edge-litert"),
        OutputFormat.CORE_ML: ("coremltools",),
    }
)
"""Distributions that each format needs, beside torch."""
CHILD = "strop_job.handoff.device_child"
PROBE = """\
import importlib.metadata as m, json, sys
found = {}
for name in sys.argv[1:]:
    try: found[name] = m.version(name)
    except m.PackageNotFoundError: pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class DeviceEnvironment:
    """An interpreter and what is installed there."""

    python: str
    versions: Mapping[str, str] = field(default_factory=dict)
    """By distribution; what is not installed is left out."""
    problem: str = ""
    """Why it cannot be asked."""


def find_environment() -> DeviceEnvironment:
    """The environment that STROP_DEVICE_PYTHON names, or the worker's own. Never raises: what is wrong is told."""
    python = os.environ.get(VARIABLE) or sys.executable
    wanted = sorted({"strop", "torch", *(name for names in CONVERTERS.values() for name in names)})
    try:
        done = subprocess.run(
            [python, "-P", "-s", "-c", PROBE, *wanted],
            capture_output=True,
            text=True,
            timeout=PROBE_SECONDS,
            check=True,
            env={"PATH": os.environ.get("PATH", "")},
        )
        return DeviceEnvironment(python, json.loads(done.stdout))
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        return DeviceEnvironment(python, problem=f"{VARIABLE} names no usable Python ({type(error).__name__})")


def missing(environment: DeviceEnvironment, wanted: OutputFormat) -> str | None:
    """In words, what keeps a format from being made; None when nothing does."""
    if environment.problem:
        return environment.problem
    absent = [name for name in ("strop", "torch", *CONVERTERS[wanted]) if name not in environment.versions]
    if absent:
        return (
            f"this worker has no {' and no '.join(absent)}; set {VARIABLE} to the Python of an environment made from"
            " requirements/device.lock, or use a worker image that has one"
        )
    ours, theirs = version("strop"), environment.versions["strop"]
    return f"the environment of the converters has strop {theirs}, this worker {ours}" if ours != theirs else None


def device_stage(
    name: str,
    spec: ModelOptimizationSpec,
    wanted: OutputFormat,
    environment: DeviceEnvironment,
    *,
    model: str,
    code: str | None,
) -> Stage:
    """SOURCE to a file for a device. Facts: format, inputs, outputs, worstDifference (LiteRT), notes."""
    parameters = spec.model.model_dump(mode="json", by_alias=True, exclude={"uri", "digest"}, exclude_defaults=True)
    made_by = {name: environment.versions[name] for name in ("torch", *CONVERTERS[wanted])}
    return Stage(
        name=name,
        kind="Device",
        version=2,
        run=partial(run_device, wanted=wanted, environment=environment, model=model, code=code),
        parameters={"model": parameters, "seed": spec.seed, "format": wanted.value, "converter": dict(made_by)},
        needs=(model, code) if code else (model,),
        libraries=("strop",),
        weight=1.0,
        silence_seconds=WHOLE_SECONDS,
    )


def run_device(
    context: StageContext, wanted: OutputFormat, environment: DeviceEnvironment, model: str, code: str | None
) -> Artifact:
    """Converts and checks in a child of the other environment; code that came with the model runs locked in."""
    refuse_code(context.spec.model, allowed=context.request.allow_code)
    source, given = context.inputs[model], context.inputs[code] if code else None
    work = context.folder / "work"
    work.mkdir()
    order = order_for(context.spec.model, work, source, seed=context.spec.seed)
    order = replace(
        order,
        code=str(given.entry.resolve()) if given else None,
        isolated=given is not None or context.spec.model.format is ModelFormat.TORCH_EXPORT,
    )
    waiting = partial(context.report, 0.1, f"converting to {wanted}")
    export_in_child(order, waiting=waiting, command=(environment.python, "-P", "-s", "-m", CHILD, wanted.value))
    facts = {"format": wanted.value, **checked_facts(work / CHECKED, wanted, context.spec.model)}
    for made in (work / "out").iterdir():
        made.rename(context.folder / made.name)
    shutil.rmtree(work)
    return Artifact(ArtifactKind.BUNDLE, context.folder, listed(context.folder), facts)
