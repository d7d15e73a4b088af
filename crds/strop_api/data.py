"""The data a run may look at: four disjoint sets, each with one purpose."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from strop_api.base import ApiModel, Decimal, Digest, TensorName, Uri


class DataFormat(StrEnum):
    """How samples are stored."""

    NPZ = "Npz"
    PARQUET = "Parquet"
    IMAGE_FOLDER = "ImageFolder"
    TEXT = "Text"


class Tokenizer(ApiModel):
    """Turns text into token ids with a `tokenizer.json` (Hugging Face tokenizers)."""

    uri: Uri
    """The `tokenizer.json`."""
    digest: Digest | None = None
    """Pin of its content."""
    column: TensorName | None = None
    """Parquet: the column with the text. Text files have one text a line."""
    max_length: Annotated[int, Field(ge=1, le=65_536)] = 128
    """Longer texts are truncated to this many tokens."""


class ImagePreprocessing(ApiModel):
    """From an image file to the model's input: resize, crop, scale, normalize, order."""

    resize: Annotated[int, Field(ge=1, le=8192)]
    """The shorter side is resized to this many pixels."""
    crop: Annotated[int, Field(ge=1, le=8192)] | None = None
    """Then a centred square of this many pixels is cut out."""
    mean: Annotated[list[Decimal], Field(min_length=1, max_length=3)] = ["0"]
    """Subtracted after scaling to 0..1: one entry for all channels, or one for each."""
    std: Annotated[list[Decimal], Field(min_length=1, max_length=3)] = ["1"]
    """Divided by: one entry for all channels, or one for each."""
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    """Order of the dimensions."""
    channels: Literal["RGB", "BGR", "L"] = "RGB"
    """Order of the channels; `L` is one channel of grey."""


class DataSource(ApiModel):
    """One set of samples."""

    uri: Uri
    """File or folder."""
    digest: Digest | None = None
    """Pin of the content; a mismatch ends the run."""
    format: DataFormat
    """How samples are stored. Npz: one array per input, first axis the samples. ImageFolder: one folder a class."""
    samples: Annotated[int, Field(ge=1, le=10_000_000)] | None = None
    """Use only this many samples, the first ones. All by default."""
    groups: TensorName | None = None
    """Npz: array, Parquet: column, with the group of each sample, such as its document or speaker. Samples of one group
    are not independent: intervals draw groups, and no group may stand in two sets."""
    tokenizer: Tokenizer | None = None
    """For text (formats Text and Parquet): how it becomes the model's inputs."""
    image: ImagePreprocessing | None = None
    """For ImageFolder: how an image becomes the model's input."""


class DataSpec(ApiModel):
    """Four sets, disjoint (checked), each with one purpose."""

    calibration: DataSource | None = None
    """Ranges of activations for static quantization are observed here."""
    training: DataSource | None = None
    """Training steps learn here."""
    validation: DataSource | None = None
    """Every choice (recipes, early stopping) is made here."""
    evaluation: DataSource
    """Read once, for the gates."""
