"""Removal of what a deleted resource has published: its own runs' folders and its own pointer, and nothing else."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from pydantic import ValidationError

from strop_api.errands import ErrandKind, ErrandRequest, ErrandResult
from strop_job.errors import InvalidInput
from strop_job.publish import (
    MANIFEST,
    MANIFEST_LIMIT_BYTES,
    OUTPUT_FIELD,
    POINTER,
    Manifest,
    Owner,
    current,
)
from strop_job.store.objects import ObjectStore, is_safe_name, join
from strop_job.store.parallel import in_parallel


@dataclass(frozen=True)
class Run:
    """A folder that this owner's run has published, and what lies in it."""

    folder: str
    manifest: Manifest
    present: frozenset[str]
    """Names of the objects in it."""

    @property
    def published(self) -> list[str]:
        """Of these, the ones that the run published; the manifest comes last, as it is what makes the folder ours."""
        listed = [file.name for file in self.manifest.files if file.name != MANIFEST and is_safe_name(file.name)]
        return [name for name in listed if name in self.present]


def clean_up(request: ErrandRequest, store: ObjectStore) -> ErrandResult:
    """Remove the resource's runs and its pointer below `output_uri`; doing it again removes what was left.

    A run is the resource's when its manifest names the same namespace, name and UID: what a resource of the same name
    publishes later stays. What others have put into a folder stays too. Raises StoreFailed.
    """
    owner = Owner(namespace=request.namespace, name=request.name, uid=request.uid)
    runs = list(_runs(store, request.output_uri, owner))
    pointers = _remove_pointer(store, request.output_uri, owner)
    objects = sum(_remove(store, run) for run in runs)
    left = sum(len(run.present) - len(run.published) - 1 for run in runs)
    words = f"removed {objects + pointers} objects of {len(runs)} runs below {request.output_uri}"
    words += "; the pointer is gone" if pointers else "; the pointer was not this resource's"
    words += f"; {left} objects in these folders were not published by it and stay" if left else ""
    return ErrandResult(errand=ErrandKind.CLEAN_UP, done=True, message=words)


def _runs(store: ObjectStore, output_uri: str, owner: Owner) -> Iterator[Run]:
    """The owner's folders directly below the output; what lies deeper is another resource's output."""
    below: dict[str, set[str]] = {}
    start = len(output_uri.rstrip("/")) + 1
    for found in store.list(output_uri, field=OUTPUT_FIELD):
        folder, _, name = found.uri[start:].partition("/")
        if name:
            below.setdefault(folder, set()).add(name)
    for run_id, names in below.items():
        folder = join(output_uri, run_id)
        manifest = _manifest(store, folder) if MANIFEST in names else None
        if manifest is not None and (manifest.run_id, manifest.owner) == (run_id, owner):
            yield Run(folder, manifest, frozenset(names))


def _manifest(store: ObjectStore, folder: str) -> Manifest | None:
    """What the folder says it is; None where it is none of ours."""
    try:
        data = store.read(join(folder, MANIFEST), MANIFEST_LIMIT_BYTES, field=OUTPUT_FIELD)
        return Manifest.model_validate_json(data)
    except (InvalidInput, ValidationError):
        return None


def _remove_pointer(store: ObjectStore, output_uri: str, owner: Owner) -> int:
    """Before the folders, so that nobody is led to one that is half gone. 1 if it was there and this owner's.

    Looked at again right before it goes: a successor of the same name may publish at this very moment.
    """
    uri = join(output_uri, POINTER)
    seen = store.stat(uri, field=OUTPUT_FIELD)
    try:
        pointer = current(store, output_uri)
    except InvalidInput:
        return 0
    again = store.stat(uri, field=OUTPUT_FIELD)
    if pointer is None or pointer.owner != owner or not (seen and again and seen.etag == again.etag):
        return 0
    store.delete(uri, field=OUTPUT_FIELD)
    return 1


def _remove(store: ObjectStore, run: Run) -> int:
    gone: Sequence[None] = list(in_parallel(partial(_delete, store, run.folder), run.published))
    _delete(store, run.folder, MANIFEST)
    return len(gone) + 1


def _delete(store: ObjectStore, folder: str, name: str) -> None:
    store.delete(join(folder, name), field=OUTPUT_FIELD)
