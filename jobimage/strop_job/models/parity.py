"""Does a graph serve every size the spec asks for, and does it compute what the module computed?"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from pydantic import JsonValue

from strop_api.model import ModelSource
from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.comparison import compare
from strop_job.models.shapes import Arrays, Sizes, named, synthetic, trial_sizes

INTEGER_BOUNDS = (1000, 100, 10, 2, 1)


@dataclass(frozen=True)
class ParityPoint:
    """One set of sizes that was tried."""

    sizes: dict[str, int]
    worst: float | None
    """Largest difference over largest magnitude; None where there was nothing to compare with."""

    def as_json(self) -> dict[str, JsonValue]:
        """For a stage's facts."""
        return {"sizes": dict(self.sizes), "worst": self.worst}


def compare_with_references(graph: Path, references: Path, model: ModelSource) -> list[ParityPoint]:
    """Run the graph, optimizations off, on the inputs the module was run on.

    Raises InvalidInput when the graph does not serve a size, Unsupported when it computes something else.
    """
    session = open_session(graph)
    sizes = json.loads((references / "references.json").read_text())
    points = []
    for i, at in enumerate(sizes):
        with np.load(references / f"reference-{i}.npz", allow_pickle=False) as file:
            inputs = {name.removeprefix("in:"): file[name] for name in file.files if name.startswith("in:")}
            expected = [file[f"out:{k}"] for k in range(len(file.files) - len(inputs))]
        points.append(ParityPoint(at, compare(run_at(session, inputs, at), expected, at)))
    return points


def try_sizes(graph: Path, model: ModelSource, *, seed: int) -> list[ParityPoint]:
    """Run an ONNX source at every trial size: a batch baked into a Reshape shows only here."""
    session = open_session(graph)
    bound = _integer_bound(session, model, seed)
    for at in trial_sizes(model):
        outputs = run_at(session, synthetic(model.inputs, at, seed=seed, integers_below=bound), at)
        _refuse_fixed_batch(outputs, model, at)
    return [ParityPoint(at, None) for at in trial_sizes(model)]


def open_session(graph: Path) -> ort.InferenceSession:
    """A session that changes nothing: graph optimizations off, two threads."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads, options.inter_op_num_threads = 2, 1
    options.log_severity_level = 3
    try:
        return ort.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise Unsupported(f"ONNX Runtime cannot load the model: {_line(error)}", field="spec.model.uri") from error


def run_at(session: ort.InferenceSession, inputs: Arrays, at: Sizes) -> list[np.ndarray]:
    """The outputs at these sizes; InvalidInput naming the sizes when the graph refuses them."""
    try:
        return list(session.run(None, inputs))
    except Exception as error:
        raise InvalidInput(
            f"the model does not run at {named(at)}: {_line(error)}",
            field="spec.model.dimensions",
            mend="narrow the dimension to what the model serves, or export it with that dimension dynamic",
        ) from error


def _integer_bound(session: ort.InferenceSession, model: ModelSource, seed: int) -> int:
    """The largest vocabulary tried that the graph takes; the last one when the trouble is another."""
    least = {d.name: d.min for d in model.dimensions}
    for bound in INTEGER_BOUNDS:
        try:
            session.run(None, synthetic(model.inputs, least, seed=seed, integers_below=bound))
        except Exception:  # noqa: S112 - the caller meets the same error and names it
            continue
        return bound
    return INTEGER_BOUNDS[-1]


def _refuse_fixed_batch(outputs: list[np.ndarray], model: ModelSource, at: Sizes) -> None:
    """A graph may run at any batch and still answer with one row: every output must follow the inputs' first axis."""
    first = {t.shape[0] for t in model.inputs if t.shape}
    name = next(iter(first)) if len(first) == 1 else None
    if not isinstance(name, str) or not any(d.min < d.max for d in model.dimensions if d.name == name):
        return
    for output in outputs:
        if output.ndim == 0 or output.shape[0] != at[name]:
            raise InvalidInput(
                f"an output has shape {list(output.shape)} at {named(at)}: {name} is baked into the model",
                field="spec.model.dimensions",
                mend=f"export the model with a dynamic {name}",
            )


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]
