"""The original torch model as the converters for devices take it. Imported only in their environment."""
# mypy: disable-error-code="misc"

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from strop_api.model import ModelFormat, ModelSource
from strop_job.models.shapes import Arrays, Sizes, synthetic
from strop_job.models.torch_export import (
    arguments_of,
    call_of,
    dynamic_shapes,
    example_sizes,
    integer_bound,
    load_program,
    output_names,
)
from strop_job.models.torch_model import load_model
from strop_job.stages import Artifact

Tensors = dict[str, torch.Tensor]


@dataclass(frozen=True)
class Original:
    """A module, and how it is called."""

    model: ModelSource
    module: nn.Module
    call: Callable[..., Any]
    """By the names of the spec's inputs."""
    positional: tuple[str, ...]
    """Inputs that the module itself takes by position; the others it takes by name."""
    program: Any
    """The ExportedProgram that it was given as, or None."""
    bound: int
    """Integer inputs lie below it."""
    seed: int

    def arrays(self, sizes: Sizes) -> Arrays:
        """Made-up inputs at these sizes of the dynamic dimensions."""
        return synthetic(self.model.inputs, sizes, seed=self.seed, integers_below=self.bound)

    def arguments(self, tensors: Mapping[str, torch.Tensor]) -> tuple[tuple[torch.Tensor, ...], Tensors]:
        """The same tensors as the module takes them: by position, and by name."""
        named = {name: tensor for name, tensor in tensors.items() if name not in self.positional}
        return tuple(tensors[name] for name in self.positional), named

    def exported(self) -> Any:
        """As an ExportedProgram with the spec's dynamic dimensions; one that was given has its own."""
        if self.program is not None:
            return self.program
        example = as_tensors(self.arrays(example_sizes(self.model)))
        return torch.export.export(self.module, (), example, dynamic_shapes=dynamic_shapes(self.model))

    def output_names(self) -> list[str]:
        """The keys of a returned mapping, or `output`, `output_0`, `output_1` …"""
        return output_names(self.call, as_tensors(self.arrays(example_sizes(self.model))))

    def run(self, arrays: Arrays) -> list[Any]:
        """Its outputs, in order, as arrays."""
        with torch.no_grad():
            returned = self.call(**as_tensors(arrays))
        return [value.numpy() for value in torch.utils._pytree.tree_flatten(returned)[0]]


def load(model: ModelSource, source: Artifact, code: Path | None, seed: int) -> Original:
    """From safetensors and the architecture's callable, or from a `.pt2`, which runs code: only where locked in."""
    if model.format is ModelFormat.TORCH_EXPORT:
        program = load_program(source.entry)
        call, (positional, _) = call_of(program, model), arguments_of(program, model)
        return Original(model, program.module(), call, positional, program, integer_bound(call, model, seed), seed)
    module = load_model(model, source, code).module
    return Original(model, module, module, (), None, integer_bound(module, model, seed), seed)


def as_tensors(arrays: Arrays) -> Tensors:
    """Torch's view of arrays."""
    return {name: torch.from_numpy(value) for name, value in arrays.items()}
