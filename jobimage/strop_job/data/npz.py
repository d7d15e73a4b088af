"""Samples in an `.npz`: one array an input, one with the labels, the first axis the samples. Rows are streamed."""

import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from strop_job.data.samples import Array, Batch, Reading, Samples, check_finite, check_tensor, group_names, input_digest

CHUNK = 64


@dataclass(frozen=True)
class Header:
    """An array's header, read without its data."""

    shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    fortran: bool


class NpzSamples(Samples):
    """Reads an `.npz`; never unpickles."""

    def __init__(self, path: Path, reading: Reading) -> None:
        super().__init__(reading)
        self.path = path
        self.headers = self._read_headers()
        self.names = [t.name for t in reading.inputs]
        self._check_arrays()

    def _read_headers(self) -> dict[str, Header]:
        try:
            with zipfile.ZipFile(self.path) as archive:
                return {
                    name.removesuffix(".npy"): self._header(archive, name)
                    for name in archive.namelist()
                    if name.endswith(".npy")
                }
        except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
            raise self.reading.wrong(
                f"cannot be read as .npz: {error}; it may be truncated", mend="write it with numpy.savez"
            ) from error

    def _header(self, archive: zipfile.ZipFile, name: str) -> Header:
        with archive.open(name) as file:
            header = _header_of(file)
        if header.dtype.hasobject:
            raise self.reading.wrong(f"the array {name!r} holds Python objects", mend="store plain numbers")
        return header

    def _check_arrays(self) -> None:
        has_labels = self.reading.labels in self.headers
        wanted = [*self.names, *([self.reading.labels] if self.reading.labelled or has_labels else [])]
        missing = [n for n in wanted if n not in self.headers]
        if missing:
            raise self.reading.wrong(
                f"has no array {', '.join(map(repr, missing))}; it holds {', '.join(sorted(self.headers)) or 'none'}",
                mend="name the arrays as spec.model.inputs and spec.task.labels do",
            )
        self.read = wanted
        lengths = {n: self.headers[n].shape[:1] for n in wanted}
        if len(set(lengths.values())) > 1 or () in lengths.values():
            told = ", ".join(f"{n} {shape[0] if shape else 'a scalar'}" for n, shape in lengths.items())
            raise self.reading.wrong(f"its arrays differ in their number of samples: {told}")
        if not self._count():
            raise self.reading.wrong("holds no samples")

    def _count(self) -> int:
        return self.headers[self.names[0]].shape[0]

    def _batches(self, size: int, length: int | None, limit: int) -> Iterator[Batch]:
        first = 0
        for arrays in self._rows(self.read, size, limit):
            for tensor in self.reading.inputs:
                check_tensor(self.reading, tensor, arrays[tensor.name], first)
            labels = arrays.get(self.reading.labels)
            if labels is not None:
                check_finite(self.reading, self.reading.labels, labels, first)
            yield Batch({n: arrays[n] for n in self.names}, labels)
            first += len(arrays[self.names[0]])

    def _groups(self, name: str) -> NDArray[np.str_]:
        if name not in self.headers:
            found = ", ".join(sorted(self.headers))
            raise self.reading.wrong(f"has no array {name!r}; it holds {found}", part="groups", mend="name one of them")
        if self.headers[name].shape != (self._count(),):
            shape = list(self.headers[name].shape)
            raise self.reading.wrong(f"{name!r} has shape {shape} for {self._count()} samples", part="groups")
        (arrays,) = self._rows([name], self._count(), self._count())
        return group_names(self.reading, name, arrays[name])

    def _digests(self) -> Iterator[bytes]:
        for arrays in self._rows(self.names, CHUNK, self._count()):
            for i in range(len(arrays[self.names[0]])):
                yield input_digest({n: arrays[n][i] for n in self.names})

    def _stored_labels(self) -> Iterator[bytes]:
        if self.reading.labels not in self.read:
            yield from (b"" for _ in range(self._count()))
            return
        for arrays in self._rows([self.reading.labels], CHUNK, self._count()):
            yield from (row.tobytes() for row in arrays[self.reading.labels])

    def _rows(self, names: list[str], size: int, limit: int) -> Iterator[dict[str, Array]]:
        with ExitStack() as stack:
            archive = stack.enter_context(zipfile.ZipFile(self.path))
            readers = {n: self._open(stack, archive, n) for n in names}
            for start in range(0, limit, size):
                count = min(size, limit - start)
                try:
                    yield {n: next_rows(count) for n, next_rows in readers.items()}
                except (zipfile.BadZipFile, EOFError, ValueError) as error:
                    raise self.reading.wrong(f"ends early or is damaged: {error}") from error

    def _open(self, stack: ExitStack, archive: zipfile.ZipFile, name: str) -> "RowReader":
        if self.headers[name].fortran:
            raise self.reading.wrong(f"the array {name!r} is in Fortran order", mend="save numpy.ascontiguousarray(it)")
        file = stack.enter_context(archive.open(f"{name}.npy"))
        return RowReader(file, _header_of(file))


class RowReader:
    """Reads the next rows of one array."""

    def __init__(self, file: IO[bytes], header: Header) -> None:
        self.file, self.header = file, header

    def __call__(self, count: int) -> Array:
        """The next `count` rows; ValueError when the file ends before."""
        shape = (count, *self.header.shape[1:])
        wanted = int(np.prod(shape)) * self.header.dtype.itemsize
        data = self.file.read(wanted)
        if len(data) != wanted:
            raise ValueError(f"{wanted - len(data)} bytes are missing")
        return np.frombuffer(data, self.header.dtype).reshape(shape)


def _header_of(file: IO[bytes]) -> Header:
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return Header(shape, dtype, fortran and len(shape) > 1)
