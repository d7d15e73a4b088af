"""From weights and an architecture of the image to a torch program that was tried at every size the spec allows."""

import json
import shutil
import sys

from strop_api.model import ModelFormat, ModelSource
from strop_job.errors import Unsupported
from strop_job.models.exporter import export_in_child, order_for
from strop_job.models.program_files import FACTS_FILE, PROGRAM_FILE
from strop_job.stages import Artifact, ArtifactKind, StageContext

COMMAND = (sys.executable, "-P", "-s", "-m", "strop_job.models.program_child")


def to_program(context: StageContext, source: Artifact, code: Artifact | None) -> Artifact:
    """`model.pt2`. Facts: inputs, outputs, operators, parity with the module, sizeBytes.

    Raises Unsupported for anything whose program would be somebody else's code.
    """
    model = context.spec.model
    refuse_foreign_code(model, code)
    work = context.folder / "work"
    work.mkdir()
    order = order_for(model, work, source, seed=context.spec.seed)
    export_in_child(order, waiting=lambda: context.report(0.1, "exporting with torch"), command=COMMAND)
    facts = json.loads((work / FACTS_FILE).read_text())
    (work / PROGRAM_FILE).rename(context.folder / PROGRAM_FILE)
    shutil.rmtree(work)
    size = (context.folder / PROGRAM_FILE).stat().st_size
    context.report(1.0, "exported")
    return Artifact(ArtifactKind.EXPORTED_PROGRAM, context.folder, (PROGRAM_FILE,), {**facts, "sizeBytes": size})


def refuse_foreign_code(model: ModelSource, code: Artifact | None) -> None:
    """Raises Unsupported for models that are code, whatever the policy allows.

    An ONNX graph that came out of locked-in code is data. A torch program is not: to load it, and to compile it, is to
    run what its author wrote, and the quantizer, the compiler and the engine all run outside of the lock.
    """
    if code is not None or (model.architecture is not None and model.architecture.source is not None):
        raise Unsupported(
            "Inductor compiles no architecture from a uri: its program would run in the worker, not locked in",
            field="spec.model.architecture.source",
            mend="use a callable of the image, or the runtime ONNXRuntime",
        )
    if model.format is not ModelFormat.SAFETENSORS:
        raise Unsupported(
            f"Inductor compiles no {model.format} model: only weights with an architecture of the image",
            field="spec.model.format",
            mend="give the weights as Safetensors with `architecture`, or use the runtime ONNXRuntime",
        )
