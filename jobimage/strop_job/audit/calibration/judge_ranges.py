"""Judges of ranges: what the calibration set's ranges cost on the reference's own values."""

import math

import numpy as np
from pydantic import JsonValue

from strop_api.checks import calibration as checks
from strop_api.findings import Finding
from strop_job.audit.calibration import ranges
from strop_job.audit.calibration.observed import Role, Tensor
from strop_job.audit.calibration.ranges import Cost, Span
from strop_job.audit.calibration.verdict import Judgement, Pair, percent, rounded, short

EXCESS_DECIBELS = 12.0
"""Two bits of eight: with six left, every published recipe of post-training quantization loses accuracy visibly. Halves
of honest sets stay below 11 dB where tails are heavy, and below 5 dB elsewhere."""
SPLITS, LEAST_HALVED = 20, 4
"""Random halves of the reference, whose costs for each other say what its tails alone do."""
LISTED = 40
"""Tensors in the table of figures, the dearest first."""


def spans(pair: Pair) -> Judgement:
    """Inputs on another scale, and activations that would be clipped or rounded too coarsely."""
    costs = {name: ranges.cost(pair.calibration.tensors[name], pair.reference.tensors[name]) for name in _floats(pair)}
    dearest = sorted(costs, key=lambda name: -costs[name].excess_decibels)
    bad = [name for name in dearest if _is_bad(pair, name, costs[name])]
    inputs = [name for name in bad if pair.reference.tensors[name].role is Role.INPUT]
    inside = [name for name in bad if name not in inputs]
    findings = [_of_input(name, costs[name], pair) for name in inputs[:3]]
    if inside:
        findings.append(_of_inside(inside, costs, pair))
    table: list[JsonValue] = [_row(name, pair.reference.tensors[name], costs[name]) for name in dearest[:LISTED]]
    return Judgement(tuple(findings), {"tensors": table})


def _floats(pair: Pair) -> tuple[str, ...]:
    """Tensors that are quantized: integers are not, and what is not finite has no range."""
    both = pair.calibration.tensors, pair.reference.tensors
    return tuple(n for n in pair.shared if n not in pair.reference.categories and all(one[n].finite for one in both))


def _is_bad(pair: Pair, name: str, cost: Cost) -> bool:
    if cost.excess_decibels < EXCESS_DECIBELS:
        return False
    return cost.excess_decibels >= EXCESS_DECIBELS + _own_excess(pair.reference.tensors[name])


def _own_excess(tensor: Tensor) -> float:
    """The cost that nine of ten random halves of one set stay below when their ranges serve the other half.

    Infinite for a set too small to be halved: what its tails alone do is not known then, so nothing is blamed on them.
    """
    random = np.random.default_rng(0)
    count = len(tensor.quantiles)
    found = []
    if count < LEAST_HALVED:
        return math.inf
    for _ in range(SPLITS):
        order = random.permutation(count)
        first, second = tensor.take(order[: count // 2]), tensor.take(order[count // 2 :])
        found.append(ranges.cost(first, second).excess_decibels)
    return max(float(np.quantile(found, 0.9)), 0.0)


def _of_input(name: str, cost: Cost, pair: Pair) -> Finding:
    return checks.RANGE.finding(
        f"input `{name}`: calibration spans {said(cost.calibration)}, {pair.reference_name} {said(cost.reference)}: "
        f"{guess(cost)}; 8-bit noise {_more(cost)}, {percent(cost.clipped_share)} of values clipped"
    )


def _of_inside(names: list[str], costs: dict[str, Cost], pair: Pair) -> Finding:
    worst, cost = names[0], costs[names[0]]
    tensor = pair.reference.tensors[worst]
    others = f", and {len(names) - 1} more tensors" if len(names) > 1 else ""
    return checks.CLIPPING.finding(
        f"{tensor.role.value} `{short(worst)}`: calibration spans {said(cost.calibration)}, {pair.reference_name} "
        f"{said(cost.reference)}; 8-bit noise {_more(cost)}, {percent(cost.clipped_share)} of values clipped{others}"
    )


def _more(cost: Cost) -> str:
    return f"+{cost.excess_decibels:.0f} dB" if cost.excess_decibels < 120 else "drowns all"


def said(span: Span) -> str:
    """In words."""
    return f"{rounded(span.low, 3):g} to {rounded(span.high, 3):g}"


def guess(cost: Cost) -> str:
    """What usually makes such a pair of ranges."""
    mine, theirs = (span.high - span.low for span in (cost.calibration, cost.reference))
    if min(mine, theirs) <= 0:
        return "constant?"
    factor = max(mine, theirs) / min(mine, theirs)
    if _pixels(cost.calibration) != _pixels(cost.reference):
        return f"{'calibration' if _pixels(cost.calibration) else 'the other'} not divided by 255?"
    if cost.calibration.low >= 0 > cost.reference.low and factor < 20:
        return "not normalized?"
    if factor >= 3:
        return f"{'wider' if mine > theirs else 'narrower'} by {factor:.2g}: scaled differently, or broken values?"
    return "shifted?"


def _pixels(span: Span) -> bool:
    """Whether values look like those of bytes."""
    return 0 <= span.low < 50 and 200 < span.high <= 255


def _row(name: str, tensor: Tensor, cost: Cost) -> JsonValue:
    return {
        "name": name,
        "role": tensor.role.value,
        "calibration": [rounded(cost.calibration.low), rounded(cost.calibration.high)],
        "reference": [rounded(cost.reference.low), rounded(cost.reference.high)],
        "clippedShare": rounded(cost.clipped_share),
        "excessDecibels": rounded(cost.excess_decibels),
    }
