"""The first layer at which an engine and its graph part: inner tensors are looked at, coarsely and then closely.

Pure search: whoever calls it shows the tensors. A few looks find one layer of thousands.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import JsonValue

from strop_job.backends.base import Arrays
from strop_job.verification.marking import Spot

SHOWN_AT_ONCE = 24
"""Tensors that one look shows: few enough to hold in memory, enough to find one of 10,000 in three looks."""
MOST_LOOKS = 12
"""A look may cost a compilation."""
BORN = 0.1
"""An input whose error is at least this share of the node's own has the fault already."""
MULTIPLIES = frozenset(
    {
        "Conv",
        "ConvTranspose",
        "MatMul",
        "Gemm",
        "Einsum",
        "LSTM",
        "GRU",
        "RNN",
        "Attention",
        "Convolution",
        "LSTMSequence",
    }
)
"""Of nodes that run as one, the one that is named: people know a layer by its product."""

Look = Callable[[Sequence[str]], Mapping[str, float]]
"""Relative errors by name: of these tensors and of the outputs. What cannot be compared is left out."""


@dataclass(frozen=True)
class Divergence:
    """Where it begins, or why that is not known."""

    spot: Spot | None
    error: float = 0.0
    """Relative RMS error behind it; infinite where values are not finite."""
    group: tuple[Spot, ...] = ()
    """All nodes that the engine shows no tensor between, in order; the error arose in one of them."""
    note: str = ""

    def facts(self) -> dict[str, JsonValue]:
        """As JSON."""
        if self.spot is None:
            return {"note": self.note}
        return {
            "node": self.spot.node,
            "operator": self.spot.operator,
            "tensor": self.spot.tensor,
            "error": self.error,
            "with": [spot.node for spot in self.group if spot.node != self.spot.node],
            "note": self.note,
        }


def relative_errors(expected: Arrays, found: Arrays) -> dict[str, float]:
    """||found - expected|| / ||expected|| of every tensor that both have in one shape."""
    errors: dict[str, float] = {}
    for name, reference in expected.items():
        value = found.get(name)
        if value is None or value.shape != reference.shape or reference.dtype.kind not in "fiub" or not reference.size:
            continue
        a, b = np.asarray(reference, np.float64), np.asarray(value, np.float64)
        counted = np.isfinite(a)
        if not np.isfinite(b[counted]).all():
            errors[name] = math.inf
            continue
        noise = float(np.linalg.norm((a - b)[counted]))
        errors[name] = noise / (float(np.linalg.norm(a[counted])) or 1.0)
    return errors


class Search:
    """One search in a graph. `comparable`: tensors that engine and graph may both show."""

    def __init__(self, spots: Sequence[Spot], comparable: Collection[str], look: Look, bound: float) -> None:
        self.spots = tuple(spots)
        self.candidates = [at for at, spot in enumerate(self.spots) if spot.tensor in comparable]
        self._makers = {spot.tensor: spot for spot in self.spots}
        self._comparable, self._look, self._bound = set(comparable), look, bound
        self._known: dict[str, float] = {}
        self._looks = 0

    def run(self) -> Divergence:
        """The first candidate beyond the bound, followed back to where its error was born."""
        low, high = 0, len(self.candidates)
        if not high:
            return Divergence(None, note="the layer was not located: the engine shows none of its graph's tensors")
        while True:
            shown = _spread(low, high)
            errors = self._seen([self._tensor(at) for at in shown])
            wrong = next((at for at in range(low, high) if errors.get(self._tensor(at), 0.0) > self._bound), None)
            if wrong is None:
                return self._vanished(low, high)
            if len(shown) == high - low:
                return self._followed(self.spots[self.candidates[wrong]])
            low, high = max((at for at in shown if at < wrong), default=low - 1) + 1, wrong + 1

    def _tensor(self, at: int) -> str:
        return self.spots[self.candidates[at]].tensor

    def _seen(self, names: Sequence[str]) -> Mapping[str, float]:
        """Errors of this look alone: another choice of tensors fuses other layers."""
        self._looks += 1
        errors = self._look(names)
        self._known.update(errors)
        self._comparable -= set(names) - errors.keys()
        return errors

    def _vanished(self, low: int, high: int) -> Divergence:
        if not self._known:
            return Divergence(None, note="the layer was not located: the engine shows none of its graph's tensors")
        first, last = (self.spots[self.candidates[at]].node for at in (low, high - 1))
        if low:
            return Divergence(None, note=f"the divergence appears only when the layers `{first}` to `{last}` are fused")
        return Divergence(
            None, note="with its layers shown the graph is right: it errs only fused, or in the engine alone"
        )

    def _followed(self, spot: Spot) -> Divergence:
        """Back along the most erroneous inputs, to the node whose own inputs are sound."""
        while True:
            group, inputs = self._group(spot)
            unknown = [name for name in inputs if name not in self._known]
            if unknown and self._looks < MOST_LOOKS:
                self._seen(unknown)
                continue
            error = self._known[spot.tensor]
            worst = max(inputs, key=lambda name: self._known.get(name, 0.0), default=None)
            if worst is None or not self._known.get(worst, 0.0) >= max(BORN * error, self._bound / 2):
                note = f"{len(unknown)} of its inputs were not looked at" if unknown else ""
                return Divergence(_named(group, spot), error, group, note)
            spot = self._makers[worst]

    def _group(self, spot: Spot) -> tuple[tuple[Spot, ...], list[str]]:
        """The nodes behind a tensor back to comparable tensors, in order; and these tensors."""
        inside, edges, waiting = {spot.tensor}, dict[str, None](), list(spot.inputs)
        while waiting:
            name = waiting.pop()
            if name in self._comparable and name in self._makers:
                edges[name] = None
            elif name in self._makers and name not in inside:
                inside.add(name)
                waiting += self._makers[name].inputs
        return tuple(one for one in self.spots if one.tensor in inside), list(edges)


def _spread(low: int, high: int) -> list[int]:
    """At most SHOWN_AT_ONCE places from `low` to before `high`, evenly spread, the last one among them."""
    count = min(SHOWN_AT_ONCE, high - low)
    return sorted({high - 1 - (high - 1 - low) * step // max(count - 1, 1) for step in range(count)})


def _named(group: Sequence[Spot], spot: Spot) -> Spot:
    return next((one for one in group if one.operator in MULTIPLIES), spot)
