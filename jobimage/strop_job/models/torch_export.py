"""From a torch module or an exported program to an ONNX file with dynamic dimensions. Imports torch: only the child
process of `strop_job.models.exporter` loads this module.
"""

import inspect
import json
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from torch import nn

from strop_api.model import ModelSource
from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.architectures import find_callable
from strop_job.models.safetensors_files import Checkpoint, compare_keys, refuse_bad_weights
from strop_job.models.shapes import Arrays, Sizes, optimum, synthetic, trial_sizes

OPSET = 18
"""The opset torch writes by itself: a higher one goes through a converter, a lower one is ignored in silence."""
INLINE_LIMIT_BYTES = 1_900_000_000
"""Above this the weights go to `model.onnx.data`: protobuf ends at 2 GiB."""
INTEGER_BOUNDS = (1000, 100, 10, 2, 1)
"""Vocabularies tried, the largest first: a module does not say how many ids it knows."""


def build_module(model: ModelSource, checkpoint: Checkpoint, source: Path | None) -> nn.Module:
    """The architecture with its weights loaded strictly, in evaluation mode."""
    module = build_architecture(model, source)
    load_weights(module, checkpoint)
    return module.eval()


def build_architecture(model: ModelSource, source: Path | None) -> nn.Module:
    """The module that the spec's callable makes, as it comes."""
    architecture = model.architecture
    if architecture is None:
        raise InvalidInput("safetensors hold no architecture", field="spec.model.architecture", mend="name a callable")
    make = find_callable(architecture.callable, field="spec.model.architecture.callable", code=source)
    try:
        module = make(**architecture.arguments)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{architecture.callable} refused its arguments: {error}", field=ARGUMENTS) from error
    if not isinstance(module, nn.Module):
        raise InvalidInput(
            f"{architecture.callable} returned no torch module", field="spec.model.architecture.callable"
        )
    return module


ARGUMENTS = "spec.model.architecture.arguments"


def load_weights(module: nn.Module, checkpoint: Checkpoint) -> None:
    """Copy every tensor of the checkpoint into the module, one at a time; keys and shapes must be the same."""
    state = module.state_dict()
    compare_keys({key: tuple(value.shape) for key, value in state.items()}, checkpoint.shapes)
    for file in checkpoint.files:
        with safe_open(str(file), framework="pt") as opened:
            for key in opened.keys():  # noqa: SIM118
                value = opened.get_tensor(key)
                if value.is_floating_point():
                    refuse_bad_weights(key, value.float().numpy())
                state[key].copy_(value)


def export_module(module: nn.Module, model: ModelSource, folder: Path, seed: int) -> None:
    """Write `model.onnx` and the module's own outputs at the trial sizes to `folder`."""
    check_names(module, model)
    bound = integer_bound(module, model, seed)
    example = tensors(synthetic(model.inputs, example_sizes(model), seed=seed, integers_below=bound))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = _export(module, model, example)
        program.optimize()
        program.save(folder / "model.onnx", external_data=_weight_bytes(module) > INLINE_LIMIT_BYTES)
    write_references(module, model, folder, seed, bound)


def export_program(program: Any, model: ModelSource, folder: Path, seed: int) -> None:
    """The same for an ExportedProgram, whose dynamic dimensions are already fixed."""
    call = call_of(program, model)
    bound = integer_bound(call, model, seed)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        onnx_program = torch.onnx.export(program, dynamo=True, opset_version=OPSET, verbose=False)
        if onnx_program is None:
            raise Unsupported("torch exported nothing", field="spec.model.uri")
        large = sum(t.numel() * t.element_size() for t in program.state_dict.values()) > INLINE_LIMIT_BYTES
        onnx_program.save(folder / "model.onnx", external_data=large)
    write_references(call, model, folder, seed, bound)


def call_of(program: Any, model: ModelSource) -> Callable[..., Any]:
    """The program's module, called by the names of its inputs whichever way it was exported."""
    positional, named = arguments_of(program, model)
    module = program.module()
    return lambda **given: module(*(given[n] for n in positional), **{n: given[n] for n in named})


def arguments_of(program: Any, model: ModelSource) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the inputs that an ExportedProgram takes by position, and of those it takes by name."""
    names = tuple(map(str, program.graph_signature.user_inputs))
    asked = {t.name for t in model.inputs}
    if set(names) != asked:
        raise InvalidInput(
            f"the export takes {', '.join(names)}; the spec names {', '.join(sorted(asked))}",
            field="spec.model.inputs",
        )
    count = program.call_spec.in_spec.child(0).num_leaves
    return names[:count], names[count:]


def _export(module: nn.Module, model: ModelSource, example: Mapping[str, torch.Tensor]) -> Any:
    try:
        program = torch.onnx.export(
            module,
            (),
            kwargs=dict(example),
            dynamic_shapes=dynamic_shapes(model),
            dynamo=True,
            opset_version=OPSET,
            output_names=output_names(module, example),
            verbose=False,
        )
    except Exception as error:
        raise explained(error, model) from error
    if program is None:
        raise Unsupported("torch exported nothing", field="spec.model.architecture")
    return program


def output_names(module: Callable[..., Any], example: Mapping[str, torch.Tensor]) -> list[str]:
    """The keys of a returned mapping; `output` for a single tensor, `output_0`, `output_1` … for a sequence."""
    with torch.no_grad():
        returned = module(**example)
    if isinstance(returned, Mapping):
        return [str(key) for key, value in returned.items() if isinstance(value, torch.Tensor)]
    count = len(torch.utils._pytree.tree_flatten(returned)[0])
    return ["output"] if count == 1 else [f"output_{k}" for k in range(count)]


def dynamic_shapes(model: ModelSource) -> dict[str, dict[int, Any]]:
    """torch's description of which axes stay dynamic, with their bounds; a dimension with min = max is fixed."""
    dims = {d.name: torch.export.Dim(d.name, min=d.min, max=d.max) for d in model.dimensions if d.min < d.max}
    return {
        t.name: {i: dims[s] for i, s in enumerate(t.shape) if isinstance(s, str) and s in dims} for t in model.inputs
    }


def example_sizes(model: ModelSource) -> dict[str, int]:
    """Sizes of the dynamic dimensions to export with."""
    return {d.name: example_size(d.min, d.opt, d.max) for d in model.dimensions}


def example_size(least: int, tuned: int, most: int) -> int:
    """torch takes a size of 1 for a constant, so an example never has it where more is allowed."""
    return tuned if tuned > 1 or most == 1 else min(most, max(2, least))


def explained(error: Exception, model: ModelSource) -> Exception:
    """Torch's error as ours: a fixed dimension is told apart from an operator that cannot be exported."""
    text = "\n".join(str(e) for e in _chain(error))
    for dimension in model.dimensions:
        if f"({dimension.name})" in text and "specialized" in text:
            return baked_in(dimension.name)
    if "Constraints violated" in text or "specializ" in text:
        return baked_in(", ".join(d.name for d in model.dimensions), text)
    return Unsupported(f"torch cannot export the module: {_first_lines(text)}", field="spec.model.architecture")


def baked_in(name: str, detail: str = "") -> InvalidInput:
    """The error for a dimension that the spec calls dynamic and the model does not."""
    return InvalidInput(
        f"the model fixes the size of {name}, which the spec calls dynamic"
        + (f": {_first_lines(detail)}" if detail else ""),
        field="spec.model.dimensions",
        mend="take the size from the input's shape in the module, or write a fixed size in spec.model.inputs",
    )


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _first_lines(text: str, limit: int = 400) -> str:
    return " ".join(text.split())[:limit]


def check_names(module: nn.Module, model: ModelSource) -> None:
    """Raises InvalidInput when the spec's inputs are not the arguments of the module's forward."""
    parameters = inspect.signature(module.forward).parameters
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return
    names = [t.name for t in model.inputs]
    unknown = [n for n in names if n not in parameters]
    required = [n for n, p in parameters.items() if p.default is p.empty and p.kind is not p.VAR_POSITIONAL]
    missing = [n for n in required if n not in names]
    if unknown or missing:
        raise InvalidInput(
            f"the module's forward takes {', '.join(parameters)}; the spec names {', '.join(names)}",
            field="spec.model.inputs",
        )


def integer_bound(module: Any, model: ModelSource, seed: int) -> int:
    """Integer inputs are made up below this: the largest vocabulary tried that the module takes at the tuned sizes."""
    problem: Exception | None = None
    for bound in INTEGER_BOUNDS:
        arrays = synthetic(model.inputs, optimum(model.dimensions), seed=seed, integers_below=bound)
        try:
            _outputs(module, arrays)
        except IndexError as error:
            problem = error
        except Exception as error:
            raise InvalidInput(
                f"the module refuses inputs of the spec's shapes and types: {_first_lines(str(error))}",
                field="spec.model.inputs",
            ) from error
        else:
            return bound
    raise InvalidInput(f"the module refuses every integer input: {problem}", field="spec.model.inputs")


def write_references(module: Any, model: ModelSource, folder: Path, seed: int, bound: int) -> None:
    """`reference-<i>.npz` for each trial size: inputs as `in:<name>`, outputs as `out:<position>`."""
    sizes = trial_sizes(model)
    for i, at in enumerate(sizes):
        arrays = synthetic(model.inputs, at, seed=seed, integers_below=bound)
        try:
            outputs = _outputs(module, arrays)
        except Exception as error:
            raise baked_in(_named(at), str(error)) from error
        named = {f"in:{name}": value for name, value in arrays.items()}
        np.savez(folder / f"reference-{i}.npz", **named, **{f"out:{k}": v for k, v in enumerate(outputs)})  # type: ignore[arg-type]
    (folder / "references.json").write_text(json.dumps(sizes))


def _named(sizes: Sizes) -> str:
    return ", ".join(f"{name} {size}" for name, size in sizes.items())


def _outputs(module: Any, arrays: Arrays) -> list[np.ndarray]:
    with torch.no_grad():
        returned = module(**tensors(arrays))
    flat, _ = torch.utils._pytree.tree_flatten(returned)
    return [value.numpy() for value in flat if isinstance(value, torch.Tensor)]


def tensors(arrays: Arrays) -> dict[str, torch.Tensor]:
    """The arrays as tensors that share their memory."""
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


def _weight_bytes(module: nn.Module) -> int:
    return sum(p.numel() * p.element_size() for p in (*module.parameters(), *module.buffers()))


def load_program(path: Path) -> Any:
    """Load a `.pt2`. Loading one may run code: only ever call this in a locked-in process."""
    try:
        return torch.export.load(path)
    except Exception as error:
        raise InvalidInput(
            f"the file cannot be loaded as a torch export: {_first_lines(str(error))}", field="spec.model.uri"
        ) from error
