"""Container images: built by buildah, without Docker, and pushed to the registry on the loopback."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from . import packages, registry
from .settings import BIN, CACHE, STATE
from .shell import run, say, show, write

_BUILDAH = {"STORAGE_DRIVER": "overlay", "BUILDAH_ISOLATION": "chroot"}
_BASE_PACKAGES = "ca-certificates,python3,python3-pip,python3-venv"
_CERTIFICATES = "etc/ssl/certs/ca-certificates.crt"
_BASE_DOCKERFILE = f"""FROM scratch
ADD base.tar /
ENV PIP_CERT=/{_CERTIFICATES} SSL_CERT_FILE=/{_CERTIFICATES} \
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
CMD ["/bin/bash"]
"""


def build(tag: str, context: Path, options: Sequence[str] = ()) -> str:
    """Build localhost/TAG, push it, and return the reference for a pod; `options` are those of `buildah build`."""
    registry.start()
    layers = ("--layers", "--network", "host", "-t", f"localhost/{tag}")
    show("buildah", "bud", "-q", *layers, *options, context, env=_BUILDAH)
    compression = ("--compression-format", "zstd", "--compression-level", "1")
    target = f"docker://{registry.reference(tag)}"
    show("buildah", "push", "-q", "--tls-verify=false", *compression, f"localhost/{tag}", target, env=_BUILDAH)
    say(f"pushed {registry.reference(tag)}")
    return registry.reference(tag)


def build_static(tag: str, binary: str, options: str = "") -> None:
    """An image that holds one program of the cache, unless the registry has it already."""
    if registry.digest(tag):
        return
    context = STATE / "build" / binary
    write(context / "Dockerfile", f'FROM scratch\nCOPY {binary} /{binary}\n{options}ENTRYPOINT ["/{binary}"]\n')
    shutil.copy2(BIN / binary, context / binary)
    build(tag, context)
    shutil.rmtree(context)


def build_base() -> str:
    """base:1, a minimal system of the machine's own release with Python and pip, for `FROM localhost/base:1`."""
    tar, context = CACHE / "base.tar", STATE / "build" / "base"
    if not tar.exists():
        _bootstrap(tar)
    write(context / "Dockerfile", _BASE_DOCKERFILE)
    copy = context / "base.tar"
    copy.unlink(missing_ok=True)
    if tar.stat().st_dev == context.stat().st_dev:
        os.link(tar, copy)
    else:
        shutil.copy(tar, copy)
    reference = build("base:1", context)
    shutil.rmtree(context)
    return reference


def _bootstrap(tar: Path) -> None:
    """debootstrap into a tar, with the machine's certificates: behind an inspecting proxy, pip needs them."""
    site, release = packages.mirror()
    tree, part = STATE / "base", tar.with_suffix(".part")
    say(f"debootstrap {release} from {site}")
    run("debootstrap", "--variant=minbase", f"--include={_BASE_PACKAGES}", release, tree, site)
    archives = tree / "var/cache/apt/archives"
    shutil.rmtree(archives, ignore_errors=True)
    (archives / "partial").mkdir(parents=True)
    shutil.copy(f"/{_CERTIFICATES}", tree / _CERTIFICATES)
    run("tar", "-C", tree, "--exclude=./dev/*", "-cf", part, ".")
    part.rename(tar)
    shutil.rmtree(tree)
