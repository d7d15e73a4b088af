"""Torch programs whose constants differ in their last bits. Imports torch."""

from pathlib import Path

import torch

from strop_job.models.program_files import PROGRAM_FILE, read_signature
from strop_job.models.torch_programs import load_program, save_program
from strop_job.stages import Artifact
from strop_job.verification.rounding import shake


def shaken(graph: Artifact, seed: int, folder: Path) -> Artifact:
    """A copy in an empty folder: weights and tables in floats are moved; a lone number is left alone."""
    program = load_program(graph.entry)
    tensors = [t for t in (*program.state_dict.values(), *program.constants.values()) if isinstance(t, torch.Tensor)]
    for at, tensor in enumerate(tensors):
        if tensor.dtype is torch.float32 and tensor.numel() > 1:
            tensor.data.copy_(torch.from_numpy(shake(tensor.detach().cpu().numpy(), seed + at)))
    save_program(program, folder / PROGRAM_FILE, read_signature(graph.entry))
    return Artifact(graph.kind, folder, (PROGRAM_FILE,), graph.facts)
