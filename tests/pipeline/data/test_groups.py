"""The group of each sample is read as it is written, and no group serves two purposes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from strop_job.data import Samples, check_disjoint
from strop_job.errors import InvalidInput

X = {"name": "x", "dtype": "float32", "shape": ["batch", 2]}


def save(folder: Path, name: str, groups, samples: int = 6) -> None:
    """An .npz whose inputs are all different."""
    x = np.random.default_rng(list(name.encode())).normal(size=(samples, 2)).astype(np.float32)
    np.savez(folder / name, x=x, label=np.zeros(samples, np.int64), speaker=groups)


def npz(opened, source: dict | None = None, role: str = "evaluation") -> Samples:
    return opened({"format": "Npz", "groups": "speaker", **(source or {})}, [X], role=role)


@pytest.mark.parametrize("groups", [np.array(["7", "7", "9", "9", "9", "1"]), np.array([7, 7, 9, 9, 9, 1])])
def test_names_and_numbers_are_the_same_groups(opened, tmp_path, groups) -> None:
    """A speaker written as a number here and as text there would count as two."""
    save(tmp_path, "eval.npz", groups)
    assert npz(opened).groups().tolist() == ["7", "7", "9", "9", "9", "1"]


def test_groups_end_where_the_samples_end(opened, tmp_path) -> None:
    """`samples: 4` would be judged with six groups for four figures."""
    save(tmp_path, "eval.npz", np.arange(6))
    assert npz(opened, {"samples": 4}).groups().tolist() == ["0", "1", "2", "3"]


def test_a_parquet_column_gives_the_groups_across_files(opened, tmp_path) -> None:
    """The groups of the second file would be lost, or stand at the wrong samples."""
    for at in range(2):
        columns = {"x": [[0.0, 1.0]] * 3, "label": [0] * 3, "doc": [f"d{at}", f"d{at}", "shared"]}
        schema = pa.schema([("x", pa.list_(pa.float32())), ("label", pa.int64()), ("doc", pa.string())])
        pq.write_table(pa.table(columns, schema=schema), tmp_path / f"{at}.parquet")
    found = opened({"format": "Parquet", "groups": "doc"}, [X]).groups()
    assert found.tolist() == ["d0", "d0", "shared", "d1", "d1", "shared"]


def test_without_groups_samples_stand_alone(opened, tmp_path) -> None:
    """Every run would be judged by groups that nobody named."""
    save(tmp_path, "eval.npz", np.arange(6))
    assert npz(opened, {"groups": None}).groups() is None


@pytest.mark.parametrize(
    ("groups", "said"),
    [(np.arange(4), "shape \\[4\\] for 6 samples"), (np.arange(6.0), "float64"), (np.zeros((6, 2), int), "shape")],
)
def test_groups_that_are_no_groups_are_refused(opened, tmp_path, groups, said) -> None:
    """The run would end in a traceback after it was trained."""
    save(tmp_path, "eval.npz", groups)
    with pytest.raises(InvalidInput, match=rf"spec\.data\.evaluation\.groups: .*{said}"):
        npz(opened).groups()


def test_a_missing_array_is_named_with_those_that_are_there(opened, tmp_path) -> None:
    """A slip of the pen would be searched for in the wrong place."""
    save(tmp_path, "eval.npz", np.arange(6))
    with pytest.raises(InvalidInput, match="no array 'doc'; it holds label, speaker, x"):
        npz(opened, {"groups": "doc"}).groups()


def test_a_group_in_two_sets_is_refused(opened, tmp_path) -> None:
    """More sentences of a document that the model was calibrated on would count as held out."""
    save(tmp_path, "calibration.npz", np.array([1, 1, 2, 2, 3, 3]))
    calibration = npz(opened, role="calibration")
    (tmp_path / "calibration.npz").rename(tmp_path / "kept.bin")
    save(tmp_path, "evaluation.npz", np.array([3, 4, 4, 5, 5, 6]))
    (tmp_path / "kept.bin").rename(tmp_path.parent / "calibration.npz")
    calibration.path = tmp_path.parent / "calibration.npz"
    evaluation = npz(opened)
    with pytest.raises(InvalidInput, match=r"spec\.data\.evaluation\.groups: 1 of its groups .*calibration: '3'"):
        check_disjoint({"calibration": calibration, "evaluation": evaluation})
    apart = replace(evaluation.reading, source=evaluation.reading.source.model_copy(update={"groups": None}))
    evaluation.reading = apart
    check_disjoint({"calibration": calibration, "evaluation": evaluation})
