"""Tasks: figures checked by hand on outputs that are known."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from strop_api.model import TaskSpec
from strop_job.data import Samples
from strop_job.errors import InvalidInput, Unsupported
from strop_job.tasks import evaluate
from strop_job.tasks.metrics import retrieval_ranks

from .conftest import IDS, IMAGE, Open

Arrays = dict[str, np.ndarray]


def echo(inputs: Arrays) -> Arrays:
    """The input as scores of two classes."""
    return {"other": np.zeros(1), "y": inputs["x"]}


def task(kind: str, metric: str, **more: Any) -> TaskSpec:
    """A task judged by the output `y`."""
    return TaskSpec.model_validate({"type": kind, "metric": metric, "labels": "label", "output": "y", **more})


@pytest.fixture
def samples(tmp_path: Path, opened: Open) -> Samples:
    """Four samples whose larger column is 0, 1, 1, 0, labelled 0, 1, 0, 0."""
    x = np.array([[2, 1], [1, 3], [0, 1], [5, 0]], np.float32)
    np.savez(tmp_path / "d.npz", x=x, label=np.array([0, 1, 0, 0]))
    return opened({"format": "Npz"}, [IMAGE])


def test_accuracy_is_the_mean_of_its_figures(samples: Samples) -> None:
    """The interval would belong to another number than the one shown."""
    result = evaluate(task("Classification", "accuracy"), samples, echo, 3)
    assert result.per_sample is not None
    assert (result.figure, result.per_sample.tolist(), result.higher_is_better) == (0.75, [1, 1, 0, 1], True)


def test_f1_macro_keeps_what_it_is_recomputed_from(samples: Samples) -> None:
    """F1 is no mean: resampling figures would be wrong."""
    result = evaluate(task("Classification", "f1_macro"), samples, echo, 4)
    assert result.figure == pytest.approx((0.8 + 2 / 3) / 2)
    assert (result.per_sample, result.predictions is None) == (None, False)


def test_an_output_of_nan_is_never_right(samples: Samples) -> None:
    """`argmax` of NaN is 0: a model that overflows would score as well as one that always says 0."""
    result = evaluate(task("Classification", "accuracy"), samples, lambda i: {"y": i["x"] * np.nan}, 4)
    assert result.figure == 0


@pytest.mark.parametrize(("metric", "figure"), [("mse", 2.5), ("mae", 1.5)])
def test_regression_averages_over_outputs_then_samples(
    tmp_path: Path, opened: Open, metric: str, figure: float
) -> None:
    """Models with several outputs would be judged by the first."""
    x = np.array([[1, 2], [3, 4]], np.float32)
    np.savez(tmp_path / "d.npz", x=x, label=x + np.array([[1, 2]]))
    result = evaluate(task("Regression", metric), opened({"format": "Npz"}, [IMAGE]), echo, 8)
    assert (result.figure, result.higher_is_better) == (figure, False)


def test_ranks_count_ties_against_the_document() -> None:
    """A model that maps everything to one point would have perfect recall."""
    vectors = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
    assert retrieval_ranks(vectors, vectors).tolist() == [1, 1, 1]
    assert retrieval_ranks(vectors, vectors[::-1]).tolist() == [2, 1, 3]
    assert retrieval_ranks(np.ones((3, 2)), np.ones((3, 2))).tolist() == [3, 3, 3]
    assert retrieval_ranks(vectors * np.nan, vectors).tolist() == [3, 3, 3]


def test_ranks_agree_with_sorting_across_blocks() -> None:
    """Blocks of queries would be compared with the wrong documents."""
    random = np.random.default_rng(0)
    queries, documents = random.standard_normal((2, 1100, 8)).astype(np.float32)
    documents += queries
    cosines = (queries / np.linalg.norm(queries, axis=1)[:, None]) @ (
        documents / np.linalg.norm(documents, axis=1)[:, None]
    ).T
    by_hand = [1 + int((row > row[i]).sum()) for i, row in enumerate(cosines)]
    assert retrieval_ranks(queries, documents).tolist() == by_hand


def test_retrieval_runs_queries_and_documents(tmp_path: Path, opened: Open, tokenizer: dict[str, Any]) -> None:
    """The query's own text would be taken for its document."""
    words = ["cat", "dog", "mat", "far"]
    pq.write_table(pa.table({"text": words, "label": ["cat", "dog", "far", "mat"]}), tmp_path / "d.parquet")
    spec = {"type": "Retrieval", "metric": "mrr", "labels": "label", "output": "y"}
    given = opened({"format": "Parquet", "tokenizer": tokenizer}, IDS, task=spec)

    def embed(inputs: Arrays) -> Arrays:
        vectors = np.zeros((len(inputs["input_ids"]), 16), np.float32)
        vectors[np.arange(len(vectors)), inputs["input_ids"][:, 1]] = 1
        return {"y": vectors}

    assert evaluate(TaskSpec.model_validate(spec), given, embed, 2).figure == pytest.approx((1 + 1 + 0.25 + 0.25) / 4)


def test_labels_the_model_has_no_class_for_are_refused(samples: Samples) -> None:
    """Labels numbered from 1 would cost accuracy in silence."""
    with pytest.raises(InvalidInput, match=r"spec\.task\.output"):
        evaluate(task("Classification", "accuracy", output="z"), samples, echo, 4)
    with pytest.raises(Unsupported, match=r"spec\.task\.output: the output has shape \[4, 1\]"):
        evaluate(task("Classification", "accuracy"), samples, lambda i: {"y": i["x"][:, :1]}, 4)


def test_labels_out_of_range_name_both_ranges(tmp_path: Path, opened: Open) -> None:
    """Labels numbered from 1 would cost accuracy in silence."""
    np.savez(tmp_path / "d.npz", x=np.zeros((2, 2), np.float32), label=np.array([1, 2]))
    with pytest.raises(InvalidInput, match=r"spec\.task\.labels: labels run from 1 to 2; the model has 2 classes"):
        evaluate(task("Classification", "accuracy"), opened({"format": "Npz"}, [IMAGE]), echo, 4)


@pytest.mark.parametrize(
    ("kind", "metric"), [("Classification", "mse"), ("Regression", "accuracy"), ("Retrieval", "f1_macro")]
)
def test_a_metric_that_does_not_go_with_the_task_is_refused(samples: Samples, kind: str, metric: str) -> None:
    """It would fail after everything else was done, or mean nothing."""
    with pytest.raises((Unsupported, InvalidInput), match=r"spec\.task\.(metric|labels)"):
        evaluate(task(kind, metric), samples, echo, 4)


@pytest.mark.parametrize("kind", ["Detection", "LanguageModeling", "TokenClassification"])
def test_tasks_of_later_releases_are_refused_by_name(samples: Samples, kind: str) -> None:
    """They would be judged as something else."""
    with pytest.raises(Unsupported, match=rf"spec\.task\.type: the task {kind} is not in this release"):
        evaluate(task(kind, "accuracy"), samples, echo, 4)


def test_a_custom_metric_of_the_image_is_called(samples: Samples, monkeypatch: pytest.MonkeyPatch) -> None:
    """Teams could not judge by their own figure."""
    custom = task("Custom", "custom", callable="strop_custom_metric:figure", direction="Minimize")
    with pytest.raises(Unsupported, match=r"spec\.task\.callable.*not offered"):
        evaluate(custom, samples, echo, 4)
    monkeypatch.setenv("STROP_CALLABLES", "strop_custom_metric:figure")
    module = type(pytest)("strop_custom_metric")
    module.figure = lambda outputs, labels: outputs["y"][:, 0] - labels  # type: ignore[attr-defined]
    monkeypatch.setitem(__import__("sys").modules, "strop_custom_metric", module)
    result = evaluate(custom, samples, echo, 3)
    assert result.per_sample is not None
    assert (result.per_sample.tolist(), result.higher_is_better) == ([2, 0, 0, 5], False)


def test_a_model_of_fixed_batch_gets_full_batches_only(tmp_path: Path, opened: Open) -> None:
    """The last samples would be dropped or crash the engine."""
    np.savez(tmp_path / "d.npz", x=np.eye(2, dtype=np.float32)[[0, 1, 0, 1, 1]], label=np.array([0, 1, 0, 1, 0]))
    seen = []

    def fixed(inputs: Arrays) -> Arrays:
        seen.append(len(inputs["x"]))
        return {"y": inputs["x"]}

    given = opened({"format": "Npz"}, [{**IMAGE, "shape": [3, 2]}])
    assert evaluate(task("Classification", "accuracy"), given, fixed, 64).figure == 0.8
    assert seen == [3, 3]
