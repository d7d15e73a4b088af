"""Safetensors from outside: shards, truncation, and no way out of the folder."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from strop_job.errors import InvalidInput
from strop_job.models.safetensors_files import open_checkpoint

from .conftest import source

A, B = {"a": np.ones((2, 3), np.float32)}, {"b": np.zeros(4, np.float32)}


def sharded(folder: Path, weight_map: dict[str, str]) -> Path:
    """Two shards and an index."""
    save_file(A, folder / "one.safetensors")
    save_file(B, folder / "two.safetensors")
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": weight_map}))
    return index


def test_shards_are_read_through_their_index(tmp_path: Path) -> None:
    """Larger models come in several files."""
    index = sharded(tmp_path, {"a": "one.safetensors", "b": "two.safetensors"})
    assert open_checkpoint(source(index)).shapes == {"a": (2, 3), "b": (4,)}


@pytest.mark.parametrize(
    ("shard", "message"), [("../x.safetensors", "outside the model's folder"), ("three.safetensors", "not there")]
)
def test_a_shard_outside_the_folder_or_missing_is_named(tmp_path: Path, shard: str, message: str) -> None:
    """An index could make the worker read any file it may open."""
    with pytest.raises(InvalidInput, match=message) as caught:
        open_checkpoint(source(sharded(tmp_path, {"a": shard})))
    assert caught.value.field == "spec.model.uri"


@pytest.mark.parametrize("size_bytes", [0, 4, 60, -1])
def test_a_truncated_file_names_the_field(tmp_path: Path, size_bytes: int) -> None:
    """Half an upload would end as a Rust error."""
    path = tmp_path / "model.safetensors"
    save_file(A, path)
    path.write_bytes(path.read_bytes()[:size_bytes])
    with pytest.raises(InvalidInput, match=r"spec\.model\.uri: model\.safetensors cannot be read as safetensors"):
        open_checkpoint(source(path))


def test_a_broken_index_is_no_traceback(tmp_path: Path) -> None:
    """A JSON error says nothing to a user."""
    index = tmp_path / "model.safetensors.index.json"
    index.write_text("[]")
    with pytest.raises(InvalidInput, match="is not an index of shards"):
        open_checkpoint(source(index))
