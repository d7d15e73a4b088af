"""Rules on names of archived and superseded systems: one for each name, with its replacement."""

from collections.abc import Callable, Iterator

from strop_api.retired import RETIRED
from strop_api.rules.rule import Rule


def _other_than(name: str) -> Callable[[str], bool]:
    """Parsing has refused the name in the same words already: see Retirable."""
    return lambda value: value != name


def _rules() -> Iterator[Rule]:
    for place, names in RETIRED.items():
        for name, entry in names.items():
            yield Rule(f"no-{name}", place, f"self != '{name}'", _other_than(name), entry.message(name))


RETIREMENTS: tuple[Rule, ...] = tuple(_rules())
