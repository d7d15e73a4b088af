"""Samples in Parquet: a column an input, or one with text for a tokenizer. Record batches are streamed."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from strop_api.model import InputTensor
from strop_job.data.samples import (
    Array,
    Arrays,
    Batch,
    Reading,
    Samples,
    check_finite,
    check_tensor,
    group_names,
    input_digest,
    text_digest,
)
from strop_job.data.tokens import TextEncoder

CHUNK = 256


class ParquetSamples(Samples):
    """One file, or a folder of files in the order of their names."""

    def __init__(self, paths: Sequence[Path], reading: Reading, encoder: TextEncoder | None) -> None:
        super().__init__(reading)
        self.paths, self.encoder = paths, encoder
        self.rows = self._read_metadata()

    def _read_metadata(self) -> int:
        rows = 0
        for path in self.paths:
            try:
                with pq.ParquetFile(path) as file:
                    self._check_columns(file.schema_arrow.names, path.name)
                    rows += file.metadata.num_rows
            except (pa.ArrowException, OSError) as error:
                raise self.reading.wrong(
                    f"{path.name} cannot be read as Parquet: {error}; it may be truncated"
                ) from error
        if not rows:
            raise self.reading.wrong("holds no samples")
        return rows

    def _check_columns(self, found: list[str], name: str) -> None:
        self.text_column = self._text_column(found)
        inputs = [self.text_column] if self.text_column else [t.name for t in self.reading.inputs]
        wanted = [*inputs, *([self.reading.labels] if self.reading.labelled else [])]
        missing = [c for c in wanted if c not in found]
        if missing:
            raise self.reading.wrong(
                f"{name} has no column {', '.join(map(repr, missing))}; it holds {', '.join(found) or 'none'}",
                mend="name the columns as spec.model.inputs, the tokenizer's column and spec.task.labels do",
            )
        self.has_labels = self.reading.labels in found
        self.columns = list(dict.fromkeys([*inputs, *([self.reading.labels] if self.has_labels else [])]))

    def _text_column(self, found: list[str]) -> str | None:
        if self.encoder is None:
            return None
        tokenizer = self.reading.source.tokenizer
        if tokenizer is not None and tokenizer.column is not None:
            return tokenizer.column
        if "text" in found:
            return "text"
        raise self.reading.wrong(
            f"no column is named for the tokenizer; there are {', '.join(found)}", part="tokenizer.column"
        )

    def _count(self) -> int:
        return self.rows

    def _batches(self, size: int, length: int | None, limit: int) -> Iterator[Batch]:
        first = 0
        for table in self._tables(self.columns, size, limit):
            yield self._batch(table, length, first)
            first += len(table)

    def _tables(self, columns: list[str], size: int, limit: int) -> Iterator[pa.Table]:
        """Tables of exactly `size` rows, the last one smaller, across the borders of row groups and files."""
        held: list[pa.RecordBatch] = []
        left = limit
        for record in self._records(columns, size):
            part = record.slice(0, left)
            left -= len(part)
            held.append(part)
            while (have := sum(map(len, held))) >= size or (left == 0 and have):
                table = pa.Table.from_batches(held)
                yield table.slice(0, size)
                held = table.slice(size).to_batches()
            if left == 0:
                return

    def _records(self, columns: list[str], size: int, paths: Sequence[Path] | None = None) -> Iterator[pa.RecordBatch]:
        for path in self.paths if paths is None else paths:
            try:
                with pq.ParquetFile(path) as file:
                    for record in file.iter_batches(batch_size=max(size, CHUNK), columns=columns):
                        yield record.select(columns)
            except (pa.ArrowException, OSError) as error:
                raise self.reading.wrong(f"{path.name} is damaged: {error}") from error

    def _batch(self, table: pa.Table, length: int | None, first: int) -> Batch:
        documents = labels = None
        if self.has_labels and self.reading.retrieval:
            documents = self._encode(table, self.reading.labels, length, first)
        elif self.has_labels:
            labels = self._numbers(table, self.reading.labels, first)
            check_finite(self.reading, self.reading.labels, labels, first)
        if self.text_column:
            return Batch(self._encode(table, self.text_column, length, first), labels, documents)
        return Batch(self._tensors(table, first), labels, documents)

    def _encode(self, table: pa.Table, column: str, length: int | None, first: int) -> Arrays:
        if self.encoder is None:
            raise self.reading.wrong(
                f"the documents in {column!r} are text and there is no tokenizer", part="tokenizer", mend="name one"
            )
        return self.encoder(self._texts(table, column, first), length)

    def _texts(self, table: pa.Table, column: str, first: int) -> list[str]:
        values: list[str] = table.column(column).to_pylist()
        for i, value in enumerate(values):
            if not isinstance(value, str):
                raise self.reading.wrong(f"{column!r} holds {type(value).__name__} in sample {first + i}, not text")
        return values

    def _tensors(self, table: pa.Table, first: int) -> Arrays:
        arrays = {t.name: self._tensor(table, t, first) for t in self.reading.inputs}
        for tensor in self.reading.inputs:
            check_tensor(self.reading, tensor, arrays[tensor.name], first)
        return arrays

    def _tensor(self, table: pa.Table, tensor: InputTensor, first: int) -> Array:
        values = self._numbers(table, tensor.name, first)
        fits = values.dtype.kind == np.dtype(tensor.dtype.value).kind
        return values.astype(tensor.dtype.value) if fits and values.dtype.itemsize == 8 else values

    def _numbers(self, table: pa.Table, column: str, first: int) -> Array:
        """A numeric column, nested lists as further axes. Arrow's float32 and int32 keep their width."""
        arrow = table.column(column)
        leaf = arrow.type
        while pa.types.is_list(leaf) or pa.types.is_fixed_size_list(leaf) or pa.types.is_large_list(leaf):
            leaf = leaf.value_type
        rows: list[Any] = arrow.to_pylist()
        for i, row in enumerate(rows):
            if row is None:
                raise self.reading.wrong(f"{column!r} is null in sample {first + i}", mend="remove such samples")
        try:
            return np.array(rows, dtype=leaf.to_pandas_dtype())
        except (ValueError, TypeError, NotImplementedError) as error:
            raise self.reading.wrong(f"{column!r} ({arrow.type}) is no tensor of one shape: {error}") from error

    def _groups(self, name: str) -> NDArray[np.str_]:
        values: list[Any] = []
        for path in self.paths:
            with pq.ParquetFile(path) as file:
                if name not in file.schema_arrow.names:
                    found = ", ".join(file.schema_arrow.names)
                    raise self.reading.wrong(f"{path.name} has no column {name!r}; it holds {found}", part="groups")
            values += [
                value for record in self._records([name], CHUNK, [path]) for value in record.column(0).to_pylist()
            ]
        if None in values:
            raise self.reading.wrong(f"{name!r} is null in sample {values.index(None)}", part="groups")
        return group_names(self.reading, name, np.array(values))

    def _digests(self) -> Iterator[bytes]:
        columns = [self.text_column] if self.text_column else [t.name for t in self.reading.inputs]
        first = 0
        for table in self._tables(columns, CHUNK, self.rows):
            if self.text_column:
                yield from map(text_digest, self._texts(table, self.text_column, first))
            else:
                arrays = {t.name: self._tensor(table, t, first) for t in self.reading.inputs}
                yield from (input_digest({n: a[i] for n, a in arrays.items()}) for i in range(len(table)))
            first += len(table)

    def _stored_labels(self) -> Iterator[bytes]:
        if not self.has_labels:
            yield from (b"" for _ in range(self.rows))
            return
        for record in self._records([self.reading.labels], CHUNK):
            yield from (repr(value).encode() for value in record.column(0).to_pylist())
