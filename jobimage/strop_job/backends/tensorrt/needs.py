"""What a plan needs to be loaded: told when it is built, checked before it is loaded. Pure: needs neither library."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import JsonValue

from strop_api.targets import HardwareCompatibility
from strop_job.backends.tensorrt.options import BuildOptions
from strop_job.stages import Facts

AMPERE = (8, 0)


@dataclass(frozen=True)
class Device:
    """A GPU as the CUDA runtime sees it."""

    name: str
    capability: str
    """Compute capability, such as `8.9`."""


def release(version: str) -> str:
    """`11.4.0.106` as `11.4.0`: plans do not cross releases, builds of one release do."""
    return ".".join(version.split(".")[:3])


def needs(label: str, version: str, options: BuildOptions, device: Device | None) -> dict[str, JsonValue]:
    """Facts: `loadsIn` (which version, in words), `versionCompatible`, `hardware`, `runsOn`, `computeCapabilities`."""
    capabilities = list(options.capabilities) or ([device.capability] if device else [])
    return {
        "loadsIn": loads_in(label, version, options.version_compatible),
        "versionCompatible": options.version_compatible,
        "hardware": options.hardware.value,
        "runsOn": runs_on(options.hardware, capabilities, device),
        "computeCapabilities": list[JsonValue](capabilities),
        "builtOn": device.name if device and not options.capabilities else None,
    }


def loads_in(label: str, version: str, version_compatible: bool) -> str:
    """Which versions of the library load a plan (NVIDIA's page "Engine Compatibility" of both libraries)."""
    if not version_compatible:
        return f"{label} {release(version)} alone"
    major = version.split(".")[0]
    return (
        f"{label} {release(version)} and later of release {major}; the loader must allow the code that lies in the "
        "plan (engine_host_code_allowed)"
    )


def runs_on(level: HardwareCompatibility, capabilities: list[str], device: Device | None) -> str:
    """Which devices take a plan."""
    listed = ", ".join(capabilities) or "unknown"
    if level is HardwareCompatibility.AMPERE_PLUS:
        return "devices of compute capability 8.0 and above"
    if level is HardwareCompatibility.SAME_COMPUTE_CAPABILITY or device is None:
        return f"devices of compute capability {listed}"
    return f"{device.name} (compute capability {listed})"


def obstacle(facts: Facts, name: str, label: str, version: str, device: Device) -> str:
    """Why a plan with these facts cannot run here; empty when nothing speaks against it.

    Without facts (a plan from elsewhere) nothing is known, and the library decides.
    """
    if not facts.get("runtime"):
        return ""
    return _other_runtime(facts, name, label) or _other_version(facts, label, version) or _other_device(facts, device)


def _other_runtime(facts: Facts, name: str, label: str) -> str:
    built_by = facts.get("runtime")
    return "" if built_by == name else f"the engine was built by {built_by}, and {label} loads only its own"


def _other_version(facts: Facts, label: str, version: str) -> str:
    built_by = str(facts.get("version", ""))
    if release(built_by) == release(version):
        return ""
    newer = _numbers(version) > _numbers(built_by) and _numbers(version)[:1] == _numbers(built_by)[:1]
    if facts.get("versionCompatible") and newer:
        return ""
    return f"the engine was built by {label} {built_by}, here is {label} {version}; it loads in {facts.get('loadsIn')}"


def _other_device(facts: Facts, device: Device) -> str:
    capabilities = facts.get("computeCapabilities")
    if not isinstance(capabilities, list) or not capabilities or device.capability in capabilities:
        return ""
    if facts.get("hardware") == HardwareCompatibility.AMPERE_PLUS.value and _numbers(device.capability) >= AMPERE:
        return ""
    listed = ", ".join(map(str, capabilities))
    return (
        f"the engine was built for compute capability {listed}, and this device ({device.name}) has {device.capability}"
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def rebuild(rtx: bool, options: BuildOptions, device: Device | None) -> dict[str, JsonValue]:
    """Whether the same build gives the same bytes, and why one may think so."""
    if rtx and options.capabilities:
        return {"deterministic": True, "note": "built ahead of time: no kernel is timed, and the bytes do not vary"}
    if rtx:
        return {"deterministic": None, "note": f"built for the device at hand ({_name(device)}); not compared"}
    return {
        "deterministic": False,
        "note": "kernels are chosen by timing them, so a rebuild may choose others; with the same timing cache on the "
        "same device and version it mostly chooses the same",
    }


def _name(device: Device | None) -> str:
    return device.name if device else "none is visible"


def names_of(facts: Mapping[str, JsonValue]) -> dict[str, tuple[str, ...]]:
    """What the dimensions of each input are called, for messages."""
    found = facts.get("dimensionNames")
    if not isinstance(found, dict):
        return {}
    return {name: tuple(map(str, names)) for name, names in found.items() if isinstance(names, list)}
