"""The learning rate over a training: a short warm-up, then half a cosine down to nothing. Pure."""

import math

WARM_UP = 0.05
"""Share of the steps in which the rate rises (Goyal et al., 2017, arXiv:1706.02677)."""


def rate(peak: float, step: int, steps: int) -> float:
    """The learning rate of step `step` of `steps`, counted from 0 (Loshchilov and Hutter, 2017, arXiv:1608.03983)."""
    warm = max(1, round(WARM_UP * steps))
    if step < warm:
        return peak * (step + 1) / warm
    return peak * 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))
