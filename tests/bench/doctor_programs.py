"""The planted programs and their honest twins: small texts, one file a trap; `# TRAP` marks the line to be found."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "pipeline" / "doctor" / "programs"
START = "# %% "
MARK = "# TRAP"


@dataclass(frozen=True)
class Planted:
    """One program, and the lines where the trap stands; none in an honest one."""

    trap: str
    name: str
    text: str
    lines: tuple[int, ...]


def programs(kind: str) -> Iterator[Planted]:
    """Those of a kind: `planted` or `honest`."""
    for path in sorted(FOLDER.glob(f"*.{kind}.txt")):
        trap = path.name.removesuffix(f".{kind}.txt")
        for part in path.read_text(encoding="utf-8").split(START)[1:]:
            name, _, text = part.partition("\n")
            lines = tuple(i for i, line in enumerate(text.splitlines(), 1) if line.endswith(MARK))
            yield Planted(trap, name, text, lines)
