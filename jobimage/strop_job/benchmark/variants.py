"""The names under which engines are compared, and where their samples lie."""

from enum import StrEnum

SAMPLES_FILE = "latencies.npz"
"""One float64 array of microseconds per variant, and `<variant>.rounds` (int64): the round of each call."""
THROUGHPUT_FILE = "throughput.npz"
"""The same for the other batch sizes, under `<variant>@<batch>`."""
LEAST_CALLS_FOR_P99 = 300
"""Below this a 99th percentile rests on fewer than three calls, so none is reported."""
LEAST_ROUNDS = 8
"""Below this a block bootstrap says nothing."""


class Variant(StrEnum):
    """What is measured against what, on the same runtime and device."""

    OPTIMIZED = "optimized"
    """The candidate: the graph after every step, compiled."""
    ORIGINAL = "original"
    """The exported graph, compiled the same way, not optimized."""
    FP16 = "fp16"
    """The exported graph cast to half precision, compiled."""
    BF16 = "bf16"
    """The same in bfloat16, where the runtime has no fp16."""
    DENSE = "dense"
    """The candidate's graph, compiled without the flag for sparse weights: whether that flag helps."""


UNQUANTIZED = (Variant.ORIGINAL, Variant.FP16, Variant.BF16)
"""The baselines of `over: BestUnquantized`; the fastest counts."""
