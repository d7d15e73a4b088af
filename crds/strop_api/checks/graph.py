"""What can be read off a graph or an engine: baked-in shapes, precision not realised, zeros that buy nothing."""

from strop_api.checks.check import Check
from strop_api.findings import Severity

UNREADABLE = Check(
    "graph-unreadable",
    "The file is no whole graph",
    Severity.CRITICAL,
    "A file that is cut off, that the format's own checker refuses, or that the runtime will not load cannot be "
    "optimized, and nothing else can be said of it.",
    "Export the model again and run onnx.checker.check_model on what was written",
)
DATA_MISSING = Check(
    "graph-data-missing",
    "Weights lie outside and are not there",
    Severity.CRITICAL,
    "ONNX graphs may keep weights in files beside them, named in the graph. Without these the graph holds no model; "
    "with data outside of its folder it holds what the reader's machine happens to have there.",
    "Keep the .onnx and its data files in one folder, or save it with save_as_external_data=False",
)
OLD_OPSET = Check(
    "graph-opset",
    "Operator set missing or too old",
    Severity.MEDIUM,
    "Without an opset the meaning of the operators is not defined. Below 13 there is no quantization per channel, and "
    "converters change the graph before they can use it.",
    "Export with opset 17 or newer",
)
FOREIGN_OPERATORS = Check(
    "graph-operators",
    "Operators that only one runtime knows",
    Severity.MEDIUM,
    "Operators outside of ONNX's own sets run where somebody registered them: any other runtime refuses the graph, and "
    "a graph that one runtime has optimized for itself is no source for another.",
    "Export without custom operators, and keep the graph from before the runtime optimized it",
)
DOUBLE = Check(
    "double-precision",
    "Products in 64-bit floats",
    Severity.MEDIUM,
    "No accelerator and no quantizer has fast kernels for 64-bit floats; they come from a Python float or a NumPy "
    "array that was never cast.",
    "Cast the module and its inputs to float32 before the export",
)
FIXED_AXIS = Check(
    "fixed-axis",
    "An input's axis is a fixed number",
    Severity.HIGH,
    "An axis that was not exported as dynamic keeps the size of the example: every other batch or length is refused, "
    "and a server cannot batch.",
    "Export with dynamic_shapes={...: {0: 'batch'}} (torch.onnx.export, torch.export)",
)
BAKED_BATCH = Check(
    "baked-batch",
    "The example's batch is baked into the graph",
    Severity.HIGH,
    "view(8, -1), expand or a table made at export keep the example's batch as a constant: the graph fails, or answers "
    "with another number of rows, at any other batch. Found by reading, proven by running other batches.",
    "Use x.shape[0], -1 or flatten(1) in the module in place of the number, and export with a dynamic batch",
)
BAKED_SIZE = Check(
    "baked-size",
    "Another size of the example is baked into the graph",
    Severity.HIGH,
    "A length or an extent that the interface calls dynamic stands in the graph as a constant: the graph fails at any "
    "other one. Found by reading, proven by running other sizes.",
    "Take the size from the tensor's shape in the module, and slice tables to it",
)
SAMPLES_MIXED = Check(
    "samples-mixed",
    "Samples of one batch influence one another",
    Severity.HIGH,
    "A sample must have the same answer alone and in company. Where it has not (a softmax, a mean or an attention over "
    "the batch axis, BatchNormalization left in training), dynamic batching on a server changes answers.",
    "Reduce and attend over other axes than the batch, call eval() before the export, or serve with batch 1",
)
NOT_REALISED = Check(
    "precision-not-realised",
    "Little of the compute runs in the precision asked for",
    Severity.MEDIUM,
    "Counted in multiply-accumulates, not in nodes: an INT8 model whose heavy layers stayed in floats is small, not "
    "fast.",
    "Quantize the layers named (opTypes, excludeNodes), or choose a precision that the runtime has kernels for",
)
UNSEEN = Check(
    "precision-unseen",
    "The engine's precision could not be read",
    Severity.LOW,
    "Where some of the compute cannot be counted, no share of it is known, and nothing is claimed.",
    "Read the engine with the runtime's own inspector on the device it is for",
)
NEEDLESS = Check(
    "needless-qdq",
    "Quantized and straight back, for nothing",
    Severity.MEDIUM,
    "A QuantizeLinear and DequantizeLinear pair that no integer operator reads or writes rounds values and costs two "
    "passes over memory: accuracy and time are lost, nothing is gained.",
    "Quantize all operands of an operator or none: leave these tensors out of the quantizer's selection",
)
PING_PONG = Check(
    "requantize-ping-pong",
    "Re-quantized from one scale to another",
    Severity.MEDIUM,
    "A DequantizeLinear whose result goes straight into a QuantizeLinear with another scale or type rounds twice "
    "between two integer operators and breaks their fusion.",
    "Let both sides share one scale: quantize the tensor once, and let Reshape, Transpose and Concat pass it on",
)
ISLAND = Check(
    "float-island",
    "A float operator between two quantized ones",
    Severity.MEDIUM,
    "Integers become floats for one operator and integers again after it: two conversions, and runtimes cannot fuse "
    "across.",
    "Quantize the operator too, or replace it by one that has an integer kernel (Relu for HardSwish)",
)
DYNAMIC_CONVOLUTION = Check(
    "dynamic-convolution",
    "Convolutions quantized at run time",
    Severity.MEDIUM,
    "ONNX Runtime has no fast kernel for ConvInteger: dynamic INT8 makes convolutional models several times slower "
    "than FP32 (measured on magika: 3.1 times).",
    "Quantize convolutions statically, or leave them out (opTypes: [MatMul])",
)
ZEROS = Check(
    "zeros-buy-nothing",
    "Pruned weights that save no time",
    Severity.MEDIUM,
    "Dense kernels multiply by zeros as by anything else. Zeros pay as 2:4 patterns on NVIDIA GPUs from compute "
    "capability 8.0 with sparseWeights, or where whole channels are removed; on CPUs only the latter.",
    "Remove whole channels before export (this release has no Compact step), or use 2:4 zeros and sparseWeights",
)
ZERO_CHANNELS = Check(
    "zero-channels",
    "Whole channels are zero and still computed",
    Severity.MEDIUM,
    "A channel whose weights are all zero yields a constant, and is computed in full: only removing it from the "
    "tensors makes the model smaller and faster.",
    "Remove the channels from the model before export: this release has no Compact step",
)
OPAQUE = Check(
    "engine-opaque",
    "Part of an engine that could not be looked at",
    Severity.LOW,
    "An engine on its own says little without the library and the device it was built for, and some kinds are "
    "programs, which an inspection must not run.",
    "Look at the graph it was compiled from, or inspect it on its own device",
)
CHECKS: tuple[Check, ...] = (
    UNREADABLE,
    DATA_MISSING,
    OLD_OPSET,
    FOREIGN_OPERATORS,
    DOUBLE,
    FIXED_AXIS,
    BAKED_BATCH,
    BAKED_SIZE,
    SAMPLES_MIXED,
    NOT_REALISED,
    UNSEEN,
    NEEDLESS,
    PING_PONG,
    ISLAND,
    DYNAMIC_CONVOLUTION,
    ZEROS,
    ZERO_CHANNELS,
    OPAQUE,
)
