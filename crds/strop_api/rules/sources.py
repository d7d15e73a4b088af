"""Rules on the model, the task and the data."""

from collections.abc import Iterator

from strop_api.data import DataFormat, DataSource, DataSpec, ImagePreprocessing
from strop_api.model import (
    Dimension,
    Metric,
    ModelFormat,
    ModelSource,
    TaskSpec,
    TaskType,
)
from strop_api.optimization import ModelOptimizationSpec
from strop_api.rules.rule import Rule, quoted

METRICS: dict[TaskType, tuple[Metric, ...]] = {
    TaskType.CLASSIFICATION: (Metric.ACCURACY, Metric.F1_MACRO, Metric.CUSTOM),
    TaskType.REGRESSION: (Metric.MSE, Metric.MAE, Metric.CUSTOM),
    TaskType.TOKEN_CLASSIFICATION: (Metric.ACCURACY, Metric.F1_MACRO, Metric.CUSTOM),
    TaskType.RETRIEVAL: (Metric.RECALL_AT_1, Metric.MRR, Metric.CUSTOM),
    TaskType.DETECTION: (Metric.MAP, Metric.CUSTOM),
    TaskType.LANGUAGE_MODELING: (Metric.PERPLEXITY, Metric.CUSTOM),
    TaskType.CUSTOM: (Metric.CUSTOM,),
}
"""Which metrics a task may be judged by."""

SETS = ("calibration", "training", "validation", "evaluation")

URIS = (
    "spec.model.uri",
    "spec.model.architecture.source.uri",
    *(f"spec.data.{name}.uri" for name in SETS),
    *(f"spec.data.{name}.tokenizer.uri" for name in SETS),
    "spec.steps[].merge.adapters[]",
    "spec.steps[].distil.teacher",
    "spec.output.uri",
)
"""Every place of a spec that names where something lies."""


def _no_climbing(uri: str) -> bool:
    return ".." not in uri.split("/")


def _uri_rules() -> Iterator[Rule]:
    for place in URIS:
        yield Rule(
            "uri-stays-below-its-root",
            place,
            "!self.contains('/../') && !self.endsWith('/..')",
            _no_climbing,
            "`..` is not resolved: write the address out",
        )
        yield Rule(
            "no-file-in-a-cluster",
            place,
            "!self.startsWith('file://')",
            lambda uri: not uri.startswith("file://"),
            "file:// works on the command line only: put it into an object store and name it by s3://",
            cluster_only=True,
        )


def _shapes_declared(model: ModelSource) -> bool:
    names = {dimension.name for dimension in model.dimensions}
    return all(isinstance(size, int) or size in names for tensor in model.inputs for size in tensor.shape)


def _dimensions_used(model: ModelSource) -> bool:
    used = {size for tensor in model.inputs for size in tensor.shape}
    return all(dimension.name in used for dimension in model.dimensions)


def _min_opt(dimension: Dimension) -> bool:
    return dimension.min <= dimension.opt


def _opt_max(dimension: Dimension) -> bool:
    return dimension.opt <= dimension.max


def _architecture(model: ModelSource) -> bool:
    return (model.format is ModelFormat.SAFETENSORS) == (model.architecture is not None)


def _pinned_code(model: ModelSource) -> bool:
    return model.format is not ModelFormat.TORCH_EXPORT or model.digest is not None


MODEL = (
    Rule(
        "shapes-are-declared",
        "spec.model",
        "self.inputs.all(i, i.shape.all(s, type(s) == int || "
        "(has(self.dimensions) && self.dimensions.exists(d, d.name == s))))",
        _shapes_declared,
        "a shape names a dimension that is not declared: add it to spec.model.dimensions, or write a number",
        ".inputs",
    ),
    Rule(
        "dimensions-are-used",
        "spec.model",
        "!has(self.dimensions) || self.dimensions.all(d, self.inputs.exists(i, i.shape.exists(s, s == d.name)))",
        _dimensions_used,
        "a dimension is not used in any input's shape: use it there or remove it",
        ".dimensions",
    ),
    Rule(
        "min-up-to-opt",
        "spec.model.dimensions[]",
        "self.min <= self.opt",
        _min_opt,
        "opt must not be smaller than min",
        ".opt",
    ),
    Rule(
        "opt-up-to-max",
        "spec.model.dimensions[]",
        "self.opt <= self.max",
        _opt_max,
        "max must not be smaller than opt",
        ".max",
    ),
    Rule(
        "architecture-with-safetensors",
        "spec.model",
        "(self.format == 'Safetensors') == has(self.architecture)",
        _architecture,
        "format Safetensors needs an architecture to load the weights into; Onnx and TorchExport bring their own",
        ".architecture",
    ),
    Rule(
        "code-is-pinned",
        "spec.model",
        "self.format != 'TorchExport' || has(self.digest)",
        _pinned_code,
        "a TorchExport file is code that the worker runs: pin it with its sha256 digest",
        ".digest",
    ),
)


def _metric(task: TaskSpec) -> bool:
    return task.metric in METRICS[task.type]


def _callable(task: TaskSpec) -> bool:
    return (task.metric is Metric.CUSTOM) == (task.callable is not None)


def _direction(task: TaskSpec) -> bool:
    return (task.metric is Metric.CUSTOM) == (task.direction is not None)


TASK = (
    Rule(
        "metric-of-the-task",
        "spec.task",
        f"(self.type + '/' + self.metric) in {quoted(f'{task}/{m}' for task, ms in METRICS.items() for m in ms)}",
        _metric,
        "the task has no such metric: "
        + "; ".join(f"{task}: {', '.join(metrics)}" for task, metrics in METRICS.items()),
        ".metric",
    ),
    Rule(
        "custom-metric-has-a-callable",
        "spec.task",
        "(self.metric == 'custom') == has(self.callable)",
        _callable,
        "metric custom needs a callable, no other metric takes one",
        ".callable",
    ),
    Rule(
        "custom-metric-has-a-direction",
        "spec.task",
        "(self.metric == 'custom') == has(self.direction)",
        _direction,
        "metric custom needs a direction (Maximize or Minimize), the others know theirs",
        ".direction",
    ),
)


def _text_is_tokenized(data: DataSource) -> bool:
    return data.format is not DataFormat.TEXT or data.tokenizer is not None


def _tokenizer_fits(data: DataSource) -> bool:
    return data.tokenizer is None or data.format in (DataFormat.TEXT, DataFormat.PARQUET)


def _column(data: DataSource) -> bool:
    return data.tokenizer is None or (data.format is DataFormat.PARQUET) == (data.tokenizer.column is not None)


def _image(data: DataSource) -> bool:
    return (data.format is DataFormat.IMAGE_FOLDER) == (data.image is not None)


def _crop(image: ImagePreprocessing) -> bool:
    return image.crop is None or image.crop <= image.resize


def _per_channel(entries: list[str], image: ImagePreprocessing) -> bool:
    return len(entries) in (1, len(image.channels))


def _mean(image: ImagePreprocessing) -> bool:
    return _per_channel(image.mean, image)


def _std(image: ImagePreprocessing) -> bool:
    return _per_channel(image.std, image) and all(float(entry) > 0 for entry in image.std)


def _source_rules(place: str) -> tuple[Rule, ...]:
    return (
        Rule(
            "text-has-a-tokenizer",
            place,
            "self.format != 'Text' || has(self.tokenizer)",
            _text_is_tokenized,
            "format Text needs a tokenizer",
            ".tokenizer",
        ),
        Rule(
            "tokenizer-has-text",
            place,
            "!has(self.tokenizer) || self.format in ['Text', 'Parquet']",
            _tokenizer_fits,
            "a tokenizer goes with the formats Text and Parquet: remove it",
            ".tokenizer",
        ),
        Rule(
            "tokenizer-has-a-column",
            place,
            "!has(self.tokenizer) || (self.format == 'Parquet') == has(self.tokenizer.column)",
            _column,
            "name the Parquet column with the text; other formats have no columns",
            ".tokenizer.column",
        ),
        Rule(
            "image-folder-has-preprocessing",
            place,
            "(self.format == 'ImageFolder') == has(self.image)",
            _image,
            "format ImageFolder needs image (at least resize), the others do not take it",
            ".image",
        ),
        Rule(
            "crop-fits",
            f"{place}.image",
            "!has(self.crop) || self.crop <= self.resize",
            _crop,
            "crop must not be larger than resize",
            ".crop",
        ),
        Rule(
            "mean-per-channel",
            f"{place}.image",
            "self.mean.size() in [1, self.channels.size()]",
            _mean,
            "one entry for all channels, or one for each",
            ".mean",
        ),
        Rule(
            "std-per-channel",
            f"{place}.image",
            "self.std.size() in [1, self.channels.size()] && self.std.all(s, double(s) > 0.0)",
            _std,
            "one entry above zero for all channels, or one for each",
            ".std",
        ),
    )


def _disjoint(name: str, *others: str) -> Rule:
    """A set may not be one of those before it."""

    def holds(data: DataSpec) -> bool:
        mine = getattr(data, name)
        named = (getattr(data, other) for other in others)
        return mine is None or all(other is None or other.uri != mine.uri for other in named)

    cel = " && ".join(f"(!has(self.{other}) || self.{other}.uri != self.{name}.uri)" for other in others)
    return Rule(
        f"{name}-is-apart",
        "spec.data",
        cel if name == "evaluation" else f"!has(self.{name}) || ({cel})",
        holds,
        f"the {name} set must not be the {' or the '.join(others)} set: the four sets are disjoint",
        f".{name}.uri",
    )


def _other_content(name: str, *others: str) -> Rule:
    """A set pinned to the content of one before it is that set under another address."""

    def holds(data: DataSpec) -> bool:
        mine = getattr(data, name)
        named = (getattr(data, other) for other in others)
        return mine is None or mine.digest is None or all(o is None or o.digest != mine.digest for o in named)

    cel = " && ".join(
        f"(!has(self.{other}) || !has(self.{other}.digest) || self.{other}.digest != self.{name}.digest)"
        for other in others
    )
    return Rule(
        f"{name}-has-other-content",
        "spec.data",
        f"!has(self.{name}) || !has(self.{name}.digest) || ({cel})",
        holds,
        f"the {name} set has the digest of the {' or the '.join(others)} set: the four sets are disjoint",
        f".{name}.digest",
    )


def _labelled(spec: ModelOptimizationSpec) -> bool:
    return spec.data.evaluation.format is not DataFormat.TEXT or spec.task.type is TaskType.LANGUAGE_MODELING


DATA = (
    *(rule for name in SETS for rule in _source_rules(f"spec.data.{name}")),
    _disjoint("training", "calibration"),
    _disjoint("validation", "calibration", "training"),
    _disjoint("evaluation", "calibration", "training", "validation"),
    _other_content("training", "calibration"),
    _other_content("validation", "calibration", "training"),
    _other_content("evaluation", "calibration", "training", "validation"),
    Rule(
        "evaluation-has-labels",
        "spec",
        "self.data.evaluation.format != 'Text' || self.task.type == 'LanguageModeling'",
        _labelled,
        "plain text has no labels to judge by: use Parquet with a text and a label column",
        ".data.evaluation.format",
    ),
    *_uri_rules(),
)
