"""Runs a model over samples and keeps sketches of its inputs, some activations and its outputs; never the tensors."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from strop_job.audit.calibration import fingerprints, sketch
from strop_job.audit.calibration.observed import Floats, Observed, Role, Tensor

Arrays = Mapping[str, NDArray[Any]]
Run = Callable[[Arrays], Arrays]
"""Inputs to outputs and marked activations, by name."""


@dataclass
class Observer:
    """Takes batches of one data set one after the other."""

    run: Run | None
    """None: the inputs alone are looked at."""
    outputs: tuple[str, ...] = ()
    """Which of what `run` yields are the model's outputs; the rest are activations."""
    classes: str | None = None
    """Output [n, classes] with a score for each class; None where the model names no class."""
    _quantiles: dict[str, list[Floats]] = field(default_factory=dict)
    _views: dict[str, list[dict[str, Floats]]] = field(default_factory=dict)
    _roles: dict[str, Role] = field(default_factory=dict)
    _categories: dict[str, list[NDArray[np.int64]]] = field(default_factory=dict)
    _prints: list[Floats] = field(default_factory=list)
    _classes: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, inputs: Arrays, count: int | None = None) -> None:
        """One batch; only the first `count` samples of it are kept (a batch may have been filled up)."""
        size = len(next(iter(inputs.values())))
        kept = size if count is None else count
        made = {} if self.run is None else self.run(inputs)
        with np.errstate(all="ignore"):  # sums of NaN, infinity and masks of -3e38: judged later, see Tensor.finite
            self._prints.append(prints_of(inputs, kept))
            for name, array in inputs.items():
                self._input(name, array[:kept])
            for name, array in made.items():
                if array.ndim and len(array) == size and array.size:
                    self._inside(name, array[:kept])

    def _input(self, name: str, array: NDArray[Any]) -> None:
        if array.dtype.kind == "f":
            self._keep(name, Role.INPUT, array, sketch.views_of_input(array))
            return
        whole = array.astype(np.int64).reshape(len(array), -1)
        self._categories.setdefault(name, []).extend(row[: sketch.MOST_CATEGORIES] for row in whole)
        self._views.setdefault(name, []).append(sketch.views_of_categories(whole))
        self._quantiles.setdefault(name, []).append(sketch.quantiles(whole))
        self._roles[name] = Role.INPUT

    def _inside(self, name: str, array: NDArray[Any]) -> None:
        role = Role.OUTPUT if name in self.outputs else Role.ACTIVATION
        if array.dtype.kind != "f":
            return
        views = sketch.views_inside(array, name)
        if name == self.classes and array.ndim == 2 and array.shape[1] > 1:
            self._classes.append(array.argmax(axis=1).astype(np.int64))
            views["confidence"] = sketch.confidence(array)
        self._keep(name, role, array, views)

    def _keep(self, name: str, role: Role, array: NDArray[Any], views: dict[str, Floats]) -> None:
        self._roles[name] = role
        self._quantiles.setdefault(name, []).append(sketch.quantiles(array))
        self._views.setdefault(name, []).append(views)

    def seen(self, labels: NDArray[np.int64] | None = None) -> Observed:
        """Everything so far. Raises ValueError before the first batch."""
        tensors = {
            name: Tensor(role, np.concatenate(self._quantiles[name]), sketch.uneven(self._views[name]))
            for name, role in self._roles.items()
        }
        prints = np.concatenate(self._prints)
        classes = np.concatenate(self._classes) if self._classes else None
        categories = {name: tuple(rows) for name, rows in self._categories.items()}
        return Observed(tensors, categories, prints, classes, labels)


def observe(
    batches: Iterable[Arrays], run: Run | None, outputs: tuple[str, ...] = (), classes: str | None = None
) -> Observed:
    """One data set, batch by batch. See Observer."""
    observer = Observer(run, outputs, classes)
    for inputs in batches:
        observer.add(inputs)
    return observer.seen()


def prints_of(inputs: Arrays, count: int) -> Floats:
    """Fingerprints of the first `count` samples, [count, k]: one input's figures beside the other's, each as many."""
    made = []
    for name in sorted(inputs):
        array = inputs[name][:count]
        is_float = array.dtype.kind == "f"
        made.append(fingerprints.print_of_floats(array) if is_float else fingerprints.print_of_categories(array))
    return np.concatenate(made, axis=1)
