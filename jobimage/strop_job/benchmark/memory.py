"""Memory of this process as the kernel counts it: what it holds now, and the most it ever held.

The peak is the kernel's `VmHWM`. `getrusage`'s `ru_maxrss` is not used: it is carried over from the process that
started this one (fork and exec keep it), so a child of a large parent would report its parent's memory.
"""

from pathlib import Path

STATUS = Path("/proc/self/status")


def resident_bytes(status: Path = STATUS) -> int:
    """Resident now; 0 where the kernel does not tell."""
    return _field(status, "VmRSS:")


def peak_resident_bytes(status: Path = STATUS) -> int:
    """The most that was resident since the program started; 0 where the kernel does not tell."""
    return _field(status, "VmHWM:")


def _field(status: Path, name: str) -> int:
    """See proc_pid_status(5); the unit is always kB."""
    try:
        lines = status.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(name)), 0)
