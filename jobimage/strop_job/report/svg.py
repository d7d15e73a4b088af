"""Matplotlib figures as inline SVG: the page's colours and font, ids that cannot clash, the same bytes each time."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH_INCHES = 4.6
"""331 SVG units: on a phone drawn as large as it is, on a desk half as large again."""

COLORS = {
    "ink": "#010101", "muted": "#020202", "line": "#030303", "candidate": "#040404", "baseline": "#050505",
    "bad": "#060606", "good": "#070707", "soft": "#080808", "other": "#090909",
}  # fmt: skip
"""Stand-ins that `embed` turns into the page's CSS variables, so that one drawing serves light and dark."""

STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "text.color": COLORS["ink"],
    "axes.edgecolor": COLORS["line"],
    "axes.labelcolor": COLORS["muted"],
    "axes.labelsize": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.linewidth": 0.8,
    "xtick.color": COLORS["line"],
    "xtick.labelcolor": COLORS["muted"],
    "xtick.labelsize": 9,
    "ytick.color": COLORS["line"],
    "ytick.labelcolor": COLORS["ink"],
    "ytick.labelsize": 9.5,
    "ytick.left": False,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "savefig.facecolor": "none",
}
FONT = re.compile(r"font: ([0-9.]+px) [^;\"]*")
ID = re.compile(r' id="([^"]*)"')


@contextmanager
def drawing(height_inches: float) -> Iterator[tuple[Figure, Axes]]:
    """A figure with one set of axes in the report's style; no global state is left changed."""
    with mpl.rc_context({**STYLE}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure = Figure(figsize=(WIDTH_INCHES, height_inches), layout="constrained")
        axes = figure.add_subplot()
        axes.tick_params(length=0)
        yield figure, axes


def embed(figure: Figure, name: str, title: str) -> Markup:
    """The figure as an `<svg>` element for an HTML page. `name` prefixes its ids, `title` is read out."""
    with mpl.rc_context({"svg.hashsalt": name}):
        text = io.StringIO()
        metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(text, format="svg", metadata=metadata)
    body = re.sub(r"<metadata>.*?</metadata>\s*", "", text.getvalue(), flags=re.DOTALL)
    body = _prefixed(body[body.index("<svg") :], name)
    body = FONT.sub(r"font: \1 var(--sans)", body)
    for color, stand_in in COLORS.items():
        body = body.replace(stand_in, f"var(--{color})")
    body = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", body, count=1)
    label = Markup.escape(title)
    opening = f'<svg role="img" aria-label="{label}" class="plot" data-plot="{Markup.escape(name)}"'
    body = re.sub(r'<svg([^>]*?) width="[^"]*"', lambda found: opening + found.group(1), body, count=1)
    return Markup(body)  # noqa: S704 - matplotlib escapes the texts it draws, and the label is escaped above


def _prefixed(body: str, name: str) -> str:
    """Ids that are referred to get the plot's name in front; the others, such as `axes_1`, go."""
    used = set(re.findall(r'url\(#([^)]*)\)|href="#([^"]*)"', body))
    referred = {one or other for one, other in used}

    def renamed(found: re.Match[str]) -> str:
        return f' id="{name}-{found.group(1)}"' if found.group(1) in referred else ""

    body = ID.sub(renamed, body)
    return re.sub(r"(url\(#|href=\"#)", rf"\g<1>{name}-", body)
