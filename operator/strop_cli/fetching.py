"""What a run has left in the store, brought to this machine: its report, its engine with every digest compared."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import TYPE_CHECKING

from pydantic import ValidationError

from strop_api.status import ArtifactRef, RunStatus
from strop_cli.door import Door, not_there, unreached
from strop_cli.errors import CliError, Missing, UnusableInput
from strop_cli.optimizations import Optimization
from strop_job.errors import StoreFailed
from strop_job.publish import (
    MANIFEST,
    MANIFEST_LIMIT_BYTES,
    Manifest,
    PublishedFile,
    Role,
)
from strop_job.store.objects import ObjectMissing, is_safe_name, join
from strop_job.trust.places import DiskPlace
from strop_job.trust.verification import Verification
from strop_job.trust.verify import verify

if TYPE_CHECKING:
    from strop_job.trust.signing import PublicKey


@dataclass(frozen=True)
class Published:
    """A published engine: the run's folder, and which of its files the status promises."""

    folder: str
    engine: str
    """Name of the engine in the folder."""
    artifact: ArtifactRef


def report_uri(found: Optimization, run: str | None = None) -> str:
    """Where a run's report lies: the present one's, or that of an earlier run. Raises Missing."""
    if run is None or (found.status.run is not None and found.status.run.id == run):
        if found.status.report:
            return found.status.report
        raise Missing(f"{found.name} has no report yet", mend=f"strop status {found.name} says how it stands")
    for past in found.status.runs:
        if past.id == run:
            if past.report:
                return past.report
            raise Missing(f"run {run} of {found.name} left no report")
    known = ", ".join(past.id for past in found.status.runs) or "none"
    raise Missing(f"{found.name} remembers no run {run}", mend=f"earlier runs: {known}")


def published(found: Optimization, target: str | None) -> Published:
    """What a target has published. Raises Missing."""
    targets = [t for t in found.status.targets if target is None or t.name == target]
    ref = next((t.artifact for t in targets if t.artifact is not None), None)
    if ref is None:
        ready = found.ready
        why = f"{ready.reason}: {ready.message}" if ready is not None else "the operator has not seen it yet"
        which = f"target {target} of {found.name}" if target else found.name
        raise Missing(f"{which} has published nothing ({why})", mend="only what passed every gate is published")
    folder, engine = _parts(ref, found.status.run)
    return Published(folder, engine, ref)


def _parts(ref: ArtifactRef, run: RunStatus | None) -> tuple[str, str]:
    """`<output>/<run id>` and the name below it."""
    before, separator, name = ref.uri.partition(f"/{run.id}/") if run is not None else (ref.uri, "", "")
    if not separator or not is_safe_name(name):
        raise UnusableInput(f"{ref.uri} does not lie in a run's folder")
    return before + separator.rstrip("/"), name


def save_report(door: Door, uri: str, path: Path) -> None:
    """Download the page. Raises CliError."""
    with _store_errors(door, uri):
        door.store.download(uri, path)


def fetch(
    door: Door, wanted: Published, folder: Path, told: Callable[[PublishedFile], None], key: "PublicKey | None" = None
) -> Verification:
    """Download the published folder; compare every digest with the manifest, the engine's with the status too; verify
    what it says of itself, with a key its signature too. The folder appears only when all of that is in order. Raises
    CliError."""
    _check_free(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    part = Path(mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    try:
        with _store_errors(door, wanted.folder):
            manifest = _manifest(door, wanted, part)
            for file in manifest.files:
                told(file)
                _fetch_file(door, wanted.folder, file, part)
        found = verify(DiskPlace(part), key)
        if not found.passed:
            words = "; ".join(f"{fault.problem}: {fault.message}" for fault in found.faults)
            raise UnusableInput(
                f"what is published at {wanted.folder} is not in order: {words}", mend="nothing was kept"
            )
        if folder.exists():
            folder.rmdir()
        part.chmod(0o755)
        part.rename(folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return found


def _check_free(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UnusableInput(f"{folder} is there and not empty", mend="give another folder with -o")


def _manifest(door: Door, wanted: Published, part: Path) -> Manifest:
    """The folder's manifest, on disk too. Raises UnusableInput unless it is that of the engine in the status."""
    data = door.store.read(join(wanted.folder, MANIFEST), MANIFEST_LIMIT_BYTES)
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError:
        raise UnusableInput(f"{wanted.folder}/{MANIFEST} is not a manifest of Strop") from None
    for file in manifest.files:
        if not is_safe_name(file.name):
            raise UnusableInput(f"{MANIFEST} lists {file.name!r}, which is not a plain relative path")
    engine = next((file for file in manifest.files if file.name == wanted.engine), None)
    if engine is None or engine.role is not Role.MEASURED or engine.digest != wanted.artifact.digest:
        said = engine.digest if engine is not None else "nothing"
        words = f"the status promises {wanted.engine} with {wanted.artifact.digest}, {MANIFEST} says {said}"
        raise UnusableInput(words, mend="nothing was kept: whoever may write to the store has changed it")
    (part / MANIFEST).write_bytes(data)
    return manifest


def _fetch_file(door: Door, folder: str, file: PublishedFile, part: Path) -> None:
    digest = door.store.download(join(folder, file.name), part / file.name)
    if digest != file.digest:
        words = f"{file.name} has the digest {digest}, {MANIFEST} says {file.digest}"
        raise UnusableInput(words, mend="nothing was kept: it was changed or damaged in the store")


@contextmanager
def _store_errors(door: Door, uri: str) -> Iterator[None]:
    """What the store raises becomes words for somebody outside of the cluster."""
    try:
        yield
    except ObjectMissing:
        raise not_there(uri, door) from None
    except StoreFailed as failed:
        raise unreached(failed, door, uri) from None
    except OSError as error:
        raise CliError(f"{error.filename}: {error.strerror}", mend="check the folder given by -o") from None
