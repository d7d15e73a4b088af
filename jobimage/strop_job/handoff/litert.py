"""Torch to LiteRT: converted by litert-torch, then loaded and run by the LiteRT interpreter.

Imported only in the environment of the converters.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import litert_torch
import numpy as np
import torch
from ai_edge_litert.interpreter import Interpreter
from pydantic import JsonValue

from strop_job.errors import Unsupported
from strop_job.handoff.original import Original, as_tensors
from strop_job.handoff.signature import FIELD
from strop_job.models.shapes import optimum

FILE = "model.tflite"
TOLERANCE = 1e-3
"""Largest difference to the original's outputs, as a share of their largest magnitude: both compute in FP32."""


def convert(original: Original, out: Path) -> dict[str, JsonValue]:
    """Write `model.tflite`, at the sizes that the engine is tuned for; returns what running it once showed.

    Raises Unsupported when the model cannot be converted, or computes something else than the original.
    """
    sizes = optimum(original.model.dimensions)
    arrays = original.arrays(sizes)
    positional, named = original.arguments(as_tensors(arrays))
    try:
        with torch.no_grad():
            litert_torch.convert(original.module, positional, named).export(str(out / FILE))
    except Exception as error:
        words = " ".join(str(error).split())[:300]
        raise Unsupported(f"LiteRT cannot take the model: {words}", field=FIELD, mend="leave LiteRT out") from error
    runner = load(out / FILE)
    worst_found = worst(run(runner, original, arrays), original.run(arrays))
    if not worst_found <= TOLERANCE:
        message = f"the LiteRT model differs from the original by {worst_found:.2g} of its largest output"
        raise Unsupported(message, field=FIELD, mend="leave LiteRT out")
    return {**_signature(runner), "worstDifference": worst_found}


def load(path: Path) -> Any:
    """The default signature of a file, its tensors allocated."""
    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    return interpreter.get_signature_runner()


def run(runner: Any, original: Original, arrays: Mapping[str, Any]) -> list[Any]:
    """The outputs in the original's order. Inputs by position are named `args_0`, `args_1` … by the converter."""
    details = runner.get_input_details()
    names = {name: f"args_{at}" for at, name in enumerate(original.positional)}
    given = {names.get(name, name): value for name, value in arrays.items()}
    found = runner(**{name: value.astype(details[name]["dtype"]) for name, value in given.items()})
    return [found[name] for name in sorted(found, key=lambda name: int(name.rpartition("_")[2]))]


def worst(found: list[Any], wanted: list[Any]) -> float:
    """Largest difference of any output, as a share of the largest magnitude that is wanted of it."""
    return max(_share(a, b) for a, b in zip(found, wanted, strict=True))


def _share(found: Any, wanted: Any) -> float:
    """Largest difference, as a share of the largest magnitude that is wanted."""
    if found.shape != wanted.shape:
        return float("inf")
    largest = float(np.abs(wanted).max(initial=0.0))
    return float(np.abs(found.astype(np.float64) - wanted).max(initial=0.0)) / (largest or 1.0)


def _signature(runner: Any) -> dict[str, JsonValue]:
    return {"inputs": _tensors(runner.get_input_details()), "outputs": _tensors(runner.get_output_details())}


def _tensors(details: Mapping[str, Any]) -> list[JsonValue]:
    return [
        {"name": name, "dtype": np.dtype(d["dtype"]).name, "shape": [int(size) for size in d["shape"]]}
        for name, d in sorted(details.items())
    ]
