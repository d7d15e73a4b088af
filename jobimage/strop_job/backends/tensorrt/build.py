"""From a parsed network to a serialized plan: the builder's configuration, the build, and what its failure means."""

import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from strop_api.targets import HardwareCompatibility, Target
from strop_job.backends.tensorrt.library import Heard
from strop_job.backends.tensorrt.network import Parsed
from strop_job.backends.tensorrt.options import DYNAMIC, BuildOptions, Profile, field_of
from strop_job.backends.tensorrt.progress import Watch, monitor
from strop_job.backends.tensorrt.rtx import set_capabilities
from strop_job.errors import InvalidInput, OutOfMemory, StropError, Unsupported


@dataclass(frozen=True)
class Built:
    """A plan."""

    plan: bytes
    seconds: float
    """Of the build alone, without parsing."""


def configured(parsed: Parsed, options: BuildOptions, profiles: Sequence[Profile]) -> Any:
    """A builder configuration. Raises InvalidInput for a profile that the library refuses."""
    trt, config = parsed.library.trt, parsed.builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    if options.workspace_bytes is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace_bytes)
    if options.optimization_level is not None:
        config.builder_optimization_level = options.optimization_level
    for flag in _flags(trt, options):
        config.set_flag(flag)
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    config.hardware_compatibility_level = _levels(trt)[options.hardware]
    if parsed.library.rtx:
        set_capabilities(trt, config, options.capabilities)
    if DYNAMIC in (size for shape in parsed.inputs.values() for size in shape):
        for profile in profiles:
            _add_profile(parsed, config, profile)
    return config


def _flags(trt: Any, options: BuildOptions) -> list[Any]:
    """Flags to set. A plan without weights must at least be refittable with the same ones."""
    wanted = [
        (options.sparse_weights, trt.BuilderFlag.SPARSE_WEIGHTS),
        (options.version_compatible, trt.BuilderFlag.VERSION_COMPATIBLE),
        (options.refittable, trt.BuilderFlag.REFIT),
        (options.stripped, trt.BuilderFlag.STRIP_PLAN),
        (options.stripped and not options.refittable, trt.BuilderFlag.REFIT_IDENTICAL),
    ]
    return [flag for asked, flag in wanted if asked]


def _levels(trt: Any) -> dict[HardwareCompatibility, Any]:
    return {
        HardwareCompatibility.NONE: trt.HardwareCompatibilityLevel.NONE,
        HardwareCompatibility.AMPERE_PLUS: trt.HardwareCompatibilityLevel.AMPERE_PLUS,
        HardwareCompatibility.SAME_COMPUTE_CAPABILITY: trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY,
    }


def _add_profile(parsed: Parsed, config: Any, asked: Profile) -> None:
    profile = parsed.builder.create_optimization_profile()
    for name, shape in parsed.inputs.items():
        if DYNAMIC in shape:
            profile.set_shape(name, asked[name].min, asked[name].opt, asked[name].max)
    if config.add_optimization_profile(profile) < 0:  # it does not raise
        raise InvalidInput(
            f"{parsed.library.label} refuses the range of shapes: {parsed.heard.why('it does not say why')}",
            field="spec.model.dimensions",
            mend="min, opt and max must suit the graph",
        )


def built(parsed: Parsed, config: Any, watch: Watch, target: Target) -> Built:
    """Builds. Raises what `watch` was stopped by, or the builder's failure in words."""
    keeper = monitor(parsed.library.trt, watch)
    config.progress_monitor = keeper
    began = time.perf_counter()
    plan = parsed.builder.build_serialized_network(parsed.network, config)
    seconds = time.perf_counter() - began
    if watch.stopped is not None:
        raise watch.stopped
    if plan is None:
        raise failed(parsed.heard, parsed.library.label, target)
    return Built(bytes(plan), seconds)


Explain = Callable[[str, str, Target], StropError]


def _memory(why: str, label: str, target: Target) -> StropError:
    return OutOfMemory(
        f"the device's memory did not suffice while {label} built the engine: {why}",
        field=field_of(target, "workspace"),
        mend="set a smaller workspace, lower the max of spec.model.dimensions, or take a device with more memory",
    )


def _workspace(why: str, label: str, target: Target) -> StropError:
    return InvalidInput(
        f"{label} finds no kernel that makes do with this workspace: {why}",
        field=field_of(target, "workspace"),
        mend="give it more, or leave it out: then all of the device may be used",
    )


def _generation(why: str, label: str, target: Target) -> StropError:
    return Unsupported(
        f"{label} cannot build the graph for this generation of devices: {why}",
        field=field_of(target, "computeCapabilities") if "RTX" in label else field_of(target),
        mend="choose a newer compute capability, or another precision",
    )


def _otherwise(why: str, label: str, target: Target) -> StropError:
    return Unsupported(f"{label} could not build the engine: {why}", field=field_of(target))


FAILURES: tuple[tuple[re.Pattern[str], Explain], ...] = (
    (re.compile(r"out ?of ?memory|insufficient memory|could not be allocated|MemoryAllocation", re.I), _memory),
    (re.compile(r"workspace", re.I), _workspace),
    (re.compile(r"\bSM ?\d{2,3}\b|compute capability|not supported (on|for) .*(arch|device|GPU)", re.I), _generation),
    (re.compile(r""), _otherwise),
)
"""What a message of the builder means; the first that fits decides, the last always does."""


def failed(heard: Heard, label: str, target: Target) -> StropError:
    """Why there is no plan, from what the builder logged."""
    why = heard.why("the builder does not say why")
    said = "\n".join((*heard.errors, *(w for w in heard.warnings if "memory" in w.lower())))
    return next(explain for pattern, explain in FAILURES if pattern.search(said))(why, label, target)
