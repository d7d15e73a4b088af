"""The whole way from an ONNX graph to a plan on the disk, and what is known of it afterwards."""

import shutil
from dataclasses import dataclass

import onnx
from pydantic import JsonValue

from strop_job.backends.base import Compilation
from strop_job.backends.graphs import load
from strop_job.backends.tensorrt.build import Built, built, configured
from strop_job.backends.tensorrt.compute import node_compute
from strop_job.backends.tensorrt.library import Heard, Library
from strop_job.backends.tensorrt.needs import Device, needs, rebuild
from strop_job.backends.tensorrt.network import Parsed, input_facts, network_facts, output_facts, parse, refuse_newer
from strop_job.backends.tensorrt.options import (
    BuildOptions,
    Profile,
    check_inputs,
    dimension_names,
    options_of,
    profiles_of,
)
from strop_job.backends.tensorrt.progress import Watch
from strop_job.backends.tensorrt.timing import Origin, TimingCache
from strop_job.backends.tensorrt.weights import sparse_nodes
from strop_job.stages import Artifact, ArtifactKind, Facts, SharedCache

PLAN_FILE = "engine.plan"
PARSED, BUILT = 0.05, 0.97
"""Shares of the stage after parsing, and after building."""


@dataclass(frozen=True)
class Made:
    """A build with all that its facts are made from."""

    parsed: Parsed
    model: onnx.ModelProto
    options: BuildOptions
    profiles: tuple[Profile, ...]
    built: Built
    timing: TimingCache | None


def make(library: Library, work: Compilation, device: Device | None) -> Made:
    """Parses and builds. `device` is the GPU it is built on; None: ahead of time, for the target's capabilities."""
    options, model = options_of(work.target), load(work.graph)
    refuse_newer(model, library.label)
    work.report(0.0, "reading the graph")
    parsed = parse(library, work.graph.entry)
    profiles = profiles_of(work.model, pinned=library.rtx)
    check_inputs(parsed.inputs, profiles[0])
    config = configured(parsed, options, profiles)
    timing = _timing(parsed, options, device, work.cache)
    if timing is not None:
        timing.attach(config)
    plan = built(parsed, config, Watch(work.report, PARSED, BUILT), work.target)
    if timing is not None:
        timing.keep(config)
    return Made(parsed, model, options, profiles, plan, timing)


def _timing(parsed: Parsed, options: BuildOptions, device: Device | None, shared: SharedCache) -> TimingCache | None:
    """None where it is not wanted; TensorRT-RTX times nothing."""
    if not options.timing_cache or parsed.library.rtx or device is None:
        return None
    return TimingCache(parsed.library, parsed.heard, Origin(device.name, parsed.library.version), shared)


def write(work: Compilation, made: Made, device: Device | None) -> Artifact:
    """`engine.plan`; a plan without weights has the graph beside it, from which whoever loads it refits them."""
    (work.folder / PLAN_FILE).write_bytes(made.built.plan)
    files = [PLAN_FILE]
    if made.options.stripped:
        for name in work.graph.files:
            shutil.copyfile(work.graph.folder / name, work.folder / name)
            files.append(name)
    size = sum((work.folder / name).stat().st_size for name in files)
    return Artifact(ArtifactKind.ENGINE, work.folder, tuple(files), facts(work, made, device, size))


def facts(work: Compilation, made: Made, device: Device | None, size: int) -> Facts:
    """All that is known of an engine without loading it."""
    library, options = made.parsed.library, made.options
    optimum = {name: span.opt for name, span in made.profiles[0].items()}
    sparse = sparse_nodes(made.model) if options.sparse_weights else None
    names: dict[str, JsonValue] = {name: list(called) for name, called in dimension_names(work.model).items()}
    return {
        "runtime": library.name,
        "version": library.version,
        "sizeBytes": size,
        "planBytes": len(made.built.plan),
        "buildSeconds": round(made.built.seconds, 3),
        "inputs": input_facts(made.parsed),
        "outputs": output_facts(made.parsed),
        "profiles": [_profile(profile) for profile in made.profiles],
        "dimensionNames": names,
        **needs(library.label, library.version, options, device),
        "rebuild": rebuild(library.rtx, options, device),
        "network": network_facts(made.parsed),
        "compute": node_compute(work.graph, optimum).facts(optimum),
        "sparseWeights": sparsity(sparse, made.parsed.heard),
        "timingCache": _timing_facts(made.timing),
        "stripped": options.stripped,
        "refittable": options.refittable or options.stripped,
        "tf32": options.tf32,
        "warnings": list[JsonValue](warnings(made.parsed.heard, made.timing)),
    }


def _profile(profile: Profile) -> JsonValue:
    return {n: {"min": list(s.min), "opt": list(s.opt), "max": list(s.max)} for n, s in profile.items()}


def sparsity(found: tuple[int, int] | None, heard: Heard) -> JsonValue:
    """What is known of the flag `sparseWeights`; None when it is off. Only a measurement says that it helped."""
    if found is None:
        return None
    eligible, weighted = found
    said = [line.removeprefix("(Sparsity)").strip() for line in heard.notes]
    return {
        "eligibleNodes": eligible,
        "weightedNodes": weighted,
        "builder": said[0] if len(said) == 1 else "; ".join(said),
        "helped": "not measured" if eligible else "no: no weight is 2:4 sparse",
    }


def _timing_facts(timing: TimingCache | None) -> JsonValue:
    return None if timing is None else {"state": timing.state, "discarded": timing.discarded}


def warnings(heard: Heard, timing: TimingCache | None) -> list[str]:
    """What a reader of the report should know."""
    discarded = timing.discarded if timing is not None else ""
    own = [f"the shared timing cache was discarded and made anew: {discarded}"] if discarded else []
    return [*own, *heard.warned()]
