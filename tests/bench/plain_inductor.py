"""torchao and AOTInductor used by hand, as their documentation advises: what `bench_backends.py` measures ours against.

`make` quantizes the exported program with `X86InductorQuantizer` and its default configuration, exports it again, and
compiles it with freezing on, all else left alone
(https://docs.pytorch.org/ao/stable/tutorials_source/pt2e_quant_x86_inductor.html).
"""

import os
import warnings
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np

Arrays = Mapping[str, np.ndarray]
Call = Callable[[Arrays], dict[str, np.ndarray]]


def make(folder: Path, batches: Iterable[Arrays], scratch: Path) -> Call:
    """The exported `model.pt2` of a folder, quantized by hand and compiled on one thread."""
    os.environ |= {"TORCHINDUCTOR_FREEZING": "1", "TORCHINDUCTOR_CACHE_DIR": str(scratch / "cache")}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return _made(folder, batches, scratch)


def _made(folder: Path, batches: Iterable[Arrays], scratch: Path) -> Call:
    import torch
    import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer as x86
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    torch.set_num_threads(1)
    program = torch.export.load(folder / "model.pt2")
    quantizer = x86.X86InductorQuantizer().set_global(x86.get_default_x86_inductor_quantization_config())
    with torch.no_grad():
        prepared = prepare_pt2e(program.module(), quantizer)
        for batch in batches:
            prepared(**{name: torch.from_numpy(array) for name, array in batch.items()})
        converted = convert_pt2e(prepared)
        _, example = program.example_inputs
        dynamic = {name: dict.fromkeys(range(t.ndim), torch.export.Dim.AUTO) for name, t in example.items()}
        again = torch.export.export(converted, (), kwargs=dict(example), dynamic_shapes=dynamic)
        path = torch._inductor.aoti_compile_and_package(again, package_path=str(scratch / "engine.pt2"))
    runner = torch._inductor.aoti_load_package(path)

    def call(inputs: Arrays) -> dict[str, np.ndarray]:
        returned = runner(**{name: torch.from_numpy(array) for name, array in inputs.items()})
        flat = returned if isinstance(returned, tuple | list) else [returned]
        names = ["output"] if len(flat) == 1 else [f"output_{k}" for k in range(len(flat))]
        return {name: tensor.numpy() for name, tensor in zip(names, flat, strict=True)}

    return call
