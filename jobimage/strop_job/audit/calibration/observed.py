"""What is remembered of a data set: per sample and tensor a few hundred figures, however large the tensor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


class Role(StrEnum):
    """Where in the model a tensor stands."""

    INPUT = "input"
    ACTIVATION = "activation"
    OUTPUT = "output"


@dataclass(frozen=True)
class Tensor:
    """One tensor of floats (or of numbers taken as such), seen on n samples. Rows are samples."""

    role: Role
    quantiles: Floats
    """[n, sketch.LEVELS]: of each sample's values, the first the smallest, the last the largest."""
    views: Mapping[str, Floats]
    """[n, k] each: what is compared as one distribution, such as `moments` or the means along an axis."""

    @property
    def finite(self) -> bool:
        """Whether no sample held NaN or infinity."""
        return bool(np.isfinite(self.quantiles[:, [0, -1]]).all())

    def take(self, rows: NDArray[np.intp]) -> "Tensor":
        """These samples alone."""
        return Tensor(self.role, self.quantiles[rows], {view: values[rows] for view, values in self.views.items()})


@dataclass(frozen=True)
class Observed:
    """One data set, as far as it was looked at."""

    tensors: Mapping[str, Tensor]
    categories: Mapping[str, tuple[NDArray[np.int64], ...]]
    """By the name of an integer input: each sample's values, flat, cut to sketch.MOST_CATEGORIES."""
    prints: Floats
    """[n, k]: equal for equal samples, near for near ones; see fingerprints.py."""
    classes: NDArray[np.int64] | None = None
    """[n]: the class that the model names for each sample; None for a model that does not name any."""
    labels: NDArray[np.int64] | None = None
    """[n]: the class that the data itself gives each sample, where it was read."""

    def __len__(self) -> int:
        return len(self.prints)

    def take(self, rows: Sequence[int] | NDArray[Any]) -> "Observed":
        """These samples alone, as if the set held no others."""
        at = np.asarray(rows, np.intp)
        tensors = {name: one.take(at) for name, one in self.tensors.items()}
        categories = {name: tuple(values[row] for row in at) for name, values in self.categories.items()}
        classes = None if self.classes is None else self.classes[at]
        labels = None if self.labels is None else self.labels[at]
        return Observed(tensors, categories, self.prints[at], classes, labels)
