"""Samples for calibration and evaluation: one reader a format, all streaming, all saying clearly what is wrong.

A reader's libraries are imported when its format is read, not before.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from strop_api.data import DataFormat, DataSource
from strop_api.optimization import ModelOptimizationSpec
from strop_job.data.samples import Batch, Reading, Samples, check_disjoint
from strop_job.errors import InvalidInput
from strop_job.stages import Artifact

if TYPE_CHECKING:
    from strop_job.data.tokens import TextEncoder

TOKENIZER = "tokenizer.json"

__all__ = ["Batch", "Samples", "check_disjoint", "open_samples"]


def open_samples(artifact: Artifact, source: DataSource, spec: ModelOptimizationSpec, role: str) -> Samples:
    """The samples of `spec.data.<role>`, from the DATA artifact that its resolve stage yielded.

    Raises InvalidInput when files, columns or arrays are missing, empty or not what the format says.
    """
    reading = Reading.of(source, spec, role)
    files = [name for name in artifact.files if name != TOKENIZER or source.tokenizer is None]
    match source.format:
        case DataFormat.NPZ:
            from strop_job.data.npz import NpzSamples

            return NpzSamples(_single(artifact, files, ".npz", reading), reading)
        case DataFormat.IMAGE_FOLDER:
            from strop_job.data.images import ImageSamples

            return ImageSamples(artifact.folder, files, reading)
        case DataFormat.PARQUET:
            from strop_job.data.parquet import ParquetSamples

            found = sorted(name for name in files if name.endswith(".parquet")) or files[:1]
            encoder = _encoder(artifact, reading) if source.tokenizer else None
            return ParquetSamples([artifact.folder / name for name in found], reading, encoder)
        case DataFormat.TEXT:
            from strop_job.data.text import TextSamples

            return TextSamples(_single(artifact, files, ".txt", reading), reading, _encoder(artifact, reading))


def _single(artifact: Artifact, files: list[str], suffix: str, reading: Reading) -> Path:
    found = files if len(files) == 1 else [name for name in files if name.endswith(suffix)]
    if len(found) != 1:
        raise reading.wrong(f"expected one *{suffix} file, found {', '.join(files[:5]) or 'none'}")
    return artifact.folder / found[0]


def _encoder(artifact: Artifact, reading: Reading) -> "TextEncoder":
    from strop_job.data.tokens import TextEncoder

    if reading.source.tokenizer is None:
        raise InvalidInput("text needs a tokenizer", field=f"{reading.field}.tokenizer", mend="name a tokenizer.json")
    return TextEncoder(artifact.folder / TOKENIZER, reading)
