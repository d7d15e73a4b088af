"""What every reader of samples offers: batches as the model takes them, labels, and a digest a sample."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from strop_api.data import DataSource
from strop_api.model import Dimension, InputTensor, TaskType
from strop_api.optimization import ModelOptimizationSpec
from strop_job.errors import InvalidInput

Array = NDArray[np.generic]
Arrays = dict[str, Array]
EVALUATION = "evaluation"


@dataclass(frozen=True)
class Batch:
    """Samples that go through the model together; the first axis of every array is the samples."""

    inputs: Arrays
    labels: Array | None = None
    documents: Arrays | None = None
    """Retrieval: the inputs made of the document that answers each row."""

    def __len__(self) -> int:
        return len(next(iter(self.inputs.values())))


@dataclass(frozen=True)
class Reading:
    """What a reader needs to know of the spec."""

    role: str
    """`calibration`, `training`, `validation` or `evaluation`."""
    source: DataSource
    inputs: tuple[InputTensor, ...]
    dimensions: Mapping[str, Dimension]
    labels: str
    """Array or column of the labels, or of the documents."""
    task: TaskType

    @classmethod
    def of(cls, source: DataSource, spec: ModelOptimizationSpec, role: str) -> "Reading":
        """Taken from the spec."""
        dimensions = {d.name: d for d in spec.model.dimensions}
        return cls(role, source, tuple(spec.model.inputs), dimensions, spec.task.labels, spec.task.type)

    @property
    def field(self) -> str:
        """Where the source stands in the spec."""
        return f"spec.data.{self.role}"

    @property
    def retrieval(self) -> bool:
        """Whether the labels are documents."""
        return self.task is TaskType.RETRIEVAL

    @property
    def labelled(self) -> bool:
        """Whether labels must be there: only calibration can do without."""
        return self.role != "calibration"

    def wrong(self, message: str, *, mend: str | None = None, part: str = "uri") -> InvalidInput:
        """An error that names this source."""
        return InvalidInput(message, field=f"{self.field}.{part}", mend=mend)


class Samples(ABC):
    """One set of samples, read in order, as often as asked, never all at once."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading

    @abstractmethod
    def _count(self) -> int:
        """Samples in the files."""

    @abstractmethod
    def _batches(self, size: int, length: int | None, limit: int) -> Iterator[Batch]:
        """Batches of the first `limit` samples."""

    @abstractmethod
    def _digests(self) -> Iterator[bytes]:
        """A digest of each sample's input, in order, of all samples in the files."""

    def __len__(self) -> int:
        """Samples that are used: `samples` of the spec, or all."""
        asked = self.reading.source.samples
        found = self._count()
        return found if asked is None else min(asked, found)

    def batches(self, size: int, *, length: int | None = None) -> Iterator[Batch]:
        """Batches of `size` samples, the last one perhaps smaller.

        Texts are padded to `length` tokens, or to the longest of the batch, within the dimension's bounds.
        Raises InvalidInput, naming the source, for NaN, Inf, wrong types and wrong shapes.
        """
        return self._batches(size, length, len(self))

    def groups(self) -> NDArray[np.str_] | None:
        """The group of each sample, in order, as text; None where the spec names no groups.

        Raises InvalidInput when the array or column is missing, or holds neither text nor whole numbers.
        """
        name = self.reading.source.groups
        return None if name is None else self._groups(name)[: len(self)]

    def _groups(self, name: str) -> NDArray[np.str_]:
        """Of all samples in the files, from the array or column `name`."""
        raise self.reading.wrong(
            f"{self.reading.source.format.value} has no place for groups", part="groups", mend="use Npz or Parquet"
        )

    def digests(self) -> Iterator[bytes]:
        """SHA-256 of each sample's input, labels left out: equal inputs in two sets are a leak."""
        return islice(self._digests(), len(self))

    def row_digests(self) -> Iterator[bytes]:
        """SHA-256 of each sample with its label, in order: a sample that comes twice so tells nothing the second time.

        Labels are hashed as they are stored; nothing is decoded or tokenized.
        """
        pairs = zip(self._digests(), self._stored_labels(), strict=True)
        return (hashlib.sha256(digest + label).digest() for digest, label in islice(pairs, len(self)))

    def one_label(self) -> bool:
        """Whether all samples have the same label, or none: nothing can be learnt from such a set."""
        seen = islice(self._stored_labels(), len(self))
        first = next(seen, None)
        return all(label == first for label in seen)

    @abstractmethod
    def _stored_labels(self) -> Iterator[bytes]:
        """Each sample's label, in order, of all samples in the files; empty where there is none."""


def check_disjoint(sets: Mapping[str, Samples]) -> None:
    """Raise InvalidInput when a sample or a group of one set, by role, occurs in another.

    A figure on seen data means nothing, nor does one on more of a document that was seen.
    """
    _check_groups_disjoint(sets)
    owner: dict[bytes, str] = {}
    for role, samples in sets.items():
        shared: dict[str, int] = {}
        for digest in samples.digests():
            first = owner.setdefault(digest, role)
            if first != role:
                shared[first] = shared.get(first, 0) + 1
        for first, count in shared.items():
            raise InvalidInput(
                f"{count} of its samples also occur in spec.data.{first}",
                field=f"spec.data.{role}.uri",
                mend="split the data before use, so that every sample has one purpose",
            )


def _check_groups_disjoint(sets: Mapping[str, Samples]) -> None:
    """Of the sets that name groups."""
    owner: dict[str, str] = {}
    for role, samples in sets.items():
        found = samples.groups()
        names: list[str] = [] if found is None else np.unique(found).tolist()
        shared = [name for name in names if owner.setdefault(name, role) != role]
        if shared:
            shown = ", ".join(map(repr, shared[:3])) + (", …" if len(shared) > 3 else "")
            raise samples.reading.wrong(
                f"{len(shared)} of its groups also occur in spec.data.{owner[shared[0]]}: {shown}",
                part="groups",
                mend="split the data by group, so that every group has one purpose",
            )


def group_names(reading: Reading, name: str, values: Array) -> NDArray[np.str_]:
    """Groups as text: the same group reads the same from any format. Raises InvalidInput for anything but names."""
    if values.ndim != 1 or values.dtype.kind not in "iuU":
        raise reading.wrong(
            f"{name!r} is {values.dtype.name} of shape {list(values.shape)}, not one name or whole number a sample",
            part="groups",
        )
    return values.astype(np.str_)


def input_digest(arrays: Mapping[str, Array]) -> bytes:
    """SHA-256 of one sample's tensors: names, types, shapes and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        value = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}\0{value.dtype.str}\0{value.shape}\0".encode())
        digest.update(value.tobytes())
    return digest.digest()


def text_digest(text: str) -> bytes:
    """SHA-256 of one text."""
    return hashlib.sha256(text.encode()).digest()


def check_tensor(reading: Reading, tensor: InputTensor, value: Array, first: int) -> None:
    """Raise InvalidInput when a batch of an input has another type or shape, or holds NaN or Inf.

    `first` is the number of the batch's first sample, so that the message can name the one that is wrong.
    """
    if value.dtype.name != tensor.dtype.value:
        raise reading.wrong(f"{tensor.name!r} is {value.dtype.name}, the model's input is {tensor.dtype.value}")
    if value.ndim != len(tensor.shape) or not all(
        _fits(reading, size, asked) for size, asked in zip(value.shape[1:], tensor.shape[1:], strict=True)
    ):
        shape = ", ".join(str(s) for s in value.shape[1:])
        asked = ", ".join(str(s) for s in tensor.shape[1:])
        raise reading.wrong(f"a sample of {tensor.name!r} has shape [{shape}], the model's input is [{asked}]")
    check_finite(reading, tensor.name, value, first)


def check_finite(reading: Reading, name: str, value: Array, first: int) -> None:
    """Raise InvalidInput that names the first sample with NaN or Inf."""
    if value.dtype.kind != "f" or np.isfinite(value).all():
        return
    bad = ~np.isfinite(value.reshape(len(value), -1)).all(axis=1)
    raise reading.wrong(
        f"{name!r} holds NaN or infinity in sample {first + int(bad.argmax())}", mend="remove or repair those samples"
    )


def _fits(reading: Reading, size: int, asked: int | str) -> bool:
    if isinstance(asked, int):
        return size == asked
    dimension = reading.dimensions.get(asked)
    return dimension is None or dimension.min <= size <= dimension.max
