"""Readers: what they yield, that they stream, and that every wrong file is named with its field."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from strop_job.data import check_disjoint
from strop_job.errors import InvalidInput, Unsupported

from .conftest import IDS, IMAGE, Open

NPZ = {"format": "Npz"}
PARQUET = {"format": "Parquet"}
RETRIEVAL = {"type": "Retrieval", "metric": "recall_at_1", "labels": "document"}


def rows(count: int) -> dict[str, np.ndarray]:
    """`count` samples with labels."""
    x = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    return {"x": x, "label": np.arange(count, dtype=np.int64) % 3}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_rows_come_in_order_with_their_labels_and_a_last_short_batch(
    tmp_path: Path, opened: Open, save: Any
) -> None:
    """Labels would belong to other samples, or the last ones would be dropped."""
    save(tmp_path / "d.npz", **rows(7))
    batches = list(opened(NPZ, [IMAGE]).batches(3))
    assert [len(b) for b in batches] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate([b.inputs["x"] for b in batches]), rows(7)["x"])
    np.testing.assert_array_equal(np.concatenate([b.labels for b in batches]), rows(7)["label"])


def test_only_the_first_samples_are_used_when_the_spec_says_so(tmp_path: Path, opened: Open) -> None:
    """A calibration of 2 would take as long as one of 7."""
    np.savez(tmp_path / "d.npz", **rows(7))
    samples = opened({**NPZ, "samples": 2}, [IMAGE])
    assert (len(samples), [len(b) for b in samples.batches(8)], len(list(samples.digests()))) == (2, [2], 2)


def nan_at(index: int) -> dict[str, np.ndarray]:
    """Samples of which one holds NaN."""
    data = rows(7)
    data["x"][index, 1] = np.nan
    return data


BAD_NPZ: dict[str, tuple[dict[str, Any], str]] = {
    "NaN": (nan_at(5), "'x' holds NaN or infinity in sample 5"),
    "type": (rows(3) | {"x": np.zeros((3, 2))}, "'x' is float64, the model's input is float32"),
    "shape": (rows(3) | {"x": np.zeros((3, 5), np.float32)}, r"has shape \[5\], the model's input is \[2\]"),
    "missing input": ({"label": np.zeros(3, np.int64)}, "has no array 'x'; it holds label"),
    "missing label": ({"x": np.zeros((3, 2), np.float32)}, "has no array 'label'; it holds x"),
    "unequal": (rows(3) | {"label": np.zeros(2, np.int64)}, "differ in their number of samples: x 3, label 2"),
    "empty": (rows(0), "holds no samples"),
    "objects": (rows(3) | {"label": np.array([None, 1, 2], object)}, "holds Python objects"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_a_bad_npz_is_named_with_its_field(tmp_path: Path, opened: Open, case: str) -> None:
    """It would be measured as if it were data, or end in a traceback."""
    arrays, message = BAD_NPZ[case]
    np.savez(tmp_path / "d.npz", **arrays)
    with pytest.raises(InvalidInput, match=rf"spec\.data\.evaluation\.uri: .*{message}"):
        list(opened(NPZ, [IMAGE]).batches(2))


@pytest.mark.parametrize("keep_bytes", [0, 40, 300, -30])
def test_a_truncated_npz_is_called_so(tmp_path: Path, opened: Open, keep_bytes: int) -> None:
    """Half an upload would pass for half the data."""
    np.savez(tmp_path / "d.npz", **rows(20))
    whole = (tmp_path / "d.npz").read_bytes()
    (tmp_path / "d.npz").write_bytes(whole[:keep_bytes])
    with pytest.raises(InvalidInput, match=r"spec\.data\.evaluation\.uri"):
        list(opened(NPZ, [IMAGE]).batches(2))


def test_calibration_needs_no_labels(tmp_path: Path, opened: Open) -> None:
    """Users would have to invent labels that nobody reads."""
    np.savez(tmp_path / "d.npz", x=rows(3)["x"])
    (batch,) = opened(NPZ, [IMAGE], role="calibration").batches(8)
    assert batch.labels is None


def texts(path: Path, count: int = 5) -> None:
    """Queries and documents, in row groups of two."""
    table = pa.table({"text": ["a cat sat", "the dog ran far on"] * count, "document": ["cat", "dog ran"] * count})
    pq.write_table(table, path, row_group_size=2)


def test_texts_are_padded_to_the_longest_of_their_batch(
    tmp_path: Path, opened: Open, tokenizer: dict[str, Any]
) -> None:
    """Every text would cost 128 tokens because the tokenizer's own file says so."""
    texts(tmp_path / "d.parquet")
    samples = opened({**PARQUET, "tokenizer": tokenizer}, IDS, task=RETRIEVAL)
    batches = list(samples.batches(4))
    assert [b.inputs["input_ids"].shape for b in batches] == [(4, 7), (4, 7), (2, 7)]
    np.testing.assert_array_equal(batches[0].inputs["input_ids"][0], [2, 4, 5, 7, 3, 0, 0])
    np.testing.assert_array_equal(batches[0].inputs["attention_mask"][0], [1, 1, 1, 1, 1, 0, 0])
    assert batches[0].documents is not None
    assert batches[0].documents["input_ids"].shape == (4, 4)
    np.testing.assert_array_equal(batches[0].documents["input_ids"][0], [2, 5, 3, 0])


def test_a_length_can_be_asked_for_within_the_dimension(
    tmp_path: Path, opened: Open, tokenizer: dict[str, Any]
) -> None:
    """Calibration histograms need one shape; an engine refuses more than its largest."""
    texts(tmp_path / "d.parquet")
    samples = opened({**PARQUET, "tokenizer": tokenizer}, IDS, task=RETRIEVAL)
    widths = [next(iter(samples.batches(2, length=n))).inputs["input_ids"].shape[1] for n in (1, 8, 99)]
    assert widths == [4, 8, 12]


def test_batches_run_across_row_groups_and_files(tmp_path: Path, opened: Open, tokenizer: dict[str, Any]) -> None:
    """Sharded data would be read in crumbs, or only its first file."""
    texts(tmp_path / "a.parquet", 3)
    texts(tmp_path / "b.parquet", 2)
    samples = opened({**PARQUET, "tokenizer": tokenizer, "samples": 9}, IDS, task=RETRIEVAL)
    assert (len(samples), [len(b) for b in samples.batches(4)]) == (9, [4, 4, 1])


def test_parquet_columns_of_numbers_are_tensors(tmp_path: Path, opened: Open) -> None:
    """Tabular models could only be fed by npz."""
    column = pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32()))
    pq.write_table(pa.table({"x": column, "label": [0, 1]}), tmp_path / "d.parquet")
    (batch,) = opened(PARQUET, [IMAGE]).batches(8)
    np.testing.assert_array_equal(batch.inputs["x"], np.array([[1, 2], [3, 4]], np.float32))


BAD_PARQUET: dict[str, tuple[dict[str, Any], str]] = {
    "no text": ({"body": ["a"], "document": ["b"]}, "has no column 'text'; it holds body, document"),
    "no documents": ({"text": ["a"]}, "has no column 'document'"),
    "null": ({"text": ["a", None], "document": ["b", "c"]}, "'text' holds NoneType in sample 1, not text"),
    "empty": ({"text": pa.array([], pa.string()), "document": pa.array([], pa.string())}, "holds no samples"),
}


@pytest.mark.parametrize("case", BAD_PARQUET)
def test_a_bad_parquet_is_named_with_its_field(
    tmp_path: Path, opened: Open, tokenizer: dict[str, Any], case: str
) -> None:
    """It would end as an Arrow error."""
    columns, message = BAD_PARQUET[case]
    pq.write_table(pa.table(columns), tmp_path / "d.parquet")
    with pytest.raises(InvalidInput, match=rf"spec\.data\.evaluation\.uri: .*{message}"):
        list(opened({**PARQUET, "tokenizer": tokenizer}, IDS, task=RETRIEVAL).batches(2))


def test_a_truncated_parquet_is_called_so(tmp_path: Path, opened: Open, tokenizer: dict[str, Any]) -> None:
    """Half an upload would end as an Arrow error."""
    texts(tmp_path / "d.parquet")
    (tmp_path / "d.parquet").write_bytes((tmp_path / "d.parquet").read_bytes()[:-20])
    with pytest.raises(InvalidInput, match="cannot be read as Parquet"):
        opened({**PARQUET, "tokenizer": tokenizer}, IDS, task=RETRIEVAL)


def test_what_is_no_tokenizer_is_named(tmp_path: Path, opened: Open, tokenizer: dict[str, Any]) -> None:
    """Users would look for the fault in their data."""
    texts(tmp_path / "d.parquet")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InvalidInput, match=r"spec\.data\.evaluation\.tokenizer\.uri: is not a tokenizer\.json"):
        opened({**PARQUET, "tokenizer": tokenizer}, IDS, task=RETRIEVAL)


def test_inputs_no_tokenizer_makes_are_refused(tmp_path: Path, opened: Open, tokenizer: dict[str, Any]) -> None:
    """The model would be fed zeros."""
    texts(tmp_path / "d.parquet")
    inputs = [*IDS, {"name": "pixels", "dtype": "int64", "shape": ["batch"]}]
    with pytest.raises(Unsupported, match="the model also takes pixels"):
        opened({**PARQUET, "tokenizer": tokenizer}, inputs, task=RETRIEVAL)


def test_lines_of_text_calibrate_but_do_not_evaluate(tmp_path: Path, opened: Open, tokenizer: dict[str, Any]) -> None:
    """Text without labels would be measured as something."""
    (tmp_path / "d.txt").write_text("a cat sat\n\nthe dog\n")
    source = {"format": "Text", "tokenizer": tokenizer}
    (batch,) = opened(source, IDS, role="calibration").batches(8)
    assert batch.inputs["input_ids"].shape == (2, 5)
    with pytest.raises(InvalidInput, match=r"spec\.data\.evaluation\.format: text files have no labels"):
        opened(source, IDS)


PIXELS = {"name": "image", "dtype": "float32", "shape": ["batch", 3, 4, 4]}
FOLDER = {"format": "ImageFolder", "image": {"resize": 4, "crop": 4, "mean": ["0.5"], "std": ["0.5"]}}


def images(folder: Path) -> None:
    """Two red cats, one green dog, of different sizes."""
    for name, size, color in (
        ("cat/1.png", (8, 6), "red"),
        ("cat/2.png", (6, 8), "red"),
        ("dog/1.png", (4, 4), "lime"),
    ):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", size, color).save(folder / name)


def test_images_are_resized_cropped_normalized_and_labelled_by_folder(tmp_path: Path, opened: Open) -> None:
    """The model would see other pixels than in training, and classes in another order."""
    images(tmp_path)
    (batch,) = opened(FOLDER, [PIXELS]).batches(8)
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 1, 0]
    np.testing.assert_allclose(batch.inputs["image"][0, :, 0, 0], [1, -1, -1])
    np.testing.assert_allclose(batch.inputs["image"][1, :, 3, 3], [-1, 1, -1])


def test_bgr_and_nhwc_are_honoured(tmp_path: Path, opened: Open) -> None:
    """Red would be blue."""
    images(tmp_path)
    preprocessing = {**FOLDER["image"], "channels": "BGR", "layout": "NHWC"}  # type: ignore[dict-item]
    tensor = {**PIXELS, "shape": ["batch", 4, 4, 3]}
    batch = next(iter(opened({**FOLDER, "image": preprocessing}, [tensor]).batches(1)))
    np.testing.assert_allclose(batch.inputs["image"][0, 0, 0], [-1, -1, 1])


def test_a_broken_image_is_named(tmp_path: Path, opened: Open) -> None:
    """One bad file of a million would be searched for by hand."""
    images(tmp_path)
    (tmp_path / "dog/2.png").write_bytes(b"\x89PNG broken")
    with pytest.raises(InvalidInput, match=r"spec\.data\.evaluation\.uri: dog/2\.png is not a readable image"):
        list(opened(FOLDER, [PIXELS]).batches(8))


def test_a_sample_in_two_sets_is_found_whatever_the_format(
    tmp_path: Path, opened: Open, tokenizer: dict[str, Any]
) -> None:
    """Ranges chosen on the evaluation data would flatter the result."""
    texts(tmp_path / "d.parquet")
    evaluation = opened({**PARQUET, "tokenizer": tokenizer}, IDS, task=RETRIEVAL)
    (tmp_path / "d.txt").write_text("the dog ran far on\na cat\n")
    (tmp_path / "d.parquet").rename(tmp_path / "d.parquet.away")
    (tmp_path / "d.txt").rename(tmp_path / "c.txt")
    (tmp_path / "d.parquet.away").rename(tmp_path / "d.parquet")
    calibration = opened({"format": "Text", "tokenizer": tokenizer}, IDS, role="calibration")
    with pytest.raises(
        InvalidInput, match=r"spec\.data\.evaluation\.uri: 5 of its samples also occur in spec\.data\.cal"
    ):
        check_disjoint({"calibration": calibration, "evaluation": evaluation})
    (tmp_path / "c.txt").write_text("a dog\na cat\n")
    calibration = opened({"format": "Text", "tokenizer": tokenizer}, IDS, role="calibration")
    check_disjoint({"calibration": calibration, "evaluation": evaluation})
