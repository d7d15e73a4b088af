"""What is optimized: the model's files, its architecture, inputs and dynamic dimensions."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, JsonValue

from strop_api.base import ApiModel, Callable, Digest, DimensionName, ListMap, TensorName, Uri
from strop_api.retired import Retirable


class ModelFormat(StrEnum):
    """How the model is stored."""

    ONNX = "Onnx"
    SAFETENSORS = "Safetensors"
    TORCH_EXPORT = "TorchExport"


class DType(StrEnum):
    """Element type of a tensor, in NumPy's names."""

    FLOAT32 = "float32"
    FLOAT16 = "float16"
    INT64 = "int64"
    INT32 = "int32"
    UINT8 = "uint8"
    BOOL = "bool"


class CodeSource(ApiModel):
    """Python source outside the image. It is code: only with the policy's `allowCode`, and always pinned."""

    uri: Uri
    """Where the source file lies."""
    digest: Digest
    """SHA-256 of the source file."""


class Architecture(ApiModel):
    """The code that builds the module into which weights are loaded."""

    callable: Callable
    """`package.module:function` in the image (or `source`); called with `arguments` it returns a torch module."""
    arguments: Annotated[dict[str, JsonValue], Field(max_length=64)] = {}
    """Keyword arguments of the callable."""
    source: CodeSource | None = None
    """Source of the callable outside the image; refused unless the policy allows code."""


class InputTensor(ApiModel):
    """One input of the model."""

    name: TensorName
    """Name of the input, as the graph or the module's `forward` spells it."""
    dtype: DType
    """Element type."""
    shape: Annotated[list[Annotated[int, Field(ge=1, le=2**31 - 1)] | DimensionName], Field(max_length=8)]
    """Each entry is a fixed size or the name of one of `dimensions`."""


class Dimension(ApiModel):
    """A dimension that stays dynamic in the exported model and the engine."""

    name: DimensionName
    """Name used in `inputs[].shape`."""
    min: Annotated[int, Field(ge=1, le=1_000_000)]
    """Smallest size served."""
    opt: Annotated[int, Field(ge=1, le=1_000_000)]
    """Size the engine is tuned for and benchmarked at."""
    max: Annotated[int, Field(ge=1, le=1_000_000)]
    """Largest size served."""


class ModelSource(ApiModel):
    """The trained model."""

    uri: Uri
    """File or folder with the weights. A folder's digest is taken over its sorted file names and digests."""
    digest: Digest | None = None
    """Pin: when the content has another digest the run ends with InvalidInput."""
    format: Annotated[ModelFormat, Retirable("spec.model.format")]
    """How the model is stored."""
    architecture: Architecture | None = None
    """Needed for Safetensors; meaningless for the other formats."""
    inputs: Annotated[list[InputTensor], ListMap(16, min_length=1)]
    """Every input of the model."""
    dimensions: Annotated[list[Dimension], ListMap(8)] = []
    """Dynamic dimensions. None: every size is fixed."""


class TaskType(StrEnum):
    """What the model does; fixes the loss and which metrics apply."""

    CLASSIFICATION = "Classification"
    REGRESSION = "Regression"
    TOKEN_CLASSIFICATION = "TokenClassification"  # noqa: S105 - not a secret
    RETRIEVAL = "Retrieval"
    DETECTION = "Detection"
    LANGUAGE_MODELING = "LanguageModeling"
    CUSTOM = "Custom"


class Metric(StrEnum):
    """What is measured on the evaluation data."""

    ACCURACY = "accuracy"
    F1_MACRO = "f1_macro"
    RECALL_AT_1 = "recall_at_1"
    MRR = "mrr"
    MSE = "mse"
    MAE = "mae"
    PERPLEXITY = "perplexity"
    MAP = "map"
    CUSTOM = "custom"


BOUNDED = frozenset({Metric.ACCURACY, Metric.F1_MACRO, Metric.RECALL_AT_1, Metric.MRR, Metric.MAP})
"""Metrics from 0 to 1; larger is better."""
ERRORS = frozenset({Metric.MSE, Metric.MAE, Metric.PERPLEXITY})
"""Metrics above 0, without an upper end; smaller is better."""


class TaskSpec(ApiModel):
    """What the model is judged by."""

    type: TaskType
    """Kind of task."""
    metric: Metric
    """Figure of merit; its direction is known."""
    labels: TensorName
    """Array or column with the labels. Retrieval: the column with the document that answers the row's text."""
    output: TensorName | None = None
    """The output to judge; the first one by default."""
    callable: Callable | None = None
    """For `custom`: `package.module:function` in the worker image, from outputs and labels to one figure per sample."""
    direction: Literal["Maximize", "Minimize"] | None = None
    """For `custom`: which way is better. Others know it."""
