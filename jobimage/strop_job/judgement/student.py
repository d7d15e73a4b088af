"""Student's t: what a spread that is itself estimated from few units costs. Pure arithmetic, no library needed."""

import math
from functools import cache
from statistics import NormalDist

EXACT = 60
"""Degrees of freedom up to which the distribution is summed; above, its expansion is right to seven digits."""


@cache
def t_quantile(probability: float, freedom: int) -> float:
    """The t below which `probability` (0.5 to 1) lies, with `freedom` degrees of freedom.

    Abramowitz and Stegun (1972): the sums 26.7.3 and 26.7.4, inverted by bisection, and the expansion 26.7.5.
    """
    if freedom < 1 or not 0.5 <= probability < 1:
        raise ValueError(f"no quantile of {probability} with {freedom} degrees of freedom")
    if freedom > EXACT:
        return _expansion(NormalDist().inv_cdf(probability), freedom)
    low, high = 0.0, 1.0
    while 0.5 + _within(high, freedom) / 2 < probability:
        low, high = high, high * 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if 0.5 + _within(middle, freedom) / 2 < probability else (low, middle)
    return (low + high) / 2


def _within(t: float, freedom: int) -> float:
    """P(|T| <= t)."""
    angle = math.atan(t / math.sqrt(freedom))
    square, odd = math.cos(angle) ** 2, freedom % 2 == 1
    term = math.cos(angle) if odd else 1.0
    total = term if freedom > 1 else 0.0
    for k in range(1, (freedom - 1) // 2 if odd else freedom // 2):
        term *= square * (2 * k / (2 * k + 1) if odd else (2 * k - 1) / (2 * k))
        total += term
    return 2 / math.pi * (angle + math.sin(angle) * total) if odd else math.sin(angle) * total


def _expansion(z: float, freedom: int) -> float:
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / freedom + second / freedom**2 + third / freedom**3
