"""What zeros buy: the graph as it is against the same graph with its zeros filled, in turns, on the runtime itself."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import onnx

from strop_api.checks.graph import ZERO_CHANNELS, ZEROS
from strop_api.findings import Finding, Severity
from strop_api.targets import GPU_RUNTIMES, Target
from strop_job.audit.graph.exposing import shapes_of_products
from strop_job.audit.graph.interface import Arrays
from strop_job.audit.graph.reading import named, read
from strop_job.audit.graph.timing import Call, ratio
from strop_job.audit.graph.zeros import CHANNELS_MANY, MANY, Zeros, count, filled, weights_of
from strop_job.judgement.statistics import Interval

PAYS = 1.05
"""From this ratio on a speed-up is one that somebody would notice."""
MOSTLY = 0.9
"""Share of the groups that follow 2:4 in a model that was pruned so."""
Opened = AbstractContextManager[Call]
"""One call of a loaded graph."""
Opener = Callable[[onnx.ModelProto], Opened]


def count_zeros(model: onnx.ModelProto, inputs: Arrays) -> Zeros | None:
    """Zeros weighed by the compute of one call on these inputs; unweighed where the graph does not take them."""
    reading = read(model)
    rough = count(weights_of(reading, {}))
    if rough is None or (rough.share < MANY / 4 and rough.zero_channels == 0):
        return rough
    return count(weights_of(reading, shapes_of_products(reading, inputs)))


def measured(model: onnx.ModelProto, zeros: Zeros, opener: Opener, seed: int) -> Interval:
    """Median latency with the zeros filled over that with them: above 1 where zeros pay."""
    with opener(filled(model, zeros.tensors, seed)) as dense, opener(model) as sparse:
        return ratio(dense, sparse, seed=seed)


def judged(zeros: Zeros, bought: Interval | None, why_not: str, target: Target | None) -> list[Finding]:
    """What is said of zeros; `bought` is None where nothing was measured, for the reason given."""
    found = []
    if zeros.channels >= CHANNELS_MANY:
        found.append(
            ZERO_CHANNELS.finding(
                f"{zeros.zero_channels} output channels hold nothing but zeros and are computed all the same, "
                f"{zeros.channels:.0%} of the compute: in {named([*zeros.channel_tensors])}"
            )
        )
    if zeros.share >= MANY:
        found.append(_bought(zeros, bought, why_not, target))
    return found


def _bought(zeros: Zeros, bought: Interval | None, why_not: str, target: Target | None) -> Finding:
    what = f"{zeros.share:.0%} of the weights, by compute, are zero ({zeros.two_of_four:.0%} of their groups fit 2:4)"
    if bought is None:
        return ZEROS.finding(f"{what}; what they buy was not measured: {why_not}", severity=Severity.LOW)
    figure = f"{bought.point:.2f}x against the same graph with its zeros filled [{bought.low:.2f}, {bought.high:.2f}]"
    mend = _mend(zeros, target)
    if bought.low > PAYS:
        return ZEROS.finding(f"{what} and buy time: {figure}", severity=Severity.LOW, mend="Nothing: they pay here")
    if bought.high > PAYS:
        return ZEROS.finding(f"{what}; too noisy to say what they buy: {figure}", severity=Severity.LOW, mend=mend)
    return ZEROS.finding(f"{what} and buy nothing: {figure}", mend=mend)


def _mend(zeros: Zeros, target: Target | None) -> str:
    if target is None:
        return ZEROS.mend
    if target.runtime not in GPU_RUNTIMES:
        return "On this runtime zeros pay only as whole channels: remove them before export (no Compact step yet)"
    options = target.tensorrt or target.tensorrt_rtx
    if zeros.two_of_four < MOSTLY:
        return "Prune 2:4 before export and set sparseWeights (capability 8.0 and later), or remove channels there"
    if options is None or not options.sparse_weights:
        return "The weights fit 2:4: set sparseWeights (compute capability 8.0 and later)"
    return "2:4 pays in large products only; here remove whole channels before export"
