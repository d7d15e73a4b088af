"""What may be done to a model. A step is `type` plus the member of that name; the order is the user's."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from strop_api.base import ApiModel, Decimal, Digest, ListSet, Name, Percent, Ratio, Text, Uri
from strop_api.retired import Retirable

Pattern = Annotated[str, Text(256)]
OpType = Annotated[str, Text(128, r"^[A-Za-z][A-Za-z0-9_.]*$")]
Epochs = Annotated[int, Field(ge=1, le=10_000)]
LearningRate = Annotated[str, Text(16, r"^[0-9]+(\.[0-9]+)?(e-?[0-9]{1,2})?$")]


class StepType(StrEnum):
    """Kinds of steps, in the order that makes sense for most runs."""

    MERGE = "Merge"
    PRUNE = "Prune"
    COMPACT = "Compact"
    FINE_TUNE = "FineTune"
    DISTIL = "Distil"
    QUANTIZE = "Quantize"


class Training(ApiModel):
    """How weights are trained, shared by every training step."""

    epochs: Epochs = 1
    """Passes over the training data."""
    learning_rate: LearningRate = "0.0001"
    """Peak learning rate."""
    batch_size: Annotated[int, Field(ge=1, le=65_536)] = 32
    """Samples per step."""
    weight_decay: LearningRate = "0"
    """Decoupled weight decay."""
    early_stopping_epochs: Annotated[int, Field(ge=1, le=1000)] | None = None
    """Stop when the validation metric has not improved for this many epochs; the best weights are kept."""


class MergeStep(ApiModel):
    """LoRA adapters are merged into the base weights."""

    adapters: Annotated[list[Uri], Field(min_length=1, max_length=8)]
    """Adapters in peft's format (safetensors), merged in this order."""


class PruneMethod(StrEnum):
    """Structured removes channels and heads; the others set weights to zero."""

    STRUCTURED = "Structured"
    UNSTRUCTURED = "Unstructured"
    TWO_FOUR = "TwoFour"


class PruneSchedule(StrEnum):
    """One shot, or in rounds with training between."""

    ONE_SHOT = "OneShot"
    CUBIC = "Cubic"


class PruneStep(ApiModel):
    """Weights are removed."""

    method: PruneMethod
    """What is removed."""
    amount: Percent = "50%"
    """Share of channels (Structured) or weights (Unstructured) removed. TwoFour: always half."""
    scope: Literal["Global", "PerLayer"] = "Global"
    """Whether layers compete with one another."""
    ignore: Annotated[list[Pattern], ListSet(64)] = []
    """Layers left alone, as shell patterns of module names."""
    schedule: PruneSchedule = PruneSchedule.ONE_SHOT
    """How the amount is reached."""
    rounds: Annotated[int, Field(ge=1, le=100)] = 1
    """Rounds of the schedule."""


class CompactStep(ApiModel):
    """Channels that a mask has zeroed are removed for real."""

    ignore: Annotated[list[Pattern], ListSet(64)] = []
    """Layers left alone, as shell patterns of module names."""


class FineTuneStep(Training):
    """Weights are trained with the task's own loss, to recover what another step lost."""


class DistilStep(Training):
    """A student learns from a teacher."""

    teacher: Uri | None = None
    """Weights of the teacher; the original model by default."""
    teacher_digest: Digest | None = None
    """Pin of the teacher."""
    temperature: Ratio = "2.0"
    """Softens both distributions (Hinton et al., 2015)."""
    hard_label_weight: Percent = "50%"
    """Share of the task's own loss."""
    features: bool = False
    """Also match hidden features through learned projections."""


class Precision(StrEnum):
    """Number format of the quantized weights and, where the method says so, activations."""

    INT8 = "int8"
    FP16 = "fp16"
    BF16 = "bf16"
    FP8 = "fp8"
    INT4 = "int4"


class QuantizeMethod(StrEnum):
    """How precision is reduced."""

    STATIC = "Static"
    DYNAMIC = "Dynamic"
    CAST = "Cast"
    WEIGHT_ONLY = "WeightOnly"
    QAT = "QAT"
    AUTO = "Auto"


class Calibrator(StrEnum):
    """How a range is chosen from what was observed."""

    MIN_MAX = "MinMax"
    ENTROPY = "Entropy"
    PERCENTILE = "Percentile"
    MSE = "MSE"


class QuantizeStep(ApiModel):
    """Precision is reduced. Signedness and symmetry follow from the target's runtime, not from the user."""

    precision: Precision
    """Number format."""
    method: QuantizeMethod
    """Static observes ranges on calibration data, Dynamic at run time; Cast is for fp16 and bf16; WeightOnly rounds
    weights to 4 bits. QAT and Auto are not in this release."""
    calibrator: Annotated[Calibrator, Retirable("spec.steps[].quantize.calibrator")] = Calibrator.MIN_MAX
    """Static only: how a range is chosen. MinMax keeps all that was seen, Percentile and Entropy clip. For OpenVINO
    MinMax or Percentile; MSE is not in this release."""
    percentile: Annotated[str, Text(8, r"^(100|[0-9]{1,2})(\.[0-9]{1,5})?$")] = "99.99"
    """Percentile only: share of observed magnitudes kept."""
    per_channel: bool = True
    """One scale per output channel of a weight; false: one for all of it. Inductor needs true."""
    op_types: Annotated[list[OpType], ListSet(64)] = []
    """Quantize only these ONNX operators. Empty: all that the runtime quantizes."""
    exclude_nodes: Annotated[list[Pattern], ListSet(256)] = []
    """Nodes kept in high precision, as shell patterns of node names."""
    smooth_quant: Ratio | None = None
    """Static only: migrate outliers into weights with this strength (SmoothQuant, Xiao et al., 2023); 0.5 is usual."""
    group_size: Annotated[int, Field(ge=16, le=1024)] = 128
    """WeightOnly only: weights that share a scale; they are rounded to nearest."""
    training: Training | None = None
    """QAT only: how the fake-quantized model is trained."""
    budget_seconds: Annotated[int, Field(ge=1, le=604_800)] | None = None
    """Auto only: time for the search over recipes."""
    keep_high: Decimal | None = None
    """Auto only: largest validation-metric loss (points) accepted before layers are kept high."""


RESERVED = frozenset(
    {
        "export", "compile", "compile-original", "compile-fp16", "compile-bf16", "cast-fp16", "cast-bf16", "verify",
        "compile-dense", "benchmark", "check-data", "check-graph", "start",
    }
)  # fmt: skip
"""Names that a step may not have: stages of every run have them."""
RESERVED_PREFIXES = ("resolve-", "bundle-", "audit-", "benchmark-")
"""So have all that begin with these: inputs are looked up, bundles for servers made, checks and further looks taken
under such names."""


class Step(ApiModel):
    """One step: `type`, and the member of that name."""

    name: Name
    """Name of the step, unique in the run; used in status, report and records."""
    type: StepType
    """Which member is set."""
    merge: MergeStep | None = None
    """Set when type is Merge."""
    prune: PruneStep | None = None
    """Set when type is Prune."""
    compact: CompactStep | None = None
    """Set when type is Compact."""
    fine_tune: FineTuneStep | None = None
    """Set when type is FineTune."""
    distil: DistilStep | None = None
    """Set when type is Distil."""
    quantize: QuantizeStep | None = None
    """Set when type is Quantize."""

    @property
    def config(self) -> ApiModel | None:
        """The member that `type` names."""
        value = getattr(self, MEMBERS[self.type])
        return value if isinstance(value, ApiModel) else None


MEMBERS: dict[StepType, str] = {
    StepType.MERGE: "merge",
    StepType.PRUNE: "prune",
    StepType.COMPACT: "compact",
    StepType.FINE_TUNE: "fine_tune",
    StepType.DISTIL: "distil",
    StepType.QUANTIZE: "quantize",
}
TRAINING_STEPS = frozenset({StepType.FINE_TUNE, StepType.DISTIL})
TORCH_STEPS = frozenset({StepType.MERGE, StepType.PRUNE, StepType.COMPACT, *TRAINING_STEPS})
