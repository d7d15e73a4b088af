"""How figures are written: short for people, exact enough for machines, always with their unit."""

import math


def figure(value: float | None) -> str | None:
    """A decimal string with six significant digits, as the contract's `Figure`; None when there is no number."""
    if value is None or not math.isfinite(value):
        return None
    return f"{value:.6g}".replace("e+", "e")


def ratio_text(value: float) -> str:
    """`2.31x`."""
    return f"{value:.2f}x"


def metric_text(value: float) -> str:
    """`0.596`; very small and very large ones with three digits: `0.00012`."""
    return f"{value:.3f}" if value == 0 or 0.01 <= abs(value) < 1000 else f"{value:.3g}"


def points_text(value: float) -> str:
    """`0.70`; small losses keep two digits: `0.0031`; what is smaller than a thousandth of a point is `0.00`."""
    if abs(value) < 1e-3:
        return "0.00"
    return f"{value:.2f}" if abs(value) >= 0.1 else f"{value:.2g}"


def percent_text(share: float) -> str:
    """0.123 as `12.3%`; more digits close to 0 and 1 so that 99.96% is not shown as 100%."""
    digits = 0 if share in (0.0, 1.0) else 1 if 0.01 <= share <= 0.99 else 2
    return f"{share * 100:.{digits}f}%"


def microseconds_text(value: float) -> str:
    """`742 µs`, `8.31 ms`, `1.20 s`."""
    if value < 1000:
        return f"{value:.0f} µs" if value >= 100 else f"{value:.1f} µs"
    return f"{value / 1e3:.2f} ms" if value < 1e6 else f"{value / 1e6:.2f} s"


def seconds_text(value: float) -> str:
    """`40 ms`, `1.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if value < 0.95:
        return f"{value * 1e3:.0f} ms"
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 59.5:
        return f"{value:.0f} s"
    minutes, seconds = divmod(round(value), 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def bytes_text(size: float) -> str:
    """`512 B`, `3.2 MiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(size) < 1024 or unit == "GiB":
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    raise AssertionError("unreachable")


def per_second_text(value: float) -> str:
    """`1,234`, `12.3`, `0.0421`: without its unit, for the ends of an interval."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def rate_text(per_second: float) -> str:
    """`1,234 samples/s`."""
    return f"{per_second_text(per_second)} samples/s"
