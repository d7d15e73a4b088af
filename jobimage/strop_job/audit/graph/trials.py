"""Which suspects are the cause: each is replaced by a live size, and the graph is run again at the sizes it failed."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice, product

from strop_job.audit.graph.baked import suspects
from strop_job.audit.graph.interface import Interface, Sizes
from strop_job.audit.graph.mending import Mend, mended
from strop_job.audit.graph.reading import Reading
from strop_job.audit.graph.running import Attempt, Call, OutOfTime, attempt, lost, open_model

MOST_TRIALS = 96
"""Sessions that are opened for one graph."""
MOST_SINGLE = 24
"""So many constants are tried one by one; of more, it is proven that together they are the cause."""
MOST_FAILURES = 3
"""Failed sizes at which a mended graph is run."""
LARGEST_EXAMPLE, MOST_EXAMPLES = 4096, 64
"""Numbers of a graph that are tried as sizes, and how many combinations of them."""
MOST_BYTES = 16 << 30
"""Of all graphs that are opened for one: each is a copy with its weights, twelve of one of 1.3 GiB."""


@dataclass(frozen=True)
class Cause:
    """Constants that, replaced by live sizes, let the graph serve what it failed at."""

    mends: tuple[Mend, ...]
    whole: bool
    """Whether all failed sizes are served then; else only some, or the failure moves on."""


@dataclass
class Lab:
    """One graph under trial, and the sizes that count."""

    reading: Reading
    interface: Interface
    below: int
    declared: dict[str, str]
    failed: tuple[Sizes, ...]
    most: int
    """Trials."""
    trials: int = 0

    def progress(self, mends: Sequence[Mend]) -> tuple[int, int]:
        """Failed sizes that are served with these mends, and how far the others come: larger is better."""
        self.trials += 1
        try:
            call = open_model(mended(self.reading, self.interface, mends))
        except OutOfTime:
            raise
        except Exception:  # a mend that makes no sense here is no cause
            return (-1, 0)
        attempts = [attempt(call, self.interface, sizes, self.below) for sizes in self.failed]
        wrong = {id(one) for each in lost(self.interface, attempts, self.declared).values() for one in each}
        served = sum(one.shapes is not None and id(one) not in wrong for one in attempts)
        return served, sum(self._reached(one) for one in attempts)

    def _reached(self, one: Attempt) -> int:
        if one.shapes is not None:
            return len(self.reading.nodes)
        return self.at(one.node)

    def at(self, name: str) -> int:
        """Index of the node of this name; -1 for none."""
        return next((i for i, node in enumerate(self.reading.nodes) if name and node.name == name), -1)

    @property
    def goal(self) -> int:
        """Progress of a graph that serves everything."""
        return len(self.failed)

    def spent(self) -> bool:
        """Whether no more trials are to be made."""
        return self.trials >= self.most


def find_cause(lab: Lab, examples: Sequence[Sizes]) -> Cause | None:
    """The fewest mends that make the graph serve what it failed at. `examples` are sizes at which it ran.

    First all numbers that equal the example's batch where a batch stands; then one by one, nearest to the failure.
    """
    possible = list(dict.fromkeys(m for sizes in examples[:3] for m in _mends(lab, sizes)))
    if not possible:
        return None
    leading = [m for m in possible if m.suspect.position == 0 and m.times == 1 and m.axis == lab.interface.batch]
    before = lab.progress([])[0]
    reached = [(group, lab.progress(group)[0]) for group in (leading, _one_each(possible)) if group]
    best, served = max(reached, key=lambda pair: pair[1], default=([], before))
    if served <= before:
        return _step_by_step(lab, possible)
    return Cause(tuple(_fewest(lab, best, served)), whole=served == lab.goal)


def _one_each(mends: Sequence[Mend]) -> list[Mend]:
    """Of several meanings of one number the first, which is the likeliest."""
    return list({m.suspect: m for m in reversed(mends) if m.times == 1}.values())[::-1]


def _mends(lab: Lab, example: Sizes) -> list[Mend]:
    """Every suspect with each axis whose size in the example divides it; equal ones first."""
    found = [
        Mend(suspect, axis, suspect.value // size)
        for suspect in suspects(lab.reading)
        for axis, size in example.items()
        if size > 1 and suspect.value % size == 0 and (suspect.value == size or not suspect.operand)
    ]
    order = {axis: at for at, axis in enumerate([lab.interface.batch, *example])}
    return sorted(found, key=lambda m: (m.times != 1, m.suspect.position != order[m.axis], m.suspect.node))


def _fewest(lab: Lab, mends: Sequence[Mend], served: int) -> list[Mend]:
    """Without those that are not needed to serve as many sizes; all of them where they are too many to be tried."""
    kept = list(mends)
    if len(kept) > MOST_SINGLE:
        return kept
    for mend in mends:
        rest = [m for m in kept if m is not mend]
        if rest and not lab.spent() and lab.progress(rest)[0] >= served:
            kept = rest
    return kept


def _step_by_step(lab: Lab, possible: Sequence[Mend]) -> Cause | None:
    """Takes whichever mend brings the failed sizes farther, until none does."""
    taken: list[Mend] = []
    best = lab.progress([])
    while best[0] < lab.goal and not lab.spent():
        step = next(
            (m for m in possible if m not in taken and not lab.spent() and lab.progress([*taken, m]) > best), None
        )
        if step is None:
            break
        taken.append(step)
        best = lab.progress(taken)
    if not taken:
        return None
    whole = best[0] == lab.goal
    return Cause(tuple(_fewest(lab, taken, best[0]) if whole else taken), whole)


def hunt_example(reading: Reading, interface: Interface, below: int, call: Call) -> Sizes | None:
    """Sizes at which a graph that fails everywhere does run: the numbers baked into it are tried as sizes."""
    values = list(dict.fromkeys(s.value for s in suspects(reading) if s.value <= LARGEST_EXAMPLE))[:8]
    names = interface.names
    for combination in islice(product([1, *values], repeat=len(names)), MOST_EXAMPLES):
        sizes = dict(zip(names, combination, strict=True))
        if interface.affordable(sizes) and attempt(call, interface, sizes, below).shapes is not None:
            return sizes
    return None


def described(reading: Reading, mends: Iterable[Mend]) -> list[str]:
    """`node_view` takes 8 from `val_3` as batch."""
    return [_described(reading, mend) for mend in mends]


def _described(reading: Reading, mend: Mend) -> str:
    suspect = mend.suspect
    node = reading.nodes[suspect.consumer]
    value = f"{suspect.value}" + (f" ({mend.times} x {suspect.value // mend.times})" if mend.times > 1 else "")
    what = f"axis {suspect.position} of" if suspect.operand else f"entry {suspect.position} of"
    return f"{node.op_type} `{reading.label(node)}`: {what} `{suspect.tensor}` is {value}"


def lab_of(
    reading: Reading, interface: Interface, below: int, declared: dict[str, str], failed: Sequence[Sizes]
) -> Lab:
    """A laboratory for the smallest of the failed sizes."""
    least = sorted(failed, key=lambda sizes: sum(sizes.values()))[:MOST_FAILURES]
    most = min(MOST_TRIALS, max(MOST_BYTES // max(reading.model.ByteSize(), 1), 1))
    return Lab(reading, interface, below, declared, tuple(least), most)
