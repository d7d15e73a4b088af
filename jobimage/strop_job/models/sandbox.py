"""Locks this process in before it runs code that came with a model: no other file, no network, no new process.

Landlock (https://docs.kernel.org/userspace-api/landlock.html) bounds the files, a seccomp filter the system calls
(https://man7.org/linux/man-pages/man2/seccomp.2.html). Both work without privileges and in a container with the default
profile; where the kernel lacks one, the code is refused rather than run half locked in. What is not bounded here is
memory and time: the pod's limits and the caller's deadline do that.
"""

import ctypes
import os
import platform
import signal
import struct
import sys
import sysconfig
from collections.abc import Iterable
from pathlib import Path

from strop_job.errors import Unsupported

PR_SET_NO_NEW_PRIVS, PR_SET_SECCOMP, SECCOMP_MODE_FILTER, PR_SET_DUMPABLE = 38, 22, 2, 4
PR_SET_PDEATHSIG = 1
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
"""Landlock's system calls: the same numbers on every architecture."""
RULE_PATH_BENEATH = 1
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
FILE_RIGHTS = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE
RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 5: (1 << 16) - 1}
SCOPES = 0b11
"""From ABI 6 on: no abstract sockets and no signals out of the domain."""

SYSTEM = ("/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/etc/ld.so.conf", "/sys/devices/system", "/proc/cpuinfo",
          "/proc/meminfo", "/proc/self", "/dev/urandom", "/dev/zero")  # fmt: skip
"""What Python and torch read beside their own files. No /etc, no /run, no /var, no home."""

ALLOW, DENY, ABSENT = 0x7FFF0000, 0x00050001, 0x00050026
"""SECCOMP_RET_ALLOW; SECCOMP_RET_ERRNO with EPERM; with ENOSYS, for which the C library has another way."""
CLONE_THREAD = 0x00010000
CALLS: dict[str, tuple[int, dict[str, int]]] = {
    "x86_64": (0xC000003E, {
        "socket": 41, "connect": 42, "ptrace": 101, "fork": 57, "vfork": 58, "execve": 59, "execveat": 322,
        "clone3": 435, "clone": 56, "io_uring_setup": 425, "process_vm_readv": 310, "process_vm_writev": 311,
        "unshare": 272, "setns": 308, "mount": 165, "bpf": 321, "perf_event_open": 298, "userfaultfd": 323,
        "keyctl": 250, "add_key": 248, "request_key": 249, "pidfd_getfd": 438, "kill": 62, "tkill": 200,
        "tgkill": 234, "rt_sigqueueinfo": 129, "rt_tgsigqueueinfo": 297, "pidfd_open": 434, "pidfd_send_signal": 424,
        "prlimit64": 302,
    }),
    "aarch64": (0xC00000B7, {
        "socket": 198, "connect": 203, "ptrace": 117, "execve": 221, "execveat": 281, "clone3": 435, "clone": 220,
        "io_uring_setup": 425, "process_vm_readv": 270, "process_vm_writev": 271, "unshare": 97, "setns": 268,
        "mount": 40, "bpf": 280, "perf_event_open": 241, "userfaultfd": 282, "keyctl": 219, "add_key": 217,
        "request_key": 218, "pidfd_getfd": 438, "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138,
        "rt_tgsigqueueinfo": 240, "pidfd_open": 434, "pidfd_send_signal": 424, "prlimit64": 261,
    }),
}  # fmt: skip
"""AUDIT_ARCH and the numbers of the system calls that are refused (`clone` only without CLONE_THREAD)."""

libc = ctypes.CDLL(None, use_errno=True)


def lock_in(writable: Path, readable: Iterable[Path]) -> None:
    """From here on this process reads Python, its libraries and `readable`, writes `writable`, and nothing else.

    It opens no socket and starts no process. It cannot be undone. Raises Unsupported when the kernel cannot do it.
    """
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs")
    libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    _bound_files(writable, [*map(Path, SYSTEM), *python_paths(), *readable])
    _bound_calls()


def die_with_parent() -> None:
    """This process is killed when the one that started it is: nobody would wait for its result."""
    parent = os.getppid()
    libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def python_paths() -> list[Path]:
    """Where the interpreter and its packages lie."""
    paths = {*sysconfig.get_paths().values(), sys.prefix, sys.base_prefix, *filter(os.path.isdir, sys.path)}
    return sorted(Path(p).resolve() for p in paths if p)


def _bound_files(writable: Path, readable: Iterable[Path]) -> None:
    abi = libc.syscall(CREATE_RULESET, None, 0, 1)
    if abi < 1:
        raise _lacking("Landlock")
    rights = RIGHTS_BY_ABI[max(a for a in RIGHTS_BY_ABI if a <= abi)]
    attributes = struct.pack("=QQQ", rights, 0b11 if abi >= 4 else 0, SCOPES if abi >= 6 else 0)
    size = 24 if abi >= 6 else 16 if abi >= 4 else 8
    ruleset = _checked(libc.syscall(CREATE_RULESET, attributes, size, 0), "Landlock")
    for path in readable:
        _allow(ruleset, path, (READ_FILE | READ_DIR | EXECUTE) & rights)
    _allow(ruleset, writable, rights & ~EXECUTE)
    _checked(libc.syscall(RESTRICT_SELF, ruleset, 0), "Landlock")
    os.close(ruleset)


def _allow(ruleset: int, path: Path, rights: int) -> None:
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        given = rights if path.is_dir() else rights & FILE_RIGHTS
        rule = struct.pack("=Qi", given, descriptor)
        _checked(libc.syscall(ADD_RULE, ruleset, RULE_PATH_BENEATH, rule, 0), f"Landlock for {path}")
    finally:
        os.close(descriptor)


def _bound_calls() -> None:
    machine = platform.machine()
    if machine not in CALLS:
        raise _lacking(f"a list of system calls for {machine}")
    program = seccomp_program(*CALLS[machine], x32=machine == "x86_64")
    buffer = ctypes.create_string_buffer(program)
    header = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    _checked(libc.prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, header, 0, 0), "seccomp")


LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
"""BPF: load a word of seccomp_data, jump on its value, return."""
NUMBER, ARCHITECTURE, FIRST_ARGUMENT = 0, 4, 16


def seccomp_program(architecture: int, calls: dict[str, int], *, x32: bool) -> bytes:
    """A classic BPF program: a foreign architecture and the listed calls get EPERM, clone3 ENOSYS, all else passes."""
    program = [_bpf(LOAD, ARCHITECTURE), _bpf(EQUAL, architecture, 1, 0), _bpf(RETURN, DENY), _bpf(LOAD, NUMBER)]
    if x32:
        program += [_bpf(AT_LEAST, 0x40000000, 0, 1), _bpf(RETURN, DENY)]
    for name, number in calls.items():
        if name != "clone":
            program += [_bpf(EQUAL, number, 0, 1), _bpf(RETURN, ABSENT if name == "clone3" else DENY)]
    program += [_bpf(EQUAL, calls["clone"], 0, 3), _bpf(LOAD, FIRST_ARGUMENT)]
    program += [_bpf(ANY_BIT, CLONE_THREAD, 1, 0), _bpf(RETURN, DENY), _bpf(RETURN, ALLOW)]
    return b"".join(program)


def _bpf(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise _lacking(f"{what} ({os.strerror(ctypes.get_errno())})")
    return result


def _lacking(what: str) -> Unsupported:
    return Unsupported(
        f"code that comes with a model cannot be locked in here: the kernel lacks {what}",
        field="spec.model.format",
        mend="use safetensors and a callable of the image, or a node with Landlock (Linux 5.13 or newer)",
    )
