"""The releases that were recorded, and what each left behind."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
Document = dict[str, Any]


@dataclass(frozen=True)
class Release:
    """What a release left in a cluster and in a store."""

    folder: Path

    @property
    def chart(self) -> Path:
        return self.folder / "chart"

    @property
    def store(self) -> Path:
        """JSON of a published run, below the addresses it has in the store."""
        return self.folder / "store"

    @property
    def resources(self) -> dict[str, Document]:
        """Every ModelOptimization by name, as the API server returned it."""
        return {d["metadata"]["name"]: d for d in self._objects() if d["kind"] == "ModelOptimization"}

    @property
    def policy(self) -> Document:
        return next(d for d in self._objects() if d["kind"] == "OptimizationPolicy")

    def running(self, kind: str) -> Document:
        """The Job or the pod of the run that was going on."""
        return load(self.folder / "objects" / "running" / f"{kind}.json")

    def _objects(self) -> list[Document]:
        return [load(path) for path in sorted((self.folder / "objects").glob("*.json"))]


def load(path: Path) -> Document:
    document: Document = json.loads(path.read_text())
    return document


@pytest.fixture(scope="session", params=sorted(p.parent.name for p in HERE.glob("*/chart")))
def release(request: pytest.FixtureRequest) -> Release:
    """Every release there is a record of."""
    return Release(HERE / str(request.param))
