"""How the error that a confidence leaves is shared among several looks at the same question. Pure arithmetic."""


def spent_confidence(confidence: float, look: int, max_looks: int) -> float:
    """The one-sided confidence that one look of at most `max_looks` may use, so that all together err as asked.

    The error 1 - `confidence` is spent evenly: alpha * t of Lan and DeMets (1983, Biometrika 70:659), and each look is
    held to its own increment. By Bonferroni's inequality the sum bounds the chance that any look errs, however much the
    looks share and whenever one stops. With correlated looks less than the asked error is used.

    Raises ValueError for a look that was never planned.
    """
    if not 1 <= look <= max_looks:
        raise ValueError(f"look {look} of at most {max_looks} was never planned")
    return 1 - (1 - confidence) / max_looks
