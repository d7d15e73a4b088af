"""Mismatches planted on purpose: what goes wrong with calibration data, each as a few lines that make it go wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .german import sentences
from .subject import Arrays, Subject
from .subjects import MEAN, STD

Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Draw:
    """Honest samples to spoil, and those of the reference for what leaks."""

    subject: Subject
    rows: Rows
    reference: Rows
    random: np.random.Generator

    @property
    def honest(self) -> Arrays:
        """The samples as they should be."""
        return self.subject.take(self.rows)

    @property
    def images(self) -> NDArray[np.float32]:
        """CNN: the pictures in 0..1, before normalization."""
        return np.asarray(self.subject.raw)[self.rows]

    @property
    def texts(self) -> list[str]:
        """MiniLM: the texts."""
        return [self.subject.raw[row] for row in self.rows]


Plant = Callable[[Draw], Arrays]


# --- whatever the model -------------------------------------------------------------------------------------------


def zeros(draw: Draw) -> Arrays:
    """A reader that failed and left its buffer as it was."""
    return {name: np.zeros_like(array) for name, array in draw.honest.items()}


def constant(draw: Draw) -> Arrays:
    """The same sample every time, as from a generator that was not advanced."""
    return {name: np.repeat(array[:1], len(array), axis=0) for name, array in draw.honest.items()}


def single(draw: Draw) -> Arrays:
    """One sample."""
    return {name: array[:1] for name, array in draw.honest.items()}


def few(draw: Draw) -> Arrays:
    """Three samples."""
    return {name: array[:3] for name, array in draw.honest.items()}


def one_class(draw: Draw) -> Arrays:
    """The head of a file sorted by class."""
    subject = draw.subject
    assert subject.labels is not None
    own = np.flatnonzero(np.isin(subject.sources, subject.sources[draw.rows]))
    counts = np.bincount(subject.labels[own])
    commonest = draw.random.choice(np.argsort(counts)[::-1][:2])
    return subject.take(own[subject.labels[own] == commonest][: len(draw.rows)])


def shuffled(draw: Draw) -> Arrays:
    """Features in another order, the same for all samples: columns renamed or a permuted axis."""
    made: Arrays = {}
    for name, array in draw.honest.items():
        flat = array.reshape(len(array), -1)
        made[name] = np.ascontiguousarray(flat[:, draw.random.permutation(flat.shape[1])].reshape(array.shape))
    return made


def nudged(arrays: Arrays, random: np.random.Generator) -> Arrays:
    """Hardly changed: a little noise on floats, one value in thirty of the integers that are not constant."""
    made: Arrays = {}
    for name, array in arrays.items():
        if array.dtype.kind == "f":
            made[name] = (array * 1.01 + random.normal(0, 0.03, array.shape) * array.std(axis=0)).astype(array.dtype)
        elif array.max() > 1:
            swap = (random.random(array.shape) < 1 / 30) & (array > 0) & (array != 256)
            made[name] = np.where(swap, np.roll(array, 1, axis=0), array)
        else:
            made[name] = array
    return made


def near_duplicates(draw: Draw) -> Arrays:
    """Six samples augmented twenty times each, as the frames of six videos."""
    return nudged(draw.subject.take(draw.rows[np.arange(len(draw.rows)) % 6]), draw.random)


def leaked(draw: Draw) -> Arrays:
    """A third of the samples are of the reference, hardly changed."""
    third = len(draw.rows) // 3
    theirs = nudged(draw.subject.take(draw.reference[:third]), draw.random)
    return {name: np.concatenate([theirs[name], array[third:]]) for name, array in draw.honest.items()}


def outliers(draw: Draw) -> Arrays:
    """A broken sensor: in one sample of thirty one value is fifty times too large."""
    made = draw.honest
    for array in made.values():
        flat, far = array.reshape(len(array), -1), 50 * np.abs(array).max()
        for row in range(0, len(flat), 30):
            flat[row, draw.random.integers(flat.shape[1])] = far
    return made


# --- pictures -----------------------------------------------------------------------------------------------------


def normalized(images: NDArray[np.floating]) -> Arrays:
    """As the model wants them."""
    return {"image": ((images - MEAN[:, None, None]) / STD[:, None, None]).astype(np.float32)}


def picture(change: Callable[[NDArray[np.float32], np.random.Generator], NDArray[np.floating]]) -> Plant:
    """A change of the picture before it is normalized."""
    return lambda draw: normalized(change(draw.images, draw.random))


def unnormalized(change: Callable[[NDArray[np.float32]], NDArray[np.floating]]) -> Plant:
    """Something else in place of the normalization."""
    return lambda draw: {"image": change(draw.images).astype(np.float32)}


def blur(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """The mean over five by five pixels."""
    for axis in (2, 3):
        images = np.mean([np.roll(images, step, axis) for step in range(-2, 3)], axis=0)
    return images


def as_rows(images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Channels last, read as if they were first."""
    return np.ascontiguousarray(images.transpose(0, 2, 3, 1)).reshape(images.shape)


def noisy(images: NDArray[np.float32], random: np.random.Generator) -> NDArray[np.float32]:
    """Much grain."""
    return np.clip(images + random.normal(0, 0.2, images.shape), 0, 1).astype(np.float32)


PICTURES: Mapping[str, Plant] = {
    "dark": picture(lambda x, _: 0.25 * x),
    "bright": picture(lambda x, _: 0.5 + 0.5 * x),
    "inverted": picture(lambda x, _: 1 - x),
    "not normalized": unnormalized(lambda x: x),
    "0..255": unnormalized(lambda x: 255 * x),
    "other mean and std": unnormalized(lambda x: (x - 0.5) / 0.5),
    "BGR": picture(lambda x, _: x[:, ::-1]),
    "grey": picture(lambda x, _: np.repeat(x.mean(axis=1, keepdims=True), 3, axis=1)),
    "rotated": picture(lambda x, _: np.rot90(x, axes=(2, 3))),
    "upside down": picture(lambda x, _: x[:, :, ::-1]),
    "noise": picture(noisy),
    "blur": picture(lambda x, _: blur(x)),
    "low contrast": picture(lambda x, _: 0.5 + 0.3 * (x - 0.5)),
    "channels last": picture(lambda x, _: as_rows(x)),
}


# --- texts --------------------------------------------------------------------------------------------------------


def text(**knobs: object) -> Plant:
    """The tokenizer used otherwise."""
    return lambda draw: draw.subject.encode(draw.texts, **knobs)  # type: ignore[misc]


def retold(change: Callable[[str, np.random.Generator], str]) -> Plant:
    """Other texts."""
    return lambda draw: draw.subject.encode([change(one, draw.random) for one in draw.texts])  # type: ignore[misc]


def another_language(draw: Draw) -> Arrays:
    """German."""
    return draw.subject.encode(sentences(len(draw.rows), draw.random))  # type: ignore[misc]


def swapped(draw: Draw) -> Arrays:
    """The arrays of two inputs exchanged."""
    one, other = draw.honest.values()
    names = list(draw.honest)
    return {names[0]: other, names[1]: one}


def identifier(one: str, random: np.random.Generator) -> str:
    """A column of names instead of the column of texts."""
    words = one.lower().replace(".", "").split()
    return "_".join(words[: random.integers(2, 4)]) + "(" + ", ".join(words[-2:]) + ")"


TEXTS: Mapping[str, Plant] = {
    "another language": another_language,
    "wrong tokenizer": text(offset=12_345),
    "truncated": text(truncate=6),
    "padding not masked": text(masked=False),
    "padded on the left": text(side="left"),
    "another column": retold(identifier),
    "swapped inputs": swapped,
    "several texts joined": lambda draw: draw.subject.encode(
        [" ".join(draw.random.permutation(draw.texts)[:4]) for _ in draw.texts]
    ),  # type: ignore[misc]
}


# --- bytes --------------------------------------------------------------------------------------------------------

PAD = 256


def cut(draw: Draw) -> Arrays:
    """The first 64 bytes of each file."""
    rows = draw.honest["bytes"]
    rows[:, 64:] = PAD
    return {"bytes": rows}


def padded_with_zero(draw: Draw) -> Arrays:
    """Zero where nothing is."""
    rows = draw.honest["bytes"]
    return {"bytes": np.where(rows == PAD, 0, rows)}


def wide(draw: Draw) -> Arrays:
    """Read as text and encoded with two bytes a letter."""
    rows = draw.honest["bytes"]
    made = np.zeros_like(rows)
    made[:, ::2] = rows[:, : rows.shape[1] // 2]
    return {"bytes": made}


def compressed(draw: Draw) -> Arrays:
    """Files as they come over the wire."""
    import zlib

    made = np.full_like(draw.honest["bytes"], PAD)
    for row, content in zip(made, draw.honest["bytes"], strict=True):
        packed = np.frombuffer(zlib.compress(content[content != PAD].astype(np.uint8).tobytes()), np.uint8)[:2048]
        row[: len(packed)] = packed
    return {"bytes": made}


def no_tail(draw: Draw) -> Arrays:
    """Beginnings of files alone."""
    rows = draw.honest["bytes"]
    rows[:, 1024:] = PAD
    return {"bytes": rows}


BYTES: Mapping[str, Plant] = {
    "truncated": cut,
    "wrong padding": padded_with_zero,
    "another encoding": wide,
    "compressed": compressed,
    "wrong tokenizer": lambda draw: {"bytes": np.where(draw.honest["bytes"] == PAD, PAD, 255 - draw.honest["bytes"])},
    "no tail": no_tail,
}


# --- measurements -------------------------------------------------------------------------------------------------


def scaled(by: float, name: str | None = None) -> Plant:
    """Other units."""
    return lambda draw: {n: (a * by if name in (None, n) else a).astype(np.float32) for n, a in draw.honest.items()}


def standardized(draw: Draw) -> Arrays:
    """Standardized although the model does it itself."""
    return {n: ((a - a.mean(axis=0)) / (a.std(axis=0) + 1e-6)).astype(np.float32) for n, a in draw.honest.items()}


MEASUREMENTS: Mapping[str, Plant] = {
    "wrong units": scaled(0.001, "sizes"),
    "percent, not share": scaled(100.0),
    "standardized twice": standardized,
    "swapped inputs": swapped,
    "logarithms": lambda draw: {n: np.log1p(a) for n, a in draw.honest.items()},
    "one unit wrong": lambda draw: {
        n: np.concatenate([a[:, :1] * 100, a[:, 1:]], axis=1) if n == "sizes" else a for n, a in draw.honest.items()
    },
}

ANY: Mapping[str, Plant] = {
    "zeros": zeros, "constant": constant, "single sample": single, "few samples": few,
    "near-duplicates": near_duplicates, "leaked": leaked, "shuffled features": shuffled,
}  # fmt: skip
CLASSES: Mapping[str, Plant] = {"one class": one_class}
FLOATS: Mapping[str, Plant] = {"outliers": outliers}
KINDS: Mapping[str, Mapping[str, Plant]] = {
    "minilm": {**ANY, **TEXTS},
    "magika": {**ANY, **CLASSES, **BYTES},
    "cnn": {**ANY, **CLASSES, **FLOATS, **PICTURES},
    "table": {**ANY, **CLASSES, **FLOATS, **MEASUREMENTS},
}
"""By subject and name."""
