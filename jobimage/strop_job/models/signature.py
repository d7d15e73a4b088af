"""What a torch program takes and yields, kept inside the file it describes: an engine on its own still says it all."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from strop_api.model import ModelSource
from strop_job.errors import InvalidInput

Size = int | str
"""A fixed size, or the name of a dynamic dimension."""


@dataclass(frozen=True)
class Input:
    """One input, as the spec names it."""

    name: str
    dtype: str
    shape: tuple[Size, ...]


@dataclass(frozen=True)
class Output:
    """One output; -1 where its size is dynamic."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Signature:
    """Inputs, outputs, and the bounds of the dynamic dimensions."""

    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]
    bounds: Mapping[str, tuple[int, int]]
    """Smallest and largest size of every dynamic dimension, by name."""

    def text(self) -> str:
        """As JSON."""
        inputs = [{"name": i.name, "dtype": i.dtype, "shape": list(i.shape)} for i in self.inputs]
        outputs = [{"name": o.name, "dtype": o.dtype, "shape": list(o.shape)} for o in self.outputs]
        bounds = {name: list(pair) for name, pair in self.bounds.items()}
        return json.dumps({"inputs": inputs, "outputs": outputs, "bounds": bounds})

    @staticmethod
    def parse(text: str) -> "Signature":
        """From JSON. Raises ValueError, KeyError or TypeError for anything else."""
        document = json.loads(text)
        return Signature(
            tuple(Input(i["name"], i["dtype"], tuple(i["shape"])) for i in document["inputs"]),
            tuple(Output(o["name"], o["dtype"], tuple(o["shape"])) for o in document["outputs"]),
            {name: (int(low), int(high)) for name, (low, high) in document["bounds"].items()},
        )

    def facts(self) -> dict[str, JsonValue]:
        """`inputs` and `outputs` as every engine's facts have them: -1 where a size is dynamic."""
        inputs: list[JsonValue] = [
            {"name": i.name, "dtype": i.dtype, "shape": [s if isinstance(s, int) else -1 for s in i.shape]}
            for i in self.inputs
        ]
        outputs: list[JsonValue] = [{"name": o.name, "dtype": o.dtype, "shape": list(o.shape)} for o in self.outputs]
        return {"inputs": inputs, "outputs": outputs}

    def sizes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """The dynamic dimensions' sizes in a call with these input shapes."""
        pairs = ((s, n) for i in self.inputs for s, n in zip(i.shape, shapes[i.name], strict=True))
        return {size: given for size, given in pairs if isinstance(size, str)}

    def shapes(self, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
        """The inputs' shapes when the dynamic dimensions have these sizes."""
        return {i.name: tuple(s if isinstance(s, int) else sizes[s] for s in i.shape) for i in self.inputs}

    def require(self, inputs: Mapping[str, NDArray[Any]]) -> None:
        """Raises InvalidInput for names, types or shapes that do not fit.

        Compiled code checks nothing: beyond its bounds it reads memory that is not its own.
        """
        if inputs.keys() != {i.name for i in self.inputs}:
            raise _misfit(f"it takes {', '.join(i.name for i in self.inputs)}; given were {', '.join(inputs)}", inputs)
        sizes: dict[str, int] = {}
        for wanted in self.inputs:
            given = inputs[wanted.name]
            if given.dtype.name != wanted.dtype:
                raise _misfit(f"`{wanted.name}` must be {wanted.dtype}", inputs)
            if given.ndim != len(wanted.shape):
                raise _misfit(f"`{wanted.name}` must have {len(wanted.shape)} dimensions", inputs)
            for size, length in zip(wanted.shape, given.shape, strict=True):
                self._require_size(wanted.name, size, length, sizes, inputs)

    def _require_size(
        self, name: str, size: Size, length: int, sizes: dict[str, int], inputs: Mapping[str, NDArray[Any]]
    ) -> None:
        if isinstance(size, int):
            if length != size:
                raise _misfit(f"`{name}` has {length} where the model has {size}", inputs)
            return
        low, high = self.bounds[size]
        if not low <= length <= high:
            raise _misfit(f"{size} is {length}, outside of {low} to {high}", inputs)
        if sizes.setdefault(size, length) != length:
            raise _misfit(f"{size} is both {sizes[size]} and {length}", inputs)


def input_side(model: ModelSource) -> tuple[tuple[Input, ...], dict[str, tuple[int, int]]]:
    """Inputs and bounds of a spec; a dimension whose smallest size is its largest is fixed."""
    fixed = {d.name: d.min for d in model.dimensions if d.min == d.max}
    inputs = tuple(
        Input(t.name, t.dtype.value, tuple(fixed.get(s, s) if isinstance(s, str) else s for s in t.shape))
        for t in model.inputs
    )
    return inputs, {d.name: (d.min, d.max) for d in model.dimensions if d.name not in fixed}


def _misfit(why: str, inputs: Mapping[str, NDArray[np.generic]]) -> InvalidInput:
    given = ", ".join(f"{name}: {array.dtype}{list(array.shape)}" for name, array in inputs.items())
    return InvalidInput(
        f"the model refuses the inputs ({given}): {why}",
        field="spec.model.inputs",
        mend="names, types and shapes there must be those of the data and of the model",
    )
