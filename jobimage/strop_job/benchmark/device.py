"""The GPU while it is measured, as `nvidia-smi` tells it: clock, temperature, what throttles it, memory by process.

Read by the parent between turns, never during one. Where there is no driver everything here is empty: nothing is
claimed of a device that was not asked.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pydantic import JsonValue

MEBIBYTE = 1 << 20
STATE_FIELDS = ("index", "clocks.sm", "clocks.max.sm", "temperature.gpu")
REASON_FIELDS = ("clocks_event_reasons.active", "clocks_throttle_reasons.active")
"""What the last field is called from driver 535 on, and before."""
REASONS = {
    0x1: "idle",
    0x2: "application clocks",
    0x4: "software power cap",
    0x8: "hardware slowdown",
    0x10: "sync boost",
    0x20: "software thermal slowdown",
    0x40: "hardware thermal slowdown",
    0x80: "hardware power brake",
    0x100: "display clocks",
}
"""Bits of NVML's `nvmlClocksEventReasons`."""
HARMLESS = 0x1
"""An idle device lowers its clock; that says nothing about the calls."""

Ask = Callable[[str], str]
"""Arguments of `nvidia-smi` to what it prints; empty when it cannot be asked."""


@dataclass(frozen=True)
class GpuState:
    """One device at one moment. What the driver does not tell is None."""

    index: int
    sm_megahertz: int | None
    most_sm_megahertz: int | None
    celsius: int | None
    throttled_by: tuple[str, ...] | None
    """Why the clock is below what it could be."""

    def facts(self) -> dict[str, JsonValue]:
        """As JSON."""
        return {
            "index": self.index,
            "smMegahertz": self.sm_megahertz,
            "mostSmMegahertz": self.most_sm_megahertz,
            "celsius": self.celsius,
            "throttledBy": None if self.throttled_by is None else list(self.throttled_by),
        }


def nvidia_smi(arguments: str) -> str:
    """What the tool prints for a query, as CSV without header and units; empty where it is not or does not answer."""
    if shutil.which("nvidia-smi") is None:
        return ""
    command = ["nvidia-smi", arguments, "--format=csv,noheader,nounits"]
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return ""


def gpu_states(ask: Ask = nvidia_smi) -> tuple[GpuState, ...]:
    """Every visible device now."""
    answers = (ask(f"--query-gpu={','.join((*STATE_FIELDS, reasons))}") for reasons in REASON_FIELDS)
    return parse_states(next((text for text in answers if text), ""))


def parse_states(text: str) -> tuple[GpuState, ...]:
    """Lines of the query of STATE_FIELDS and one of REASON_FIELDS; a line of another form is left out."""
    rows = ([word.strip() for word in line.split(",")] for line in text.splitlines())
    return tuple(
        GpuState(int(row[0]), _number(row[1]), _number(row[2]), _number(row[3]), _reasons(row[4]))
        for row in rows
        if len(row) == len(STATE_FIELDS) + 1 and row[0].isdigit()
    )


def device_bytes(pid: int, ask: Ask = nvidia_smi) -> int | None:
    """Device memory of a process on all devices; None where the driver does not list it, as inside many containers."""
    return parse_memory(ask("--query-compute-apps=pid,used_gpu_memory"), pid)


def parse_memory(text: str, pid: int) -> int | None:
    """Sum over the lines `pid, MiB` of one process; None when it has none, or one without a figure."""
    rows = ([word.strip() for word in line.split(",")] for line in text.splitlines())
    found = [_number(row[1]) for row in rows if len(row) == 2 and row[0] == str(pid)]
    if not found or None in found:
        return None
    return sum(size for size in found if size is not None) * MEBIBYTE


def throttling(states: Iterable[GpuState]) -> tuple[str, ...]:
    """Reasons, each once, for which a device was held back beside being idle."""
    harmless = {word for bit, word in REASONS.items() if bit & HARMLESS}
    return tuple(dict.fromkeys(w for s in states for w in s.throttled_by or () if w not in harmless))


def _number(word: str) -> int | None:
    return int(word) if word.isdigit() else None


def _reasons(word: str) -> tuple[str, ...] | None:
    """`0x0000000000000024` as words; None for `[N/A]`."""
    try:
        bits = int(word, 16)
    except ValueError:
        return None
    return tuple(name for bit, name in REASONS.items() if bits & bit)
