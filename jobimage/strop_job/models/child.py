"""The export's child process: `python -m strop_job.models.child order.json`. Its answer is `result.json` beside it."""

import json
import sys
from collections.abc import Callable
from pathlib import Path

from strop_api.model import ModelFormat, ModelSource
from strop_job.errors import InvalidInput
from strop_job.models.answering import answer
from strop_job.models.exporter import ExportOrder, given


def main() -> int:
    """Read the order, carry it out, write the result."""
    return serve(sys.argv[1], "export", _export)


def serve(order_file: str, what: str, work: Callable[[ExportOrder, Path], None]) -> int:
    """Carry out an order, locked in where it says so, and write how it went: the exit code. `what` names the work."""
    order = ExportOrder(**json.loads(Path(order_file).read_text()))
    readable = [Path(order.source_folder), *([Path(order.code)] if order.code else [])]
    return answer(
        Path(order.folder),
        what,
        lambda: work(order, Path(order.folder)),
        locked_to=readable if order.isolated else None,
        field="spec.model",
    )


def _export(order: ExportOrder, folder: Path) -> None:
    from strop_job.models import torch_export
    from strop_job.models.torch_model import load_model

    model, source = ModelSource.model_validate(order.model), given(order)
    if model.format is ModelFormat.TORCH_EXPORT:
        torch_export.export_program(torch_export.load_program(source.entry), model, folder, order.seed)
        return
    if model.format is not ModelFormat.SAFETENSORS:
        raise InvalidInput(f"{model.format.value} needs no export", field="spec.model.format")
    code = Path(order.code) if order.code else None
    torch_export.export_module(load_model(model, source, code).module, model, folder, order.seed)


if __name__ == "__main__":
    sys.exit(main())
