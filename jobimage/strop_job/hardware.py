"""What this machine is: processor, instruction sets, quota, memory limit, GPUs. Read only; imports no runtime.

Cgroup limits are found both in version 2 (one hierarchy, `cpu.max`) and in version 1 (`cpu.cfs_quota_us`), and a limit
of any ancestor counts: the tightest one wins. See https://docs.kernel.org/admin-guide/cgroup-v2.html.
"""

import logging
import math
import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from pydantic import JsonValue

from strop_api.support import VNNI
from strop_api.targets import Target
from strop_job.errors import Unsupported

log = logging.getLogger(__name__)

ISA_FLAGS = frozenset(
    {
        "sse4_2", "avx", "avx2", "fma", "f16c", "avx_vnni", "avx512f", "avx512bw", "avx512vl", "avx512_vnni",
        "avx512_bf16", "avx512_fp16", "amx_tile", "amx_int8", "amx_bf16", "amx_fp16",
        "neon", "asimd", "asimddp", "i8mm", "bf16", "sve", "sve2", "fphp", "asimdhp",
    }
)  # fmt: skip
"""Flags of /proc/cpuinfo that decide which kernels a runtime picks."""
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
UNLIMITED_BYTES = 1 << 60
"""Version 1 writes a number near 2^63 for "no limit"."""


@dataclass(frozen=True)
class Gpu:
    """One device, as the driver names it."""

    name: str
    driver: str
    memory_mebibytes: int | None = None
    compute_capability: str | None = None
    slices: tuple[str, ...] = ()
    """Profiles of the MIG slices of it that are visible here, such as `1g.10gb`; none: the whole device."""

    def __str__(self) -> str:
        return " ".join((f"{self.name} {self.driver} {self.compute_capability or ''}".strip(), *self.slices))


@dataclass(frozen=True)
class Hardware:
    """The machine as this process may use it."""

    arch: str
    """`amd64` or `arm64`."""
    cpu_model: str
    isa: tuple[str, ...]
    """Instruction sets that matter, sorted."""
    cores: int
    """Processors this process may be scheduled on."""
    quota_cores: float | None
    """CPU time per second that the cgroup allows; None without a limit."""
    memory_limit_bytes: int | None
    """Limit of the cgroup; None without a limit."""
    gpus: tuple[Gpu, ...]
    kernel: str

    @property
    def threads(self) -> int:
        """Threads that can really run at once: the quota rounded down, at least 1, at most the cores."""
        quota = self.cores if self.quota_cores is None else math.floor(self.quota_cores)
        return max(1, min(self.cores, quota))

    def threads_for(self, target: Target) -> int:
        """Threads of one inference: what the target asks for, else what the quota allows."""
        asked = target.cpu.threads if target.cpu else None
        return asked or self.threads

    @property
    def has_vnni(self) -> bool:
        """Whether products of 8 bits are added up in 32 bits at once: without it INT8 weights keep to 7 bits."""
        return bool(VNNI & set(self.isa))

    def fingerprint(self, target: Target) -> dict[str, JsonValue]:
        """What joins the key of a record whose bytes or figures depend on the machine."""
        return {
            "arch": self.arch,
            "cpu": self.cpu_model,
            "isa": list(self.isa),
            "quotaCores": None if self.quota_cores is None else f"{self.quota_cores:g}",
            "cores": self.cores,
            "threads": self.threads_for(target),
            "gpus": [str(g) for g in self.gpus],
        }

    def document(self) -> dict[str, JsonValue]:
        """For provenance and reports."""
        return {**asdict(self), "isa": list(self.isa), "gpus": [asdict(g) for g in self.gpus], "threads": self.threads}


def require(target: Target, index: int, hardware: Hardware) -> None:
    """Raises Unsupported when this machine is not the one the target is for: measuring here would say nothing.

    A target without `accelerator` and `cpu` asks for nothing, nor for a device does one that is built ahead of time.
    A device of another product than the target names is told in the log: labels of nodes are free text.
    """
    where = f"spec.targets[{index}]"
    if target.cpu and target.cpu.arch != hardware.arch:
        raise Unsupported(
            f"the target is for {target.cpu.arch}, this machine is {hardware.arch}",
            field=f"{where}.cpu.arch",
            mend=f"run on a {target.cpu.arch} machine",
        )
    if target.cpu and target.cpu.isa and target.cpu.isa not in hardware.isa:
        raise Unsupported(
            f"this processor ({hardware.cpu_model}) has no {target.cpu.isa}",
            field=f"{where}.cpu.isa",
            mend="select nodes that have it with spec.worker.nodeSelector",
        )
    if target.accelerator and not hardware.gpus and not builds_ahead(target):
        raise Unsupported(
            "the target is for an accelerator and no NVIDIA driver is visible here",
            field=f"{where}.accelerator",
            mend="run where the device is, or drop `accelerator` to measure on the CPU",
        )
    if (other := other_product(target, hardware)) is not None:
        log.warning("%s.accelerator.product: %s", where, other)


def builds_ahead(target: Target) -> bool:
    """Whether the engine can be built where the device that it is for is not."""
    return target.tensorrt_rtx is not None and bool(target.tensorrt_rtx.compute_capabilities)


def why_unmeasured(target: Target, hardware: Hardware) -> str:
    """Why an engine that is built ahead cannot be measured here, in words; empty for one that is."""
    if target.tensorrt_rtx is None or not builds_ahead(target):
        return ""
    wanted = target.tensorrt_rtx.compute_capabilities
    devices = f"devices of compute capability {', '.join(wanted)}"
    if target.accelerator is None:
        return f"the engine is for {devices}, and the target asks for no accelerator to measure on"
    if not hardware.gpus:
        return f"the engine is for {devices}, and no NVIDIA driver is visible here"
    here = {gpu.compute_capability for gpu in hardware.gpus}
    if here & {None, *wanted}:
        return ""
    return f"the engine is for {devices}, and the device here has {', '.join(sorted(str(one) for one in here))}"


def other_product(target: Target, hardware: Hardware) -> str | None:
    """What is to be said when no device here is called as the target's node label; None when one is, or none is named.

    GPU feature discovery writes the driver's name with dashes, and what the node does with it behind: `-SHARED`,
    `-MIG-1g.10gb`. See https://github.com/NVIDIA/k8s-device-plugin, docs/gpu-feature-discovery.
    """
    named = target.accelerator.product if target.accelerator else None
    if named is None or not hardware.gpus:
        return None
    wanted, found = _words(named), [_words(gpu.name) for gpu in hardware.gpus]
    if any(wanted[: len(words)] == words for words in found if words):
        return None
    return f"the target is for {named}, and here is {', '.join(sorted({gpu.name for gpu in hardware.gpus}))}"


def _words(name: str) -> list[str]:
    """Of a product's name, in small letters, without the maker's."""
    return [word for word in re.split(r"[^0-9a-z]+", name.casefold()) if word not in ("", "nvidia")]


@cache
def this_machine() -> Hardware:
    """The machine this process runs on; read once."""
    model, flags = _cpuinfo(_text(Path("/proc/cpuinfo")))
    cgroups = tuple(cgroup_folders())
    quotas = [q for f in cgroups if (q := quota_cores(f)) is not None]
    limits = [m for f in cgroups if (m := memory_limit(f)) is not None]
    return Hardware(
        arch=ARCHITECTURES.get(platform.machine(), platform.machine()),
        cpu_model=model or platform.processor() or platform.machine(),
        isa=tuple(sorted(ISA_FLAGS & flags)),
        cores=len(os.sched_getaffinity(0)),
        quota_cores=min(quotas, default=None),
        memory_limit_bytes=min(limits, default=None),
        gpus=_gpus(),
        kernel=platform.release(),
    )


def quota_cores(folder: Path) -> float | None:
    """Cores that one cgroup folder allows, in either version; None when it says nothing."""
    words = _text(folder / "cpu.max").split()
    if len(words) == 2 and words[0] != "max":
        return int(words[0]) / int(words[1])
    quota, period = _text(folder / "cpu.cfs_quota_us").strip(), _text(folder / "cpu.cfs_period_us").strip()
    if quota and period and int(quota) > 0:
        return int(quota) / int(period)
    return None


def memory_limit(folder: Path) -> int | None:
    """Bytes that one cgroup folder allows, in either version; None when it says nothing."""
    for name in ("memory.max", "memory.limit_in_bytes"):
        text = _text(folder / name).strip()
        if text.isdigit() and int(text) < UNLIMITED_BYTES:
            return int(text)
    return None


def memory_kills() -> int | None:
    """Processes of this one's own cgroup that the kernel has killed for memory so far; None where it does not count."""
    for folder in cgroup_folders():
        for name in ("memory.events", "memory.oom_control"):
            for line in _text(folder / name).splitlines():
                word, _, count = line.partition(" ")
                if word == "oom_kill":
                    return int(count)
    return None


def cgroup_folders(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> Iterator[Path]:
    """This process's cgroups and their ancestors; inside a pod the mount's root is already the container's own."""
    for line in _text(membership).splitlines():
        _, controllers, path = line.split(":", 2)
        base = root / controllers if controllers else root
        folder = base / path.lstrip("/")
        while True:
            if folder.is_dir():
                yield folder
            if folder in (base, folder.parent):
                break
            folder = folder.parent


def _cpuinfo(text: str) -> tuple[str, frozenset[str]]:
    """Model name and flags of the first processor; ARM writes `Features` and has no model name."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip().lower(), value.strip())
    model = fields.get("model name") or fields.get("cpu part", "")
    return model, frozenset((fields.get("flags") or fields.get("features", "")).split())


def _gpus() -> tuple[Gpu, ...]:
    found = _nvidia_smi() if shutil.which("nvidia-smi") else ()
    return found or _proc_gpus()


def _nvidia_smi() -> tuple[Gpu, ...]:
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        lines = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return ()
    rows = [row for line in lines if len(row := [word.strip() for word in line.split(",")]) == 4]
    slices = mig_slices(_listed()) or ((),) * len(rows)
    return tuple(
        Gpu(r[0], r[1], int(r[2]) if r[2].isdigit() else None, r[3], own) for r, own in zip(rows, slices, strict=False)
    )


def _listed() -> str:
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def mig_slices(listed: str) -> tuple[tuple[str, ...], ...]:
    """Profiles of the slices of each device, from `nvidia-smi -L`: a line a GPU, and below it one a slice."""
    found: list[tuple[str, ...]] = []
    for line in listed.splitlines():
        kind, *words = line.split() or [""]
        if kind == "GPU":
            found.append(())
        elif kind == "MIG" and words and found:
            found[-1] += (words[0],)
    return tuple(found)


def _proc_gpus(root: Path = Path("/proc/driver/nvidia")) -> tuple[Gpu, ...]:
    """Without nvidia-smi: the driver's own files, which container toolkits mount."""
    words = _text(root / "version").split()
    driver = next((w for w in words if w[:1].isdigit() and "." in w), "unknown")
    return tuple(Gpu(_model(_text(f)), driver) for f in sorted(root.glob("gpus/*/information")))


def _model(information: str) -> str:
    lines = (line.partition(":") for line in information.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == "Model"), "unknown")


def _text(path: Path) -> str:
    """The file's text; empty when it cannot be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
