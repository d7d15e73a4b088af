"""The first stages of a run: bring model and data in, whole, bounded and as pinned, and say what came."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import PurePosixPath

from pydantic import JsonValue

from strop_api.data import DataSource, Tokenizer
from strop_api.model import CodeSource, ModelFormat
from strop_api.optimization import ModelOptimizationSpec
from strop_job.errors import InvalidInput
from strop_job.sources import Reach, Source, SourceFile, look
from strop_job.stages import WHOLE_SECONDS, Artifact, ArtifactKind, Stage, StageContext
from strop_job.store.digests import folder_digest
from strop_job.store.parallel import in_parallel

MODEL_LIMIT_BYTES = 64 << 30
DATA_LIMIT_BYTES = 256 << 30
TOKENIZER_LIMIT_BYTES = 64 << 20
CODE_LIMIT_BYTES = 1 << 20
TOKENIZER = "tokenizer.json"

_ENTRIES: dict[ModelFormat, tuple[str, ...]] = {
    ModelFormat.ONNX: ("*.onnx",),
    ModelFormat.SAFETENSORS: ("*.safetensors.index.json", "*.safetensors"),
    ModelFormat.TORCH_EXPORT: ("*.pt2",),
}
"""What the entry file of a folder is called, by format; earlier patterns are preferred."""


def resolve_model_stage(spec: ModelOptimizationSpec, reach: Reach) -> Stage:
    """`resolve-model`: `spec.model.uri` as a SOURCE. Lists the source now, so that an unchanged one is not read again.

    Facts: `digest` (of the file, or over the folder's sorted names and digests), `uri`, `entry`, `sizeBytes`.
    """
    model = spec.model
    source = look(model.uri, reach, field="spec.model.uri", limit_bytes=MODEL_LIMIT_BYTES)
    entry = _model_entry(source, model.format)

    def run(context: StageContext) -> Artifact:
        digests = _taken(source, context)
        content = _content_digest(source, digests)
        _check_pin(content, model.digest, "spec.model.digest", source.uri)
        _check_unchanged(source, reach, MODEL_LIMIT_BYTES)
        files = (entry, *(f.name for f in source.files if f.name != entry))
        return Artifact(ArtifactKind.SOURCE, context.folder, files, _facts(source, content, entry))

    parameters = _parameters(source, model.digest) | {"entry": entry}
    return Stage("resolve-model", "resolve-model", 1, run, parameters, weight=2, silence_seconds=WHOLE_SECONDS)


def resolve_source_stage(source: CodeSource, reach: Reach) -> Stage:
    """`resolve-source`: the one Python file of `spec.model.architecture.source` as a SOURCE. It is read, never run.

    Whether code is allowed at all is for the plan to say, before anything is looked up. Facts as of the model.
    """
    field = "spec.model.architecture.source"
    found = look(source.uri, reach, field=f"{field}.uri", limit_bytes=CODE_LIMIT_BYTES)
    if found.is_folder or not found.files[0].name.endswith(".py"):
        raise InvalidInput(f"{source.uri} is not a .py file", field=found.field, mend="name the one file")

    def run(context: StageContext) -> Artifact:
        content = _content_digest(found, _taken(found, context))
        _check_pin(content, source.digest, f"{field}.digest", found.uri)
        _check_unchanged(found, reach, CODE_LIMIT_BYTES)
        entry = found.files[0].name
        return Artifact(ArtifactKind.SOURCE, context.folder, (entry,), _facts(found, content, entry))

    return Stage("resolve-source", "resolve-source", 1, run, _parameters(found, source.digest), weight=0.1)


def resolve_data_stage(role: str, source: DataSource, reach: Reach) -> Stage:
    """`resolve-<role>`: one of `spec.data` as DATA; its tokenizer, if any, lies beside it as `tokenizer.json`.

    Facts: `digest` (of the data alone), `uri`, `entry` (the file, or `.` for a folder), `sizeBytes`, `tokenizerDigest`.
    """
    field = f"spec.data.{role}"
    data = look(source.uri, reach, field=f"{field}.uri", limit_bytes=DATA_LIMIT_BYTES)
    tokenizer = _tokenizer(source.tokenizer, data, reach, field)

    def run(context: StageContext) -> Artifact:
        content = _content_digest(data, _taken(data, context))
        _check_pin(content, source.digest, f"{field}.digest", data.uri)
        _check_unchanged(data, reach, DATA_LIMIT_BYTES)
        facts = _facts(data, content, "." if data.is_folder else data.files[0].name)
        files = tuple(f.name for f in data.files)
        if tokenizer is None or source.tokenizer is None:
            return Artifact(ArtifactKind.DATA, context.folder, files, facts)
        digest = tokenizer.take(tokenizer.files[0], context.folder / TOKENIZER)
        _check_pin(digest, source.tokenizer.digest, f"{field}.tokenizer.digest", tokenizer.uri)
        return Artifact(ArtifactKind.DATA, context.folder, (*files, TOKENIZER), {**facts, "tokenizerDigest": digest})

    parameters = _parameters(data, source.digest)
    if tokenizer is not None and source.tokenizer is not None:
        parameters["tokenizer"] = _parameters(tokenizer, source.tokenizer.digest)
    return Stage(f"resolve-{role}", "resolve-data", 1, run, parameters, silence_seconds=WHOLE_SECONDS)


def _tokenizer(tokenizer: Tokenizer | None, data: Source, reach: Reach, field: str) -> Source | None:
    if tokenizer is None:
        return None
    found = look(tokenizer.uri, reach, field=f"{field}.tokenizer.uri", limit_bytes=TOKENIZER_LIMIT_BYTES)
    if found.is_folder:
        raise InvalidInput(
            f"{tokenizer.uri} is a folder",
            field=found.field,
            mend=f"name the file: {tokenizer.uri.rstrip('/')}/{TOKENIZER}",
        )
    if any(f.name == TOKENIZER for f in data.files):
        raise InvalidInput(f"{data.uri} holds a {TOKENIZER} of its own", field=data.field, mend="leave it out")
    return found


def _parameters(source: Source, pin: str | None) -> dict[str, JsonValue]:
    """What the record's key is made of: a source that did not change is not read again."""
    return {"uri": source.uri, "version": source.version, "sizeBytes": source.size_bytes, "pin": pin}


def _facts(source: Source, digest: str, entry: str) -> dict[str, JsonValue]:
    return {"digest": digest, "uri": source.uri, "entry": entry, "sizeBytes": source.size_bytes}


def _taken(source: Source, context: StageContext) -> dict[str, str]:
    """Copy every file into the stage's folder; digests by name."""

    def take(file: SourceFile) -> tuple[SourceFile, str]:
        return file, source.take(file, context.folder / file.name)

    digests, done = {}, 0
    with closing(in_parallel(take, source.files)) as taken:  # an eviction begins no further copy
        for file, digest in taken:
            digests[file.name], done = digest, done + file.size_bytes
            context.report(done / max(source.size_bytes, 1), f"{len(digests)} of {len(source.files)} files")
    return digests


def _content_digest(source: Source, digests: Mapping[str, str]) -> str:
    return folder_digest(digests) if source.is_folder else digests[source.files[0].name]


def _check_pin(found: str, wanted: str | None, field: str, uri: str) -> None:
    if wanted is not None and found != wanted:
        message = f"{uri} has the digest {found}, the spec wants {wanted}"
        raise InvalidInput(message, field=field, mend="correct the pin, or put back what was pinned")


def _check_unchanged(source: Source, reach: Reach, limit_bytes: int) -> None:
    """The record's key says what was listed, so that is what must have been read."""
    if look(source.uri, reach, field=source.field, limit_bytes=limit_bytes).version != source.version:
        raise InvalidInput(
            f"{source.uri} changed while it was read", field=source.field, mend="leave it alone in a run"
        )


def _model_entry(source: Source, format_: ModelFormat) -> str:
    if not source.is_folder:
        return source.files[0].name
    for pattern in _ENTRIES[format_]:
        found = [f.name for f in source.files if PurePosixPath(f.name).match(pattern) and "/" not in f.name]
        preferred = pattern.replace("*", "model")
        if preferred in found or len(found) == 1:
            return preferred if preferred in found else found[0]
        if found:
            message = f"{source.uri} holds several models: {', '.join(found[:5])}"
            raise InvalidInput(message, field=source.field, mend=f"name one of them {preferred}, or give its own uri")
    message = f"{source.uri} holds no {' or '.join(_ENTRIES[format_])}"
    raise InvalidInput(message, field=source.field, mend="check uri and spec.model.format")
