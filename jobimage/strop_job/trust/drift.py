"""Whether what was published has been overtaken: by another model under the same address, or by another runtime."""

import tempfile
from collections.abc import Iterator, Mapping
from hashlib import sha256
from pathlib import Path

from pydantic import JsonValue

from strop_api.errands import Change, ErrandKind, ErrandRequest, ErrandResult
from strop_api.optimization import ModelOptimizationSpec
from strop_api.reasons import Reason
from strop_api.targets import Runtime
from strop_job.errors import InvalidInput
from strop_job.inputs import MODEL_LIMIT_BYTES
from strop_job.publish import PROVENANCE
from strop_job.sources import Reach, Source, look
from strop_job.store.digests import folder_digest
from strop_job.store.objects import ObjectMissing, ObjectStore, join
from strop_job.store.shared import StoredCache
from strop_job.trust.provenance import versions
from strop_job.trust.statement import PROVENANCE_LIMIT_BYTES, Provenance, StageOrigin, read

MODEL_FIELD = "spec.model.uri"
MODEL_STAGE = "resolve-model"
DISTRIBUTIONS: dict[Runtime, tuple[str, ...]] = {
    Runtime.ONNX_RUNTIME: ("onnxruntime", "onnxruntime-gpu"),
    Runtime.OPENVINO: ("openvino",),
    Runtime.TENSORRT: ("tensorrt",),
    Runtime.TENSORRT_RTX: ("tensorrt-rtx",),
    Runtime.INDUCTOR: ("torch",),
}
"""What a runtime is called among the versions; of several, an image holds one."""


def drift(request: ErrandRequest, store: ObjectStore, scratch: Path) -> ErrandResult:
    """What has moved on since the request's run published. The source is read only if its listing has changed.

    Raises InvalidInput when nothing is left to compare with, StoreFailed when the store fails.
    """
    if request.spec is None or request.run_id is None:
        raise InvalidInput("a drift check needs the spec and the run that published")
    published = _published(store, join(request.output_uri, request.run_id, PROVENANCE))
    before = published.stage(MODEL_STAGE)
    if before is None:
        raise InvalidInput(f"the provenance of run {request.run_id} does not say which model it is of")
    digest, moved = _source(request, before, store, scratch)
    changes = [*([moved] if moved else []), *_runtime(request.spec, published, versions())]
    words = "; ".join(change.message for change in changes) or "nothing has changed"
    return ErrandResult(errand=ErrandKind.DRIFT, done=True, message=words, changes=changes, model_digest=digest)


def _published(store: ObjectStore, uri: str) -> Provenance:
    try:
        return read(store.read(uri, PROVENANCE_LIMIT_BYTES))
    except ObjectMissing:
        raise InvalidInput(f"{uri} is gone: what was published was removed", mend="ask for a new run") from None


def _source(
    request: ErrandRequest, before: StageOrigin, store: ObjectStore, scratch: Path
) -> tuple[str | None, Change | None]:
    """The digest of the model as it is now, and how it has changed. None: there is none any more."""
    uri = request.spec.model.uri if request.spec else ""
    known = before.content or before.digest
    try:
        source = look(uri, Reach(store), field=MODEL_FIELD, limit_bytes=MODEL_LIMIT_BYTES)
    except ObjectMissing as gone:
        return None, _changed(gone.message)
    if source.version == before.parameters.get("version"):
        return known, None
    noted = StoredCache(store, join(request.store.records_uri, "caches"))
    name = f"sources/{sha256(f'{uri} {source.version}'.encode()).hexdigest()}.txt"
    kept = (noted.read(name) or b"").decode(errors="replace")
    content, files = kept.split() if len(kept.split()) == 2 else _digests(source, scratch)
    noted.update(name, lambda _: f"{content} {files}\n".encode())
    if known in (content, files):
        return known, None
    return content, _changed(f"{uri} was {known} and is {content}")


def _digests(source: Source, scratch: Path) -> tuple[str, str]:
    """Of the content as a spec pins it, and over names and digests as records and release 0.1 have it."""
    found: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for file in source.files:
            path = Path(folder) / "file"
            found[file.name] = source.take(file, path)
            path.unlink()
    whole = folder_digest(found)
    return (whole if source.is_folder else found[source.files[0].name]), whole


def _runtime(spec: ModelOptimizationSpec, published: Provenance, here: Mapping[str, JsonValue]) -> Iterator[Change]:
    """Another version of the target's runtime in this image than the one that was measured."""
    target = next((target for target in spec.targets if target.name == published.run.target), None)
    for name in DISTRIBUTIONS[target.runtime] if target else ():
        was, now = published.versions.get(name), here.get(name)
        if was is not None and was != now:
            words = f"{name} was {was} and is {now}" if now else f"{name} was {was}, and this worker image has none"
            yield Change(reason=Reason.RUNTIME_CHANGED, message=words[:256])


def _changed(words: str) -> Change:
    return Change(reason=Reason.SOURCE_CHANGED, message=words[:256])
