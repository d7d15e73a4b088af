"""Quantizing a torch program for Inductor: INT8 by torchao's pt2e, or bf16; written, then proven."""

from typing import Any

import torch
from pydantic import JsonValue

from strop_api.steps import Precision, QuantizeMethod, QuantizeStep
from strop_api.targets import Target
from strop_job.backends import Arrays, backend_for
from strop_job.errors import Unsupported
from strop_job.hardware import this_machine
from strop_job.models.program_files import PROGRAM_FILE, operators, read_signature
from strop_job.models.torch_programs import export_again, load_program, quiet, save_program
from strop_job.stages import Artifact, ArtifactKind, StageContext
from strop_job.steps.quantize.onnx_graph.forms import weights_of_seven_bits
from strop_job.steps.quantize.proof import compare_outputs
from strop_job.steps.quantize.samples import CalibrationBatches, synthetic_batch

Made = tuple[Any, dict[str, JsonValue], Arrays]


def run_pt2e(context: StageContext, step: QuantizeStep, index: int, previous: str) -> Artifact:
    """Loads, rewrites, exports again with the same dynamic dimensions, and proves what was written.

    Facts: precision, method, format, opTypes, excluded, operators, sizeBytes, cosine on one batch; for INT8 `quantized`
    and `calibration`, for bf16 `scales` with the number of layers cast.
    """
    before = context.inputs[previous]
    refuse(step, index, context.target)
    context.report(0.0, "loading the program")
    torch.set_num_threads(this_machine().threads_for(context.target))
    program, signature = load_program(before.entry), read_signature(before.entry)
    with quiet():
        rewrite = _integer if step.precision is Precision.INT8 else _half
        module, own_facts, batch = rewrite(context, step, index, program.module())
    context.report(0.85, "exporting the quantized program")
    path = context.folder / PROGRAM_FILE
    save_program(export_again(module, program, signature), path, signature)
    del program, module
    made = Artifact(ArtifactKind.EXPORTED_PROGRAM, context.folder, (PROGRAM_FILE,))
    context.report(0.95, "running one batch through what was written")
    wanted, found = (_run(program_file, context.target, batch) for program_file in (before, made))
    proof = compare_outputs(wanted, found, index, real=step.method is QuantizeMethod.STATIC)
    facts: dict[str, JsonValue] = {
        "precision": step.precision.value,
        "method": step.method.value,
        "operators": dict(sorted(operators(path).items())),
        "sizeBytes": path.stat().st_size,
    }
    return Artifact(ArtifactKind.EXPORTED_PROGRAM, context.folder, (PROGRAM_FILE,), {**facts, **own_facts, **proof})


def _run(program: Artifact, target: Target, batch: Arrays) -> Arrays:
    session = backend_for(target.runtime).open(program, target, threads=1, optimized=False)
    try:
        return session.run(batch)
    finally:
        session.close()


def refuse(step: QuantizeStep, index: int, target: Target) -> None:
    """Raises Unsupported for what Inductor has no kernels for."""
    where = f"spec.steps[{index}].quantize"
    if step.precision is Precision.BF16:
        return
    if step.precision is not Precision.INT8 or step.method is not QuantizeMethod.STATIC:
        raise Unsupported(
            f"Inductor takes no {step.precision} by {step.method}", field=where, mend="use Static int8, or Cast bf16"
        )
    if target.accelerator is not None:
        raise Unsupported(
            "Inductor has integer kernels for CPUs only",
            field=f"{where}.precision",
            mend="use bf16 here, or the runtime TensorRT for INT8 on an accelerator",
        )
    if this_machine().arch != "amd64":
        raise Unsupported(
            "the integer kernels that Inductor finds are those of amd64",
            field=f"{where}.precision",
            mend="use the runtime ONNXRuntime on arm64",
        )
    if not step.per_channel:
        raise Unsupported(
            "Inductor's integer kernels take one scale per output channel of a weight",
            field=f"{where}.perChannel",
            mend="leave it true",
        )


def _integer(context: StageContext, step: QuantizeStep, index: int, module: torch.fx.GraphModule) -> Made:
    from strop_job.steps.quantize.torch_program.integer import quantize

    batches = CalibrationBatches(context)
    reduced = weights_of_seven_bits(step, context.target)
    made, facts = quantize(module, step, index, batches, reduced=reduced)
    return made, {**facts, "reducedRange": reduced}, batches.first


def _half(context: StageContext, step: QuantizeStep, index: int, module: torch.fx.GraphModule) -> Made:
    from strop_job.steps.quantize.torch_program.half import cast
    from strop_job.steps.quantize.torch_program.selection import COMPUTE, select

    context.report(0.1, "casting to bf16")
    selection = select(step, index, module.graph, COMPUTE)
    layers = cast(module, selection, index)
    facts: dict[str, JsonValue] = {
        "format": "bf16",
        "opTypes": list(selection.op_types),
        "excluded": [*sorted(selection.excluded)],
        "scales": {"tensors": layers},
    }
    return module, facts, synthetic_batch(context)
