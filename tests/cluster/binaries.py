"""The programs that no package brings: found where they lie, or built from their Go modules into the cache."""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .settings import BIN, CACHE, ETCD_MINIMUM, HERE, KUBERNETES, MODULES, TOOLS
from .shell import ClusterError, run, say, show, write

KUBERNETES_COMMANDS = (
    "kube-apiserver",
    "kube-controller-manager",
    "kube-scheduler",
    "kube-proxy",
    "kubelet",
    "kubectl",
)
NODE_COMMANDS = (*KUBERNETES_COMMANDS, *MODULES)


def control_plane() -> dict[str, Path]:
    """etcd, API server and controller manager, each from the first source that has it, fit for each other."""
    found = {name: find(name) for name in ("etcd", "kube-apiserver", "kube-controller-manager")}
    server, manager = (
        _kubernetes_version(found["kube-apiserver"]),
        _kubernetes_version(found["kube-controller-manager"]),
    )
    if manager > server:
        raise ClusterError(
            f"kube-controller-manager {manager[0]}.{manager[1]} is newer than kube-apiserver {server[0]}.{server[1]}; "
            f"unset KUBEBUILDER_ASSETS, or put a matching kube-controller-manager into {found['kube-apiserver'].parent}"
        )
    return found


def find(name: str) -> Path:
    """KUBEBUILDER_ASSETS, the cache, setup-envtest, or a build: the first that has a program that will do."""
    for folder in _sources():
        if (folder / name).exists() and _will_do(folder / name):
            return folder / name
    build([name])
    return BIN / name


def require(names: tuple[str, ...]) -> None:
    """Raise ClusterError unless all of these are in the cache."""
    missing = [name for name in names if not (BIN / name).exists()]
    if missing:
        raise ClusterError(f"not installed: {', '.join(missing)}; run `python3 tests/cluster install`")


def build(names: list[str]) -> None:
    """Build into the cache what it lacks. Raises ClusterError without Go."""
    with _alone():
        missing = [name for name in names if not (BIN / name).exists()]
        if kubernetes := [name for name in missing if name in KUBERNETES_COMMANDS]:
            _build_kubernetes(kubernetes)
        for name in missing:
            if name in MODULES:
                _build_module(name, MODULES[name])
            elif name in TOOLS:
                say(f"go install {TOOLS[name]}")
                _go("install", TOOLS[name], cwd=Path("/"), GOBIN=str(BIN))


def _sources() -> Iterator[Path]:
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        yield Path(assets)
    yield BIN
    if shutil.which("setup-envtest"):
        yield Path(run("setup-envtest", "use", "-p", "path", check=False).strip() or "/nonexistent")


def _will_do(program: Path) -> bool:
    """An etcd before 3.5.13 lacks the progress requests that make the API server's watch cache consistent."""
    if program.name != "etcd":
        return True
    version = re.search(r"etcd Version: (\d+)\.(\d+)\.(\d+)", run(program, "--version", check=False))
    return version is not None and tuple(map(int, version.groups())) >= ETCD_MINIMUM


def _kubernetes_version(program: Path) -> tuple[int, int]:
    version = re.search(r"v(\d+)\.(\d+)", run(program, "--version"))
    if version is None:
        raise ClusterError(f"{program} does not tell its version")
    return int(version[1]), int(version[2])


@contextmanager
def _alone() -> Iterator[None]:
    """Two test runs that both find the cache empty build one after the other."""
    BIN.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _build_kubernetes(names: list[str]) -> None:
    """k8s.io/kubernetes as a dependency: its staging modules are v0.0.0 there, so each is replaced."""
    say(f"build Kubernetes {KUBERNETES}: {', '.join(names)}")
    source, version, head = CACHE / "src" / "k8s", "k8s.io/component-base/version", "module build\n\ngo 1.25.0\n"
    write(source / "go.mod", head)
    download = run(_go_command(), "mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}", cwd=source)
    staging = sorted(set(re.findall(r"(k8s\.io/\S+) => \./staging/", Path(json.loads(download)["GoMod"]).read_text())))
    replaced = "".join(f"\t{module} => {module} v0.{KUBERNETES[2:]}\n" for module in staging)
    write(source / "go.mod", f"{head}\nrequire k8s.io/kubernetes v{KUBERNETES}\n\nreplace (\n{replaced})\n")
    imports = "".join(f'\t_ "k8s.io/kubernetes/cmd/{name}"\n' for name in names)
    write(source / "tools.go", f"//go:build tools\n\npackage build\n\nimport (\n{imports})\n")
    run(_go_command(), "mod", "tidy", cwd=source)
    major, minor, _ = KUBERNETES.split(".")
    stamp = f"-X {version}.gitVersion=v{KUBERNETES} -X {version}.gitMajor={major} -X {version}.gitMinor={minor}"
    _go("build", "-o", f"{BIN}/", *(f"k8s.io/kubernetes/cmd/{name}" for name in names), cwd=source, stamp=stamp)


def _build_module(name: str, require: str) -> None:
    """conf/NAME.go, with the one module it imports."""
    say(f"build {name} {require}".rstrip())
    source = CACHE / "src" / name
    write(source / "main.go", (HERE / "conf" / f"{name}.go").read_text())
    write(source / "go.mod", "module build\n\ngo 1.25.0\n" + (f"\nrequire {require}\n" if require else ""))
    _go("build", "-mod=mod", "-o", str(BIN / name), ".", cwd=source)


def _go(verb: str, *words: str, cwd: Path, stamp: str = "", **environment: str) -> None:
    # Static, because pause and CoreDNS run in images that hold nothing else.
    env = {"CGO_ENABLED": "0", "GOFLAGS": "-buildvcs=false", **environment}
    show(_go_command(), verb, "-trimpath", "-ldflags", f"-s -w {stamp}", *words, cwd=cwd, env=env)


def _go_command() -> str:
    go = shutil.which("go") or shutil.which("go", path="/usr/local/go/bin")
    if go is None:
        raise ClusterError("building needs Go 1.25 or newer, and there is no `go` on PATH")
    return go
