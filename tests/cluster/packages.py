"""What the operating system's package manager brings: containerd and its tools, a registry, a browser, Prometheus."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .shell import ClusterError, run, say

REQUIRED = (
    "containerd",
    "runc",
    "containernetworking-plugins",
    "iptables",
    "iproute2",
    "openssl",
    "buildah",
    "debootstrap",
    "debian-archive-keyring",
    "docker-registry",
    "ca-certificates",
)
OPTIONAL = ("prometheus", "chromium")
_POLICY = Path("/usr/sbin/policy-rc.d")


def install(extras: list[str]) -> None:
    """Install what is missing; services are not started. Raises ClusterError without root or apt."""
    if not shutil.which("apt-get"):
        raise ClusterError(f"packages come from apt, which this machine lacks; the cluster needs {', '.join(REQUIRED)}")
    have = run("dpkg-query", "-Wf", "${Package} ${Status}\n", check=False)
    missing = [name for name in [*REQUIRED, *extras] if f"{name} install ok installed\n" not in have]
    if not missing:
        return
    if os.geteuid():
        raise ClusterError(f"packages are missing, and only root may install them: {' '.join(missing)}")
    say("apt-get install " + " ".join(missing))
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    with _no_services():
        run("apt-get", "-q", "update", env=quiet)
        run("apt-get", "-qy", "install", "--no-install-recommends", *missing, env=quiet)


@contextmanager
def _no_services() -> Iterator[None]:
    """A package that carries a service starts it at once, unless the machine's policy forbids it."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()


def mirror() -> tuple[str, str]:
    """The address and the release that this machine's own apt takes its packages from."""
    release = _codename()
    targets = run("apt-get", "indextargets", "--format", "$(SITE) $(RELEASE) $(COMPONENT)", "Identifier: Packages")
    for line in targets.splitlines():
        site, suite, component = line.split()
        if (suite, component) == (release, "main"):
            return site, release
    raise ClusterError(f"apt has no source for {release}/main, so there is nothing to make a base image from")


def _codename() -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.split("=", 1)[1].strip('"') for line in lines if line.startswith("VERSION_CODENAME="))
