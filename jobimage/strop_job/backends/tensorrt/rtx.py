"""What TensorRT-RTX alone has: generations of devices to build for, and a verdict on a plan before it is loaded."""

from collections.abc import Sequence
from typing import Any


def set_capabilities(trt: Any, config: Any, capabilities: Sequence[str]) -> None:
    """Builds for these compute capabilities, such as `8.9`; for none of them: the device that is here."""
    wanted = [generation(trt, capability) for capability in capabilities] or [trt.ComputeCapability.CURRENT]
    config.num_compute_capabilities = len(wanted)
    for at, one in enumerate(wanted):
        config.set_compute_capability(one, at)


def generation(trt: Any, capability: str) -> Any:
    """`8.9` as the library writes it, SM89."""
    return trt.ComputeCapability.__members__[f"SM{capability.replace('.', '')}"]


def verdict(trt: Any, runtime: Any, plan: bytes) -> str:
    """What the library finds wrong with a plan, from its header alone; empty when it finds nothing."""
    validity, diagnostics = runtime.get_engine_validity(plan)
    if validity == trt.EngineValidity.VALID:
        return ""
    found = [words for flag, words in DIAGNOSTICS.items() if _has(trt, diagnostics, flag)]
    return ", and ".join(found)


def _has(trt: Any, diagnostics: int, flag: str) -> bool:
    return bool(int(diagnostics) & int(trt.EngineInvalidityDiagnostics.__members__[flag].value))


DIAGNOSTICS = {
    "VERSION_MISMATCH": "it was built by another version",
    "UNSUPPORTED_CC": "it was not built for this device's compute capability",
    "OLD_CUDA_DRIVER": "the CUDA driver is too old",
    "OLD_CUDA_RUNTIME": "the CUDA runtime is too old",
    "INSUFFICIENT_GPU_MEMORY": "the device's memory does not suffice",
    "MALFORMED_ENGINE": "it is damaged",
    "CUDA_ERROR": "CUDA is not installed as it should be",
}
"""What its diagnostics mean."""
