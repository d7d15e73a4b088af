"""Safetensors checkpoints: one file, or shards with an index. Reads headers without torch; never unpickles anything."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from strop_job.errors import InvalidInput
from strop_job.stages import Artifact

FIELD = "spec.model.uri"
SUFFIX = ".safetensors"
INDEX_SUFFIX = ".safetensors.index.json"
INDEX_LIMIT_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Checkpoint:
    """Weight files of one model and what they hold."""

    files: tuple[Path, ...]
    shapes: dict[str, tuple[int, ...]]
    """Shape of each tensor, by key."""


def open_checkpoint(source: Artifact) -> Checkpoint:
    """The artifact's weight files, their headers read and every tensor looked through for NaN and infinity.

    Raises InvalidInput for a truncated or missing file, a shard that leaves the folder, and for NaN or Inf weights.
    """
    files = _weight_files(source)
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        for key, shape in _headers(file).items():
            if key in shapes:
                raise InvalidInput(f"two shards hold the tensor {key!r}", field=FIELD)
            shapes[key] = shape
    return Checkpoint(files, shapes)


def _weight_files(source: Artifact) -> tuple[Path, ...]:
    return _shards(source.entry) if source.files[0].endswith(INDEX_SUFFIX) else (source.entry,)


def _shards(index: Path) -> tuple[Path, ...]:
    try:
        if index.stat().st_size > INDEX_LIMIT_BYTES:
            raise InvalidInput(f"{index.name} is larger than {INDEX_LIMIT_BYTES} bytes", field=FIELD)
        names = sorted({str(name) for name in json.loads(index.read_text())["weight_map"].values()})
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError, AttributeError) as error:
        raise InvalidInput(f"{index.name} is not an index of shards: {error!r}", field=FIELD) from error
    return tuple(_shard(index.parent, name) for name in names)


def _shard(folder: Path, name: str) -> Path:
    path = (folder / name).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise InvalidInput(f"the index names a shard outside the model's folder: {name!r}", field=FIELD)
    if not path.is_file():
        raise InvalidInput(f"the index names a shard that is not there: {name!r}", field=FIELD, mend="upload it")
    return path


def _headers(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(str(file), framework="numpy") as opened:
            return {key: tuple(opened.get_slice(key).get_shape()) for key in opened.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, UnicodeDecodeError) as error:
        raise InvalidInput(
            f"{file.name} cannot be read as safetensors: {error}; it may be truncated or of another format",
            field=FIELD,
            mend="upload the complete file, or set spec.model.format",
        ) from error


def refuse_bad_weights(key: str, values: np.ndarray) -> None:
    """Raise InvalidInput, naming the tensor, when it holds NaN or infinity."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int(values.size - np.isfinite(values).sum())
        raise InvalidInput(
            f"the weight {key!r} holds NaN or infinity in {bad} of {values.size} places",
            field=FIELD,
            mend="the training diverged or the file is damaged: take an earlier checkpoint",
        )


def compare_keys(expected: dict[str, tuple[int, ...]], found: dict[str, tuple[int, ...]]) -> None:
    """Raise InvalidInput that names missing, unexpected and wrongly shaped tensors."""
    wrong = [
        *(f"missing {key!r}" for key in sorted(expected.keys() - found.keys())),
        *(f"unexpected {key!r}" for key in sorted(found.keys() - expected.keys())),
        *(
            f"{key!r} has shape {list(found[key])}, the architecture's is {list(expected[key])}"
            for key in sorted(expected.keys() & found.keys())
            if expected[key] != found[key]
        ),
    ]
    if wrong:
        raise InvalidInput(
            "the weights do not fit the architecture: " + _few(wrong),
            field="spec.model.architecture",
            mend="name the callable and arguments the weights were trained with",
        )


def _few(words: Sequence[str], limit: int = 6) -> str:
    more = len(words) - limit
    return "; ".join(words[:limit]) + (f"; and {more} more" if more > 0 else "")
