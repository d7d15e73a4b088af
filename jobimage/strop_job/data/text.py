"""Samples in a text file, one a line, for a tokenizer. Text files have no labels, so they serve calibration."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from strop_job.data.samples import Batch, Reading, Samples, text_digest
from strop_job.data.tokens import TextEncoder


class TextSamples(Samples):
    """Lines of a UTF-8 file; empty lines are skipped."""

    def __init__(self, path: Path, reading: Reading, encoder: TextEncoder) -> None:
        super().__init__(reading)
        self.path, self.encoder = path, encoder
        if reading.labelled:
            raise reading.wrong(
                "text files have no labels", part="format", mend="use Parquet with a column for the labels"
            )
        self.rows = sum(1 for _ in self._lines())
        if not self.rows:
            raise reading.wrong("holds no samples")

    def _lines(self) -> Iterator[str]:
        try:
            with self.path.open(encoding="utf-8") as file:
                yield from (line.strip() for line in file if line.strip())
        except UnicodeDecodeError as error:
            raise self.reading.wrong(f"is not UTF-8 text: {error}") from error

    def _count(self) -> int:
        return self.rows

    def _batches(self, size: int, length: int | None, limit: int) -> Iterator[Batch]:
        lines = islice(self._lines(), limit)
        while texts := list(islice(lines, size)):
            yield Batch(self.encoder(texts, length))

    def _digests(self) -> Iterator[bytes]:
        return map(text_digest, self._lines())

    def _stored_labels(self) -> Iterator[bytes]:
        return (b"" for _ in range(self.rows))
