"""Each trap, planted in several forms, is found at its line; its honest twins are left alone."""

from collections import Counter
from pathlib import Path

import pytest

from bench.doctor_programs import Planted, programs
from strop_job.audit.source import examine

PLANTED, HONEST = list(programs("planted")), list(programs("honest"))
TRAPS = sorted({program.trap for program in PLANTED})


def _name(program: Planted) -> str:
    return f"{program.trap}: {program.name}"


@pytest.mark.parametrize("program", PLANTED, ids=_name)
def test_a_planted_trap_is_found_at_its_line(program: Planted) -> None:
    """A trap that is written in another way than usual would go unseen, or be shown elsewhere."""
    found = examine(Path("program.py"), program.text)
    lines = tuple(located.line for located in found if located.finding.check == f"source-{program.trap}")
    assert program.lines
    assert lines == program.lines


@pytest.mark.parametrize("program", HONEST, ids=_name)
def test_an_honest_twin_is_left_alone(program: Planted) -> None:
    """People would be told of what is not there, and stop listening."""
    found = {located.finding.check for located in examine(Path("program.py"), program.text)}
    said = found if program.trap == "deprecated-api" else found - {"source-deprecated-api"}
    assert not said & {f"source-{trap}" for trap in _judged(program.trap)}


def _judged(trap: str) -> list[str]:
    """Twins of one trap may have a milder one: those of exports are not all checked, say."""
    return [trap, "missing-calibration", "convert-misuse", "quantize-before-train", "removed-api"]


@pytest.mark.parametrize("trap", TRAPS)
def test_every_trap_is_tried_in_five_forms_and_five_twins(trap: str) -> None:
    """A trap with few examples would count as covered."""
    counts = Counter((program.trap, kind) for kind, all_ in (("p", PLANTED), ("h", HONEST)) for program in all_)
    assert min(counts[trap, "p"], counts[trap, "h"]) >= 5


SWAPS = "import torch\na, b = torch.ones(1), torch.zeros(1)\n" + "if input():\n    a, b = b, a\n" * 200
NESTED = "import torch\n" + "".join(f"def f{i}(x):\n    return f{i + 1}(x) + f{i + 1}(x)\n" for i in range(60))
LADDER = "import torch\n" + "x = torch.ones(1)\n" + "if input(): x = x.one(x)\nelse: x = x.two(x)\n" * 150


@pytest.mark.timeout(20)
@pytest.mark.parametrize("text", [SWAPS, NESTED, LADDER], ids=["swaps", "nested", "ladder"])
def test_a_program_made_to_be_hard_is_read_in_seconds(text: str) -> None:
    """A program of many branches would hold a build up for ever."""
    found = examine(Path("program.py"), text)
    assert {located.finding.check for located in found} <= {"source-not-read"}
