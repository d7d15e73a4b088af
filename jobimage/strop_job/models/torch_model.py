"""A torch module with its weights, masks and sizes: how it is built, called, changed and kept. Imports torch."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from strop_api.model import ModelFormat, ModelSource
from strop_job.errors import InvalidInput, Unsupported
from strop_job.models.safetensors_files import open_checkpoint, refuse_bad_weights
from strop_job.models.torch_export import build_architecture, build_module
from strop_job.stages import Artifact, ArtifactKind

WEIGHTS, MASKS, SURGERY = "model.safetensors", "masks.safetensors", "surgery.json"
"""Files of a TorchModel: tensors by name of the module's state, masks by name of the parameter, and what became of the
architecture's sizes."""
Sizes = dict[str, dict[str, Any]]
"""By name of a submodule: attributes that say its sizes (`out_channels`, `heads`), where they are not the
architecture's."""


@dataclass
class TorchModel:
    """A module, and what must stay zero in it."""

    module: nn.Module
    masks: dict[str, Tensor] = field(default_factory=dict)
    """Boolean, by name of the parameter and of its shape; False stays zero through every later training step."""

    def apply_masks(self) -> None:
        """Set what is masked to zero, in place."""
        parameters = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, mask in self.masks.items():
                parameters[name].mul_(mask.to(parameters[name].device))

    def broken_masks(self) -> list[str]:
        """Parameters that are not zero where their mask says so, or are gone."""
        parameters = dict(self.module.named_parameters())
        return [
            name
            for name, mask in self.masks.items()
            if name not in parameters or bool(parameters[name].detach().cpu()[~mask].any())
        ]

    @property
    def parameters(self) -> int:
        """Trainable and fixed numbers of the module."""
        return sum(p.numel() for p in self.module.parameters())

    @property
    def zeros(self) -> int:
        """Of these, those that are zero."""
        return sum(int((p == 0).sum()) for p in self.module.parameters())


def load_model(model: ModelSource, given: Artifact, code: Path | None) -> TorchModel:
    """The user's weights (SOURCE), or what an earlier step yielded (TORCH_MODEL), in evaluation mode.

    Raises Unsupported for a format that holds no module, InvalidInput for weights that do not fit it.
    """
    if model.format is not ModelFormat.SAFETENSORS:
        raise Unsupported(
            f"{model.format.value} holds no torch module that a step could change",
            field="spec.model.format",
            mend="give the weights as Safetensors with `architecture`",
        )
    if given.kind is not ArtifactKind.TORCH_MODEL:
        return TorchModel(build_module(model, open_checkpoint(given), code))
    module = build_architecture(model, code)
    resize(module, json.loads((given.folder / SURGERY).read_text()))
    weights = load_file(given.folder / WEIGHTS)
    _reshape(module, weights)
    module.load_state_dict(weights, strict=True)
    masks = given.folder / MASKS
    return TorchModel(module.eval(), load_file(masks) if masks.exists() else {})


def save_model(kept: TorchModel, model: ModelSource, code: Path | None, folder: Path) -> tuple[str, ...]:
    """Write it to `folder`; the files' names, the weights first. Raises InvalidInput for NaN, Inf or a broken mask."""
    folder.mkdir(exist_ok=True)
    state = {name: value.detach().cpu().contiguous().clone() for name, value in kept.module.state_dict().items()}
    for name, value in state.items():
        if value.is_floating_point():
            refuse_bad_weights(name, value.float().numpy())
    if broken := kept.broken_masks():
        raise AssertionError(f"weights that a mask removed are back: {', '.join(broken[:3])}")
    save_file(state, folder / WEIGHTS)
    (folder / SURGERY).write_text(json.dumps(sizes_changed(build_architecture(model, code), kept.module)))
    if not kept.masks:
        return WEIGHTS, SURGERY
    save_file({name: mask.cpu().contiguous() for name, mask in kept.masks.items()}, folder / MASKS)
    return WEIGHTS, SURGERY, MASKS


def sizes_changed(original: nn.Module, changed: nn.Module) -> Sizes:
    """Plain attributes of submodules that differ from the architecture's."""
    before = dict(original.named_modules())
    found: Sizes = {}
    for name, module in changed.named_modules():
        if name not in before:
            raise InvalidInput(f"the step added the module {name!r}, which the architecture does not have")
        old = before[name].__dict__
        differing = {key: value for key, value in module.__dict__.items() if _is_size(value) and old.get(key) != value}
        differing.pop("training", None)
        if differing:
            found[name] = differing
    return found


def _is_size(value: object) -> bool:
    if isinstance(value, tuple):
        return all(isinstance(part, int) for part in value)
    return isinstance(value, int | float | str)


def resize(module: nn.Module, sizes: Sizes) -> None:
    """Give submodules the attributes that were recorded."""
    modules = dict(module.named_modules())
    for name, attributes in sizes.items():
        for key, value in attributes.items():
            setattr(modules[name], key, tuple(value) if isinstance(value, list) else value)


def _reshape(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Make room: parameters and buffers take the shapes of the weights; what was tied stays tied."""
    made: dict[int, nn.Parameter] = {}
    for prefix, owner in module.named_modules():
        for name, old in list(owner.named_parameters(recurse=False)):
            wanted = weights[f"{prefix}.{name}" if prefix else name]
            if wanted.shape != old.shape:
                new = made.setdefault(id(old), nn.Parameter(torch.empty_like(wanted), requires_grad=old.requires_grad))
                setattr(owner, name, new)
        for name, buffer in list(owner.named_buffers(recurse=False)):
            wanted = weights.get(f"{prefix}.{name}" if prefix else name)
            if wanted is not None and wanted.shape != buffer.shape:
                owner.register_buffer(name, torch.empty_like(wanted))


def call(module: nn.Module, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The module's outputs by name, in its order: the names are those of its ONNX export."""
    returned = module(**inputs)
    if isinstance(returned, Mapping):
        return {str(key): value for key, value in returned.items() if isinstance(value, Tensor)}
    flat = [value for value in torch.utils._pytree.tree_flatten(returned)[0] if isinstance(value, Tensor)]
    return {"output": flat[0]} if len(flat) == 1 else {f"output_{k}": value for k, value in enumerate(flat)}
