"""Runs a graph over calibration data batch by batch and remembers every wanted tensor in bounded memory."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeVar

import numpy as np
import onnx
import onnxruntime as ort

from strop_job.backends import Arrays
from strop_job.backends.graphs import save
from strop_job.backends.onnxruntime import OrtSession, session_options
from strop_job.calibration.histogram import Extremes, NotFiniteError
from strop_job.errors import InvalidInput

FIELD = "spec.data.calibration.uri"
Seen = TypeVar("Seen", bound=Extremes)
FLOATS = frozenset({onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16})


def float_tensors(model: onnx.ModelProto, nodes: Iterable[onnx.NodeProto]) -> tuple[str, ...]:
    """Names of the activations that `nodes` read and write, in graph order."""
    known = {v.name: v for v in (*model.graph.value_info, *model.graph.output, *model.graph.input)}
    constants = {w.name for w in model.graph.initializer}
    floats = {n for n, v in known.items() if v.type.tensor_type.elem_type in FLOATS and n not in constants}
    return tuple(dict.fromkeys(n for node in nodes for n in (*node.input, *node.output) if n in floats))


def observe(
    model: onnx.ModelProto,
    tensors: Iterable[str],
    batches: Iterable[Arrays],
    observer: Callable[[], Seen],
    *,
    threads: int,
    done: Callable[[int], None] = lambda samples: None,
) -> dict[str, Seen]:
    """One observer per tensor, after all batches. `done` is told the number of samples so far.

    Only one batch's activations are held at a time. Raises InvalidInput for NaN and infinity, and for no data.
    """
    seen = {name: observer() for name in tensors}
    samples = 0
    with _opened(model, seen, threads) as session:
        for batch in batches:
            _finite_inputs(batch, samples)
            outputs = session.run(batch)
            for name, remembered in seen.items():
                try:
                    remembered.add(outputs[name] if name in outputs else np.asarray(batch[name]))
                except NotFiniteError as error:
                    raise InvalidInput(
                        f"tensor `{name}` holds NaN or infinity for a sample from number {samples} on",
                        field=FIELD,
                        mend="the model overflows on this data: check the data's scale and the weights",
                    ) from error
            del outputs
            samples += len(next(iter(batch.values())))
            done(samples)
    if not samples:
        raise InvalidInput("there is no calibration sample", field=FIELD, mend="give at least one")
    return seen


@contextmanager
def _opened(model: onnx.ModelProto, tensors: Iterable[str], threads: int) -> Iterator[OrtSession]:
    """A session that also yields `tensors`."""
    with TemporaryDirectory(prefix="strop-calibration-") as scratch:
        path = Path(scratch) / "observed.onnx"
        save(with_outputs(model, tensors), path)
        options = session_options(ort.GraphOptimizationLevel.ORT_ENABLE_BASIC, threads=threads)
        session = OrtSession(ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"]))
        try:
            yield session
        finally:
            session.close()


def with_outputs(model: onnx.ModelProto, tensors: Iterable[str]) -> onnx.ModelProto:
    """A copy of the model that yields `tensors` beside its outputs; graph inputs are left out."""
    observed = onnx.ModelProto()
    observed.CopyFrom(model)
    known = {v.name: v for v in model.graph.value_info}
    present = {o.name for o in (*model.graph.output, *model.graph.input)}
    observed.graph.output.extend(known[name] for name in tensors if name not in present)
    return observed


def _finite_inputs(batch: Arrays, samples: int) -> None:
    for name, array in batch.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            bad = samples + int(np.flatnonzero(~np.isfinite(array.reshape(len(array), -1)).all(axis=1))[0])
            raise InvalidInput(
                f"sample {bad} of the calibration data holds NaN or infinity in `{name}`",
                field=FIELD,
                mend="remove or repair that sample",
            )
