"""The Inductor backend's child process: `python -m strop_job.backends.aoti.child order.json`. Compiles, or runs a call.

A process of its own: the compiler's memory, its caches and its processes leave with it, and oneDNN's log of a call is
this process's alone.
"""

import json
import sys
import traceback
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from strop_job.backends.aoti.package import ENGINE_FILE, Built, describe, to_metadata
from strop_job.errors import StropError, Unsupported
from strop_job.hardware import this_machine
from strop_job.memory import exhausted, is_exhaustion
from strop_job.models.program_files import is_quantized, read_signature
from strop_job.models.sandbox import die_with_parent
from strop_job.models.signature import Signature

MACS_FILE = "macs.json"


def main(order_file: str) -> int:
    """Carries out the order; how it went stands in `result.json` beside it."""
    die_with_parent()
    path = Path(order_file)
    order: Mapping[str, Any] = json.loads(path.read_text())
    try:
        {"compile": compile_program, "call": call_once}[order["action"]](order, path.parent)
    except Exception as error:
        (path.parent / "result.json").write_text(json.dumps(_answer(error, order["action"])))
        return 1
    (path.parent / "result.json").write_text("{}")
    return 0


def _answer(error: Exception, action: str) -> dict[str, Any]:
    said = exhausted("compile") if is_exhaustion(error) else error
    if isinstance(said, StropError):
        return {"error": type(said).__name__, "message": said.message, "field": said.field, "mend": said.mend}
    traceback.print_exc()
    words = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    kind = "Unsupported" if action == "compile" else "StropError"
    return {"error": kind, "message": f"Inductor cannot {action} the program: {words}", "field": "spec.model"}


def compile_program(order: Mapping[str, Any], folder: Path) -> None:
    """Writes `engine.pt2` beside the order, for this very processor."""
    import torch
    from torch._inductor import aoti_compile_and_package, config

    from strop_job.backends.aoti.macs import multiplications
    from strop_job.backends.aoti.workarounds import any_batch_to_convolutions, weights_packed_for_the_tuned_sizes
    from strop_job.models.torch_programs import load_program, quiet

    path = Path(order["program"])
    signature, program = read_signature(path), load_program(path)
    torch.set_num_threads(order["threads"])
    if is_quantized(path):
        import torchao.quantization.pt2e.quantizer.x86_inductor_quantizer  # noqa: F401 - registers the lowering
    machine = this_machine()
    built = Built(
        torch=torch.__version__,
        arch=machine.arch,
        isa=machine.isa,
        threads=order["threads"],
        device=order["device"],
        max_autotune=order["maxAutotune"],
        layers=multiplications(program, signature),
    )
    if order["device"] != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, order["device"])
    options = {
        "freezing": True,
        "max_autotune": order["maxAutotune"],
        "compile_threads": 1,
        "cpp.threads": order["threads"],
        "aot_inductor.metadata": to_metadata(signature, built),
    }
    engine = folder / ENGINE_FILE
    with ExitStack() as patched:
        for context in (quiet(), config.patch(freezing=True), any_batch_to_convolutions()):
            patched.enter_context(context)
        if is_quantized(path):
            patched.enter_context(weights_packed_for_the_tuned_sizes())
        aoti_compile_and_package(program, package_path=str(engine), inductor_configs=options)
    del program
    require_layouts(engine, signature, built.device)


def require_layouts(engine: Path, signature: Signature, device: str) -> None:
    """Runs the engine at its smallest and largest sizes with its own assertions on, which a server leaves off.

    Smallest is 2 here: torch assumes of every dynamic size that it is no 1, and asserts that too. What an engine does
    at 1 is for compile parity to tell, which runs there.

    Raises Unsupported when a library's kernel returns a tensor in another layout than the generated loops read, or when
    the compiler narrowed a dimension: such an engine computes something else without a word. The environment's
    AOTI_RUNTIME_CHECK_INPUTS turns the assertions on.
    """
    import numpy as np
    import torch

    from strop_job.models.torch_programs import quiet, tensor

    with quiet():
        runner = torch._inductor.aoti_load_package(str(engine))
        least = {name: max(low, min(2, high)) for name, (low, high) in signature.bounds.items()}
        most = {name: high for name, (_, high) in signature.bounds.items()}
        for sizes in (least, most):
            shapes = signature.shapes(sizes)
            inputs = {i.name: tensor(np.zeros(shapes[i.name], i.dtype)).to(device) for i in signature.inputs}
            try:
                runner(**inputs)
            except RuntimeError as error:
                raise Unsupported(
                    f"Inductor compiled an engine that fails its own assertions: {_mismatch(error)}",
                    field="spec.targets[].runtime",
                    mend="use the runtime ONNXRuntime, or keep the layers that it names out of the quantization",
                ) from error


def _mismatch(error: RuntimeError) -> str:
    lines = [line for line in str(error).splitlines() if "expected" in line or line.startswith("Error in op")]
    return " ".join(" ".join(lines[:2]).split())[:200] or str(error)[:200]


def call_once(order: Mapping[str, Any], folder: Path) -> None:
    """Runs the engine on zeros, the second call under oneDNN's log; `macs.json` holds the layers' compute."""
    import numpy as np
    import torch

    from strop_job.backends.aoti.macs import evaluate
    from strop_job.models.torch_programs import quiet, tensor

    engine = Path(order["engine"])
    signature, built = describe(engine)
    sizes = signature.sizes({name: tuple(shape) for name, shape in order["shapes"].items()})
    (folder / MACS_FILE).write_text(json.dumps([evaluate(layer.macs, sizes) for layer in built.layers]))
    torch.set_num_threads(1)
    inputs = {i.name: tensor(np.zeros(order["shapes"][i.name], i.dtype)) for i in signature.inputs}
    with quiet():
        runner = torch._inductor.aoti_load_package(str(engine))
        runner(**inputs)
        with torch.backends.mkldnn.verbose(torch.backends.mkldnn.VERBOSE_ON):
            runner(**inputs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
