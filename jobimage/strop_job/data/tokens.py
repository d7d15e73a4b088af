"""From texts to the inputs of an encoder, with a `tokenizer.json`."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tokenizers import Encoding
from tokenizers import Tokenizer as Engine

from strop_job.data.samples import Arrays, Reading
from strop_job.errors import Unsupported

FIELDS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
"""The names Hugging Face gives to a tokenizer's outputs, and the tokenizers library's."""


class TextEncoder:
    """Tokenizes, truncates and pads as the spec says."""

    def __init__(self, path: Path, reading: Reading) -> None:
        self.reading = reading
        self.engine = _load(path, reading)
        self.pad_id = _pad_id(self.engine)
        self.engine.no_padding()
        self.least, self.most = _length_bounds(reading)
        self.engine.enable_truncation(self.most)

    def __call__(self, texts: Sequence[str], length: int | None = None) -> Arrays:
        """Texts to one array an input, [texts, length]; `length` None is the longest text's, within the bounds."""
        encoded = self.engine.encode_batch(list(texts))
        width = max(len(e.ids) for e in encoded) if length is None else length
        width = min(max(width, self.least), self.most)
        return {t.name: self._column(t.name, t.dtype.value, encoded, width) for t in self.reading.inputs}

    def _column(self, name: str, dtype: str, encoded: Sequence[Encoding], width: int) -> np.ndarray:
        column = np.full((len(encoded), width), self.pad_id if name == "input_ids" else 0, dtype)
        for row, encoding in zip(column, encoded, strict=True):
            values = getattr(encoding, FIELDS[name])[:width]
            row[: len(values)] = values
        return column


def _load(path: Path, reading: Reading) -> Engine:
    unknown = [t.name for t in reading.inputs if t.name not in FIELDS]
    if unknown:
        raise Unsupported(
            f"a tokenizer yields {', '.join(FIELDS)}; the model also takes {', '.join(unknown)}",
            field="spec.model.inputs",
            mend="store those inputs in the data, without a tokenizer",
        )
    try:
        return Engine.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise reading.wrong(f"is not a tokenizer.json: {error}", part="tokenizer.uri") from error


def _pad_id(engine: Engine) -> int:
    if engine.padding:
        return int(engine.padding["pad_id"])
    known = (engine.token_to_id(token) for token in ("[PAD]", "<pad>", "<|pad|>"))
    return next((i for i in known if i is not None), 0)


def _length_bounds(reading: Reading) -> tuple[int, int]:
    """Least and greatest number of tokens, from the tokenizer's setting and the inputs' second axis."""
    tokenizer = reading.source.tokenizer
    most = tokenizer.max_length if tokenizer else 128
    least = 1
    for tensor in reading.inputs:
        size = tensor.shape[1] if len(tensor.shape) > 1 else None
        if isinstance(size, int):
            return size, size
        if size is not None and size in reading.dimensions:
            dimension = reading.dimensions[size]
            least, most = max(least, dimension.min), min(most, dimension.max)
    return least, max(least, most)
