"""Samples in a folder of images, one folder a class: resize, crop, scale, normalize, order."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from strop_api.data import ImagePreprocessing
from strop_job.data.samples import Array, Batch, Reading, Samples, check_tensor
from strop_job.errors import Unsupported

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif", ".ppm", ".pgm"})


class ImageSamples(Samples):
    """`<class>/<file>`; the label is the position of the class among the sorted folder names.

    Classes take turns, so that the first `samples` of the spec are not all of one class.
    """

    def __init__(self, folder: Path, files: Sequence[str], reading: Reading) -> None:
        super().__init__(reading)
        if len(reading.inputs) != 1:
            raise Unsupported("an image folder feeds one input", field="spec.model.inputs", mend="use Npz")
        if reading.source.image is None:
            raise reading.wrong("an image folder needs its preprocessing", part="image", mend="state resize and crop")
        self.folder, self.spec, self.tensor = folder, reading.source.image, reading.inputs[0]
        self.classes = sorted({name.split("/")[0] for name in files if name.count("/") >= 1})
        self.files = self._in_turns(files)
        if not self.files:
            raise reading.wrong(
                f"holds no images in class folders ({', '.join(sorted(SUFFIXES))})",
                mend="lay them out as <class>/<file>",
            )

    def _in_turns(self, files: Sequence[str]) -> list[tuple[str, int]]:
        images = sorted(n for n in files if "/" in n and Path(n).suffix.lower() in SUFFIXES)
        turn: dict[str, int] = {}
        ordered = []
        for name in images:
            label = name.split("/")[0]
            turn[label] = turn.get(label, 0) + 1
            ordered.append((turn[label], self.classes.index(label), name))
        return [(name, label) for _, label, name in sorted(ordered)]

    def _count(self) -> int:
        return len(self.files)

    def _batches(self, size: int, length: int | None, limit: int) -> Iterator[Batch]:
        for start in range(0, limit, size):
            chosen = self.files[start : min(start + size, limit)]
            pixels = [self._pixels(name) for name, _ in chosen]
            if len({p.shape for p in pixels}) > 1:
                raise self.reading.wrong("images differ in size after resizing", part="image.crop", mend="state a crop")
            value = np.stack(pixels)
            check_tensor(self.reading, self.tensor, value, start)
            yield Batch({self.tensor.name: value}, np.array([label for _, label in chosen], np.int64))

    def _pixels(self, name: str) -> Array:
        try:
            with Image.open(self.folder / name) as image:
                return preprocess(image, self.spec, self.tensor.dtype.value)
        except (UnidentifiedImageError, OSError, SyntaxError, Image.DecompressionBombError) as error:
            raise self.reading.wrong(f"{name} is not a readable image: {error}", mend="remove or repair it") from error

    def _digests(self) -> Iterator[bytes]:
        for name, _ in self.files:
            yield hashlib.sha256((self.folder / name).read_bytes()).digest()

    def _stored_labels(self) -> Iterator[bytes]:
        return (str(label).encode() for _, label in self.files)


def preprocess(image: Image.Image, spec: ImagePreprocessing, dtype: str) -> Array:
    """One image as the model takes it, without the batch axis.

    Bilinear resize of the shorter side, centred crop, scaled to 0..1, (x - mean) / std per channel. uint8 stays 0..255.
    """
    pixels = np.asarray(
        _cropped(_resized(image.convert("L" if spec.channels == "L" else "RGB"), spec.resize), spec.crop)
    )
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    pixels = pixels[..., ::-1] if spec.channels == "BGR" else pixels
    if dtype != "uint8":
        mean, std = (np.array([float(v) for v in values], np.float32) for values in (spec.mean, spec.std))
        pixels = ((pixels.astype(np.float32) / 255 - mean) / std).astype(dtype)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1) if spec.layout == "NCHW" else pixels)


def _resized(image: Image.Image, shorter: int) -> Image.Image:
    scale = shorter / min(image.size)
    size = (max(shorter, round(image.width * scale)), max(shorter, round(image.height * scale)))
    return image if size == image.size else image.resize(size, Image.Resampling.BILINEAR)


def _cropped(image: Image.Image, size: int | None) -> Image.Image:
    if size is None:
        return image
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))
