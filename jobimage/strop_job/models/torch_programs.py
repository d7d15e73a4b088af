"""ExportedPrograms on disk: saved with their signature, loaded, called by name. Imports torch.

Loading a program runs what its author wrote: only ever load one that this worker exported from the image's own code.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.ao.quantization.fx._decomposed  # registers the operators of quantized programs
from numpy.typing import NDArray
from torch.utils import _pytree as pytree

from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.program_files import SIGNATURE_FILE, read_signature
from strop_job.models.signature import Output, Signature

Arrays = Mapping[str, NDArray[Any]]
Call = Callable[[Arrays], list[NDArray[Any]]]


@contextmanager
def quiet() -> Iterator[None]:
    """No gradients, and none of the warnings that torch has for its own code."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save_program(program: Any, path: Path, signature: Signature) -> None:
    """Writes the program without traces of where it was made."""
    for node in program.graph.nodes:
        for trace in ("stack_trace", "source_fn_stack", "from_node"):
            node.meta.pop(trace, None)
    with quiet():
        torch.export.save(program, path, extra_files={SIGNATURE_FILE: signature.text()})


def load_program(path: Path) -> Any:
    """The program. Raises InvalidInput for a file that is none."""
    try:
        with quiet():
            return torch.export.load(path)
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise InvalidInput(f"{path.name} cannot be loaded as a torch program: {words}", field="spec.model") from error


def export_again(module: Any, program: Any, signature: Signature) -> Any:
    """A rewritten module of a program, exported with the program's own example and the signature's dimensions."""
    dims = {n: torch.export.Dim(n, min=low, max=high) for n, (low, high) in signature.bounds.items()}
    shapes = {i.name: {k: dims[s] for k, s in enumerate(i.shape) if isinstance(s, str)} for i in signature.inputs}
    _, example = program.example_inputs
    with quiet():
        return torch.export.export(module, (), kwargs=dict(example), dynamic_shapes=shapes)


def eager(path: Path) -> Call:
    """The program as it is written, operator by operator."""
    module = load_program(path).module()
    signature = read_signature(path)

    def call(inputs: Arrays) -> list[NDArray[Any]]:
        with quiet():
            returned = module(**{i.name: tensor(inputs[i.name]) for i in signature.inputs})
        return arrays(returned)

    return call


def tensor(array: NDArray[Any]) -> torch.Tensor:
    """Shares the array's memory where torch allows that: it takes no read-only memory and no negative strides."""
    return torch.from_numpy(array if array.flags.writeable and array.flags.c_contiguous else array.copy())


def arrays(returned: Any) -> list[NDArray[Any]]:
    """The tensors of whatever a module returned, in order."""
    flat = pytree.tree_leaves(returned)
    return [value.detach().cpu().numpy() for value in flat if isinstance(value, torch.Tensor)]


def outputs_of(program: Any, names: list[str]) -> tuple[Output, ...]:
    """The outputs under their names, from the program's own values. Raises Unsupported for a type numpy lacks."""
    nodes = [node for node in program.graph.output_node().args[0] if isinstance(node, torch.fx.Node)]
    values = [node.meta["val"] for node in nodes]
    return tuple(_output(name, value) for name, value in zip(names, values, strict=True))


def _output(name: str, value: Any) -> Output:
    try:
        dtype = np.dtype(str(value.dtype).removeprefix("torch.")).name
    except TypeError as error:
        raise Unsupported(
            f"output `{name}` is {value.dtype}, which no client reads",
            field="spec.model.architecture",
            mend="return float32",
        ) from error
    return Output(name, dtype, tuple(s if isinstance(s, int) else -1 for s in value.shape))
