"""What a target asks of the builder, the same for both libraries; nothing here needs either."""

from collections.abc import Mapping
from dataclasses import dataclass

from strop_api.base import quantity
from strop_api.model import ModelSource
from strop_api.support import RTX_CAPABILITIES
from strop_api.targets import HardwareCompatibility, Runtime, Target, TensorRTOptions, TensorRTRTXOptions
from strop_job.errors import InvalidInput, Unsupported

Shape = tuple[int, ...]
DYNAMIC = -1


@dataclass(frozen=True)
class BuildOptions:
    """Both libraries' options; each has some that stay at their defaults."""

    workspace_bytes: int | None = None
    """Most device memory of a layer's scratch; None: all of the device."""
    sparse_weights: bool = False
    version_compatible: bool = False
    hardware: HardwareCompatibility = HardwareCompatibility.NONE
    refittable: bool = False
    stripped: bool = False
    timing_cache: bool = False
    optimization_level: int | None = None
    """None: the library's own."""
    tf32: bool = True
    capabilities: tuple[str, ...] = ()
    """TensorRT-RTX: built ahead of time for these; none: for the device that is here."""


def options_of(target: Target) -> BuildOptions:
    """The target's options, defaults where it has none."""
    if target.runtime is Runtime.TENSORRT_RTX:
        rtx = target.tensorrt_rtx or TensorRTRTXOptions()
        return BuildOptions(
            workspace_bytes=_bytes(rtx.workspace),
            sparse_weights=rtx.sparse_weights,
            capabilities=tuple(rtx.compute_capabilities),
        )
    asked = target.tensorrt or TensorRTOptions()
    return BuildOptions(
        workspace_bytes=_bytes(asked.workspace),
        sparse_weights=asked.sparse_weights,
        version_compatible=asked.version_compatible,
        hardware=asked.hardware_compatibility,
        refittable=asked.refittable,
        stripped=asked.stripped,
        timing_cache=asked.timing_cache,
        optimization_level=asked.optimization_level,
        tf32=asked.tf32,
    )


def field_of(target: Target, name: str = "") -> str:
    """Where an option of the target stands in the spec."""
    options = "tensorRTRTX" if target.runtime is Runtime.TENSORRT_RTX else "tensorRT"
    return f"spec.targets[{target.name}]" + (f".{options}.{name}" if name else "")


def check_capabilities(target: Target) -> None:
    """Raises Unsupported for a generation of devices that TensorRT-RTX does not build for."""
    asked = options_of(target).capabilities
    unknown = [capability for capability in asked if capability not in RTX_CAPABILITIES]
    if unknown:
        raise Unsupported(
            f"TensorRT-RTX does not build for compute capability {', '.join(unknown)}",
            field=field_of(target, "computeCapabilities"),
            mend=f"it builds for {', '.join(RTX_CAPABILITIES)}; for others use TensorRT",
        )


def _bytes(text: str | None) -> int | None:
    return None if text is None else int(quantity(text))


@dataclass(frozen=True)
class Range:
    """The shapes of one input that a profile serves."""

    min: Shape
    opt: Shape
    max: Shape

    def holds(self, shape: Shape) -> bool:
        """Whether a shape lies in it, ends included."""
        return len(shape) == len(self.min) and all(
            low <= size <= high for low, size, high in zip(self.min, shape, self.max, strict=True)
        )


Profile = Mapping[str, Range]
"""Ranges by the name of the input."""


def profiles_of(model: ModelSource, *, pinned: bool) -> tuple[Profile, ...]:
    """The whole range of `spec.model.dimensions`; with `pinned` a second profile that knows the optimum alone.

    Without a dynamic dimension there is one profile, in which min, opt and max are the same.
    """
    sizes = {dimension.name: dimension for dimension in model.dimensions}

    def shape(tensor_shape: list[int | str], which: str) -> Shape:
        return tuple(size if isinstance(size, int) else getattr(sizes[size], which) for size in tensor_shape)

    whole = {
        tensor.name: Range(*(shape(list(tensor.shape), which) for which in ("min", "opt", "max")))
        for tensor in model.inputs
    }
    optimum = {name: Range(span.opt, span.opt, span.opt) for name, span in whole.items()}
    return (whole, optimum) if pinned and optimum != whole else (whole,)


def dimension_names(model: ModelSource) -> dict[str, tuple[str, ...]]:
    """What each dimension of an input is called; empty where its size is fixed."""
    return {t.name: tuple(size if isinstance(size, str) else "" for size in t.shape) for t in model.inputs}


def check_inputs(inputs: Mapping[str, Shape], profile: Profile) -> None:
    """Raises InvalidInput when the graph's inputs (-1 where dynamic) cannot serve the spec's ranges."""
    for name, shape in inputs.items():
        if name not in profile:
            raise InvalidInput(
                f"the graph has an input {name} {list(shape)} that the spec does not name",
                field="spec.model.inputs",
                mend=f"add {name}, with its shape",
            )
        span = profile[name]
        if len(span.min) != len(shape):
            raise InvalidInput(
                f"the graph's input {name} has {len(shape)} dimensions, the spec gives it {len(span.min)}",
                field="spec.model.inputs",
                mend="write as many as the graph has",
            )
        for at, size in enumerate(shape):
            if size != DYNAMIC and not span.min[at] == span.max[at] == size:
                raise InvalidInput(
                    f"dimension {at} of the graph's input {name} is fixed at {size}, the spec asks for "
                    f"{span.min[at]} to {span.max[at]}",
                    field="spec.model.dimensions",
                    mend="export the model with a dynamic dimension there, or fix it in the spec",
                )
