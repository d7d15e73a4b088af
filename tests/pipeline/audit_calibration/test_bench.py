"""A short form of the bench: measurements of installed packages' files, split by package."""

from pathlib import Path
from types import ModuleType

import pytest

KINDS = (
    "zeros", "few samples", "near-duplicates", "leaked", "outliers", "one unit wrong",
    "wrong units", "swapped inputs", "logarithms", "shuffled features",
)  # fmt: skip


@pytest.fixture(scope="module")
def measured(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple:
    """The trained perceptron with its samples, and all of them observed."""
    folder = tmp_path_factory.mktemp("table")
    subject = bench.make("table", folder / "model")
    return subject, subject.observe(subject.samples, folder / "pool")


def test_planted_mismatches_are_found_on_a_model_trained_for_the_bench(
    bench: ModuleType, measured: tuple, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thresholds that drift would let a kind of mismatch through that the bench's figures promise."""
    subject, pool = measured
    chosen = {kind: plant for kind, plant in bench.KINDS["table"].items() if kind in KINDS}
    monkeypatch.setitem(bench.KINDS, "table", chosen)
    tried = list(bench.planted(subject, pool, "report", 1, tmp_path))
    assert len(tried) == len(KINDS)
    assert [one.kind for one in tried if not one.found] == []


def test_honest_splits_by_package_stay_silent(bench: ModuleType, measured: tuple) -> None:
    """More than two false alarms in a hundred would teach people to ignore the audit."""
    subject, pool = measured
    alarms = [bench.told(verdict) for verdict, _ in bench.honest(subject, pool, "report", 30) if verdict.mismatches]
    assert len(alarms) <= 1, alarms
