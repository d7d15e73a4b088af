"""The project's own images and MinIO's, tagged by what goes into them: what has not changed is not built again."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from e2e.shell import ROOT, run


@dataclass(frozen=True)
class Image:
    """An image to build: its name, Dockerfile, build arguments and context."""

    name: str
    dockerfile: Path
    context: Path
    sources: tuple[str, ...]
    """Tracked paths that go into it, for the tag."""
    arguments: tuple[str, ...] = ()

    @property
    def tag(self) -> str:
        """Name and the digest of all that goes in."""
        digest = hashlib.sha256(repr(self.arguments).encode())
        for path in sorted(_files(self.context, self.sources)):
            digest.update(str(path.relative_to(self.context)).encode() + b"\0" + path.read_bytes())
        return f"{self.name}:{digest.hexdigest()[:12]}"


_SOURCES = ("pyproject.toml", "README.md", "LICENSE", "requirements", "crds/strop_api", "operator", "jobimage")
OPERATOR = Image("strop-operator", ROOT / "operator/Dockerfile", ROOT, _SOURCES)
WORKER = Image("strop-worker", ROOT / "jobimage/Dockerfile", ROOT, _SOURCES, ("RUNTIME=rtx",))


def minio(binary: Path) -> Image:
    """A MinIO server from a static binary."""
    context = ROOT / "build" / "minio"
    context.mkdir(parents=True, exist_ok=True)
    target = context / "minio"
    if not target.exists() or target.stat().st_size != binary.stat().st_size:
        target.write_bytes(binary.read_bytes())
        target.chmod(0o755)
    dockerfile = context / "Dockerfile"
    dockerfile.write_text('FROM scratch\nCOPY minio /minio\nUSER 65532:65532\nENTRYPOINT ["/minio"]\n')
    return Image("minio", dockerfile, context, ("minio", "Dockerfile"))


def _files(context: Path, sources: Iterable[str]) -> Iterable[Path]:
    if context == ROOT:
        listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", "--", *sources)
        return [path for line in listed.splitlines() if (path := ROOT / line).is_file()]
    return [context / source for source in sources]
