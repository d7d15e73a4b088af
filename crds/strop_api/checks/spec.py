"""What can be read off a spec before anything runs: golden rules and questionable orders."""

from strop_api.checks.check import Check
from strop_api.findings import Severity

PRUNE_WITHOUT_RECOVERY = Check(
    "prune-without-recovery",
    "Pruning with no recovery",
    Severity.HIGH,
    "What pruning takes from the weights, training must give back; without it the loss stays.",
    "add a FineTune or Distil step after Prune",
)
TRAINING_BEFORE_PRUNE = Check(
    "training-before-prune",
    "Training that pruning undoes",
    Severity.MEDIUM,
    "Pruning removes part of what was just learned, so that the training is partly wasted.",
    "prune first, then recover",
)
MERGE_AFTER_TRAINING = Check(
    "merge-after-training",
    "Adapters merged after training",
    Severity.HIGH,
    "Adapters are differences to the original weights; added to others they mean something else.",
    "merge them before any other training",
)
PRUNE_MOST = Check(
    "prune-most",
    "Nearly all weights pruned",
    Severity.HIGH,
    "With 80% of its weights gone a model seldom comes back to its accuracy, whatever the recovery.",
    "try quantization alone first, then a smaller amount",
)
FEW_CALIBRATION_SAMPLES = Check(
    "calibration-few-asked",
    "Few calibration samples asked for",
    Severity.MEDIUM,
    "A few samples seldom show the range of activations; usual are 100 to 1,000.",
    "raise spec.data.calibration.samples, or leave it out",
)
DATA_UNUSED = Check(
    "data-unused",
    "Data that nothing reads",
    Severity.LOW,
    "A set that no step uses suggests that the steps are not what was meant.",
    "remove the set, or add the step that uses it",
)
HALF_ON_A_CPU = Check(
    "half-precision-on-cpu",
    "Half precision on a processor",
    Severity.MEDIUM,
    "Few processors compute in 16 bits: the file becomes smaller and the model seldom faster. Not said of OpenVINO and "
    "Inductor where cpu.isa names one that does, such as avx512_bf16, amx_bf16 or avx512_fp16.",
    "choose int8, an accelerator, or OpenVINO or Inductor and the cpu.isa of a processor that computes in 16 bits",
)
FLATTERING_BASELINE = Check(
    "flattering-baseline",
    "A slow baseline",
    Severity.MEDIUM,
    "FP16 is slow on a processor, so that a ratio over it flatters.",
    "set spec.gates.speedup.over to BestUnquantized",
)
POINT_ESTIMATE = Check(
    "point-estimate",
    "A gate that luck may pass",
    Severity.LOW,
    "With few samples the interval is wide, and a model that is really worse may pass by its point estimate.",
    "evaluate on as many samples as are named or widen the bound, then set spec.gates.metricDrop.confidence",
)
BUILT_NOT_MEASURED = Check(
    "built-not-measured",
    "Built without its hardware",
    Severity.MEDIUM,
    "An engine that never ran has neither speed nor accuracy: it is kept beside the report and not published.",
    "give the target an accelerator",
)
TURING_BESIDE_OTHERS = Check(
    "turing-beside-others",
    "An old device beside newer ones",
    Severity.MEDIUM,
    "One engine for all uses only what the oldest device has.",
    "give the oldest device a resource of its own",
)
FORMAT_SKIPPED = Check(
    "format-skipped",
    "A format that cannot be made here",
    Severity.MEDIUM,
    "Converters for devices are optional extras of the worker image; without one its format is left out.",
    "use an image with the converter, or leave the format out of spec.output.formats",
)
FORMAT_IS_NOT_THE_ENGINE = Check(
    "format-differs",
    "A format that is not the engine",
    Severity.LOW,
    "What is published beside the engine was made from another form of the model, and was not measured.",
    "measure it before you use it",
)
OTHER_PRODUCT = Check(
    "other-hardware",
    "Measured on other hardware",
    Severity.HIGH,
    "Latency is a property of the engine and the device together; another product has other figures.",
    "run on a node with the target's product, or name the product that is there",
)
NO_METRIC_GATE = Check(
    "no-metric-gate",
    "Gates that leave the metric out",
    Severity.HIGH,
    "The loss of at most 1 point applies only where no gate is given at all: with gates on speed or size alone a model "
    "of any accuracy is published.",
    "set spec.gates.metricDrop or spec.gates.metricMin beside them",
)
GATE_CANNOT_FAIL = Check(
    "gate-cannot-fail",
    "A gate that every model passes",
    Severity.MEDIUM,
    "A bound beyond all possible figures says nothing of the model, and looks as if it did.",
    "set a bound that a bad model would miss",
)
SLOWER_PASSES = Check(
    "slower-passes",
    "A speed gate that a slower model passes",
    Severity.LOW,
    "A speed-up below 1 is a slow-down; that may be meant where size is the aim.",
    "set spec.gates.speedup.min to 1.0 or more, or leave the gate out",
)
OVER_FULL_PRECISION = Check(
    "over-full-precision",
    "Half precision for free on the device",
    Severity.LOW,
    "On an accelerator a cast to FP16 needs no calibration and costs hardly any accuracy: what quantization adds is "
    "its speed over that, not over FP32.",
    "set spec.gates.speedup.over to BestUnquantized",
)
HARDWARE_NOT_PINNED = Check(
    "hardware-not-pinned",
    "Figures of whatever node took the pod",
    Severity.MEDIUM,
    "Latency and throughput belong to one processor or device. A bound in microseconds means nothing where the "
    "scheduler may choose another each time.",
    "name accelerator.product, or cpu.isa, or select nodes by spec.worker.nodeSelector",
)
MORE_THREADS_THAN_CORES = Check(
    "more-threads-than-cores",
    "More threads than cores",
    Severity.MEDIUM,
    "Threads beyond the container's processor time wait for one another: the kernel throttles all of them, and p99 "
    "suffers most.",
    "raise spec.worker.resources.limits.cpu to cpu.threads, or lower cpu.threads",
)
GATED_AT_SMALLEST = Check(
    "throughput-at-smallest-batch",
    "Throughput gated where it is lowest",
    Severity.LOW,
    "Gates on throughput hold at the optimum shape. A batch of 1 where many are served at once measures latency again.",
    "set the dimension's opt to the batch that is served",
)
NESTED_DATA = Check(
    "data-nested",
    "One set lies inside another",
    Severity.HIGH,
    "A folder that holds another set's folder or file holds its samples: what is judged on was seen before.",
    "give each set a folder of its own",
)
LOW_PERCENTILE = Check(
    "percentile-low",
    "Much of the range clipped",
    Severity.MEDIUM,
    "Percentiles from 99.9 to 99.9999 are in use (Wu et al., 2020, arXiv:2004.09602, section 4.2); below 99 every "
    "hundredth activation is cut off, and mostly the ones that decide.",
    "use 99.9 to 99.999",
)
ZEROS_WITHOUT_SPEED = Check(
    "zeros-without-speed",
    "Zeros where speed is asked for",
    Severity.MEDIUM,
    "Dense kernels multiply zeros as they do other numbers. Only 2:4 zeros, in TensorRT with sparseWeights on compute "
    "capability 8.0 and above, are skipped.",
    "remove channels before export in place of zeroing weights; or TwoFour and sparseWeights: true on such a device",
)
LITTLE_RECOVERY = Check(
    "little-recovery",
    "Much pruned, little recovered",
    Severity.MEDIUM,
    "What half of the weights knew is not learnt again in one pass (Renda et al., 2020, arXiv:2003.02389, retrain for "
    "as long as the original was trained).",
    "train for more epochs after Prune, or prune less",
)
UNWATCHED_TRAINING = Check(
    "training-unwatched",
    "Training that nobody watches",
    Severity.HIGH,
    "Forgetting shows on data that is not trained on. Without a validation set no epoch can be told from a better one.",
    "set spec.data.validation",
)
NO_EARLY_STOP = Check(
    "no-early-stop",
    "A long training without early stopping",
    Severity.LOW,
    "Without it the last weights are kept, though earlier ones may have been better.",
    "set earlyStoppingEpochs",
)

CHECKS: tuple[Check, ...] = (
    PRUNE_WITHOUT_RECOVERY,
    TRAINING_BEFORE_PRUNE,
    MERGE_AFTER_TRAINING,
    PRUNE_MOST,
    FEW_CALIBRATION_SAMPLES,
    DATA_UNUSED,
    HALF_ON_A_CPU,
    FLATTERING_BASELINE,
    POINT_ESTIMATE,
    BUILT_NOT_MEASURED,
    TURING_BESIDE_OTHERS,
    FORMAT_SKIPPED,
    FORMAT_IS_NOT_THE_ENGINE,
    OTHER_PRODUCT,
    NO_METRIC_GATE,
    GATE_CANNOT_FAIL,
    SLOWER_PASSES,
    OVER_FULL_PRECISION,
    HARDWARE_NOT_PINNED,
    MORE_THREADS_THAN_CORES,
    GATED_AT_SMALLEST,
    NESTED_DATA,
    LOW_PERCENTILE,
    ZEROS_WITHOUT_SPEED,
    LITTLE_RECOVERY,
    UNWATCHED_TRAINING,
    NO_EARLY_STOP,
)
