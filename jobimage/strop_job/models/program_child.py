"""The program export's child process: `python -m strop_job.models.program_child order.json`."""

import sys
from pathlib import Path

from strop_api.model import ModelSource
from strop_job.models.child import serve
from strop_job.models.exporter import ExportOrder, given


def work(order: ExportOrder, folder: Path) -> None:
    """Builds the module, loads its weights, exports it."""
    from strop_job.models.program_export import export_to_program
    from strop_job.models.torch_model import load_model

    model = ModelSource.model_validate(order.model)
    export_to_program(load_model(model, given(order), None).module, model, folder, order.seed)


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1], "export", work))
