"""What can be read off Python programs that train, quantize or export, and what `strop doctor` could not read."""

from strop_api.checks.check import Check
from strop_api.findings import Severity

MISSING_CALIBRATION = Check(
    "source-missing-calibration",
    "Quantized without calibration",
    Severity.CRITICAL,
    "Static quantization learns the range of each activation from samples. A model converted with none has scales that "
    "mean nothing, and no error is raised.",
    "Run representative samples through the prepared model, or give the quantizer a reader that yields them.",
)
CONVERT_MISUSE = Check(
    "source-convert-misuse",
    "The conversion has no effect",
    Severity.HIGH,
    "prepare and convert return a new model unless told to work in place, and convert replaces only what prepare has "
    "observed. Otherwise the float model goes on, in silence.",
    "Use the model that prepare and convert return, in this order, or pass inplace=True where it exists.",
)
QUANTIZE_BEFORE_TRAIN = Check(
    "source-quantize-before-train",
    "Trained after quantization",
    Severity.HIGH,
    "A converted model has integer weights: it cannot be trained, or training moves weights away from the scales that "
    "were fitted to them.",
    "Train first and quantize last, or train with fake quantization (QAT) and convert after it.",
)
FP16_WITHOUT_SCALER = Check(
    "source-fp16-without-scaler",
    "FP16 training without loss scaling",
    Severity.HIGH,
    "Gradients below 6e-8 are zero in FP16, so layers stop learning in silence. Loss scaling keeps them in range "
    "(Micikevicius et al., Mixed Precision Training, 2018).",
    "Scale the loss with torch.amp.GradScaler, or use dtype=torch.bfloat16, which needs none.",
)
MISSING_DYNAMIC_SHAPES = Check(
    "source-missing-dynamic-shapes",
    "Exported for one batch size",
    Severity.MEDIUM,
    "Without dynamic shapes the example's batch and length become constants of the graph: other sizes are refused, or "
    "need another export. Wanted where only one size is served.",
    "Pass dynamic_shapes (or dynamic_axes) for the batch and every other dimension that varies.",
)
MISSING_EVALUATION = Check(
    "source-missing-evaluation",
    "Published without evaluation",
    Severity.MEDIUM,
    "Quantization and pruning change the model's answers by an amount that only a measurement tells; this program "
    "saves the result and never runs it.",
    "Run the optimized model on held-out data, compare with the original, and save it only if it holds.",
)
EXPORT_WITHOUT_CHECKER = Check(
    "source-export-without-checker",
    "Exported and never checked",
    Severity.LOW,
    "An export can succeed and yield a graph that no runtime loads, or one that answers differently; this program "
    "never opens the file it writes.",
    "Pass verify=True, or call onnx.checker.check_model and compare with the original in a runtime.",
)
MISSING_OPSET = Check(
    "source-missing-opset",
    "Exported with no opset asked for",
    Severity.LOW,
    "The exporter's default opset changes between releases, and a runtime refuses what is newer than it is: the same "
    "program makes another file tomorrow.",
    "Pass opset_version with the newest opset that the target runtime reads.",
)
TRAIN_MODE_EXPORT = Check(
    "source-train-mode-export",
    "Exported in training mode",
    Severity.HIGH,
    "In training mode dropout drops and batch normalization uses the batch at hand; both are frozen into the graph.",
    "Call model.eval() before exporting or tracing.",
)
REMOVED_API = Check(
    "source-removed-api",
    "An API that is gone",
    Severity.HIGH,
    "The library's current release no longer has it: the program fails when it reaches this line.",
    "Move to the replacement that the message names.",
)
DEPRECATED_API = Check(
    "source-deprecated-api",
    "An API that is going",
    Severity.LOW,
    "The library says that it will be removed; until then it gets no new operators, formats or fixes.",
    "Move to the replacement that the message names.",
)
UNKNOWN_SUPPRESSION = Check(
    "source-unknown-suppression",
    "A suppression of nothing",
    Severity.LOW,
    "A comment `# strop: ignore[name]` names no check of the catalogue, so it suppresses nothing: a typing error, or a "
    "check of another release.",
    "Write the name of a check, as it stands in the report, or remove the comment.",
)
SPEC_INVALID = Check(
    "spec-invalid",
    "A spec that is refused at admission",
    Severity.CRITICAL,
    "The resource breaks a rule of the API: the API server would refuse it, and no run would start.",
    "Change the field as the message says; the reference page lists each field's bounds.",
)
SPEC_UNSUPPORTED = Check(
    "spec-unsupported",
    "A spec that this build cannot carry out",
    Severity.HIGH,
    "The API can express it and this release cannot do it: the run would end with Unsupported before it starts.",
    "Choose what the support table lists for the target's runtime.",
)
NOT_READ = Check(
    "source-not-read",
    "Not read",
    Severity.LOW,
    "What could not be read was not checked: nothing is known of it.",
    "Mend the file, or leave it out.",
)

CHECKS: tuple[Check, ...] = (
    MISSING_CALIBRATION,
    CONVERT_MISUSE,
    QUANTIZE_BEFORE_TRAIN,
    FP16_WITHOUT_SCALER,
    MISSING_DYNAMIC_SHAPES,
    MISSING_EVALUATION,
    EXPORT_WITHOUT_CHECKER,
    MISSING_OPSET,
    TRAIN_MODE_EXPORT,
    REMOVED_API,
    DEPRECATED_API,
    UNKNOWN_SUPPRESSION,
    SPEC_INVALID,
    SPEC_UNSUPPORTED,
    NOT_READ,
)
