"""From a module to a torch program on disk, tried at every size: the child process's part. Imports torch."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import JsonValue
from torch import nn

from strop_api.model import ModelSource
from strop_job.models import torch_export
from strop_job.models.comparison import compare
from strop_job.models.program_files import FACTS_FILE, PROGRAM_FILE, operators
from strop_job.models.shapes import Sizes, named, synthetic
from strop_job.models.signature import Signature, input_side
from strop_job.models.torch_programs import eager, outputs_of, quiet, save_program


def export_to_program(module: nn.Module, model: ModelSource, folder: Path, seed: int) -> None:
    """Writes `model.pt2` and `program.json`, the facts. Raises when the program is not the module at every size."""
    torch_export.check_names(module, model)
    bound = torch_export.integer_bound(module, model, seed)
    arrays = synthetic(model.inputs, torch_export.example_sizes(model), seed=seed, integers_below=bound)
    example = torch_export.tensors(arrays)
    program = _exported(module, model, example)
    inputs, bounds = input_side(model)
    outputs = outputs_of(program, torch_export.output_names(module, example))
    path = folder / PROGRAM_FILE
    save_program(program, path, Signature(inputs, outputs, bounds))
    torch_export.write_references(module, model, folder, seed, bound)
    facts: dict[str, JsonValue] = {
        "inputs": [i.name for i in inputs],
        "outputs": [o.name for o in outputs],
        "operators": dict(sorted(operators(path).items())),
        "parity": _parity(path, folder),
    }
    (folder / FACTS_FILE).write_text(json.dumps(facts))


def _exported(module: nn.Module, model: ModelSource, example: Mapping[str, torch.Tensor]) -> Any:
    try:
        with quiet():
            return torch.export.export(
                module, (), kwargs=dict(example), dynamic_shapes=torch_export.dynamic_shapes(model), strict=False
            )
    except Exception as error:
        raise torch_export.explained(error, model) from error


def _parity(path: Path, folder: Path) -> dict[str, JsonValue]:
    """The program as it was read back, against the module, on the same inputs."""
    call = eager(path)
    points: list[JsonValue] = []
    worst = 0.0
    sizes: list[Sizes] = json.loads((folder / "references.json").read_text())
    for i, at in enumerate(sizes):
        with np.load(folder / f"reference-{i}.npz", allow_pickle=False) as file:
            inputs = {name.removeprefix("in:"): file[name] for name in file.files if name.startswith("in:")}
            expected = [file[f"out:{k}"] for k in range(len(file.files) - len(inputs))]
        try:
            found = call(inputs)
        except Exception as error:
            raise torch_export.baked_in(named(at), str(error)) from error
        difference = compare(found, expected, at)
        points.append({"sizes": dict(at), "worst": difference})
        worst = max(worst, difference)
    return {"shapes": points, "worst": worst}
