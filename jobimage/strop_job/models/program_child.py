"""The program export's child process: `python -m strop_job.models.program_child order.json`."""

import sys
from pathlib import Path

from strop_api.model import ModelSource
from strop_job.models.child import serve
from strop_job.models.exporter import ExportOrder
from strop_job.stages import Artifact, ArtifactKind


def work(order: ExportOrder, folder: Path) -> None:
    """Builds the module, loads its weights, exports it."""
    from strop_job.models.program_export import export_to_program
    from strop_job.models.safetensors_files import open_checkpoint
    from strop_job.models.torch_export import build_module

    model = ModelSource.model_validate(order.model)
    source = Artifact(ArtifactKind.SOURCE, Path(order.source_folder), tuple(order.source_files))
    module = build_module(model, open_checkpoint(source), None)
    export_to_program(module, model, folder, order.seed)


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], "export", work))
