"""The export's child process: `python -m strop_job.models.child order.json`. Its answer is `result.json` beside it."""

import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

from strop_api.model import ModelFormat, ModelSource
from strop_job.errors import InvalidInput, StropError
from strop_job.memory import exhausted, is_exhaustion
from strop_job.models.exporter import ExportOrder
from strop_job.models.sandbox import die_with_parent, lock_in
from strop_job.stages import Artifact, ArtifactKind


def main() -> int:
    """Read the order, carry it out, write the result."""
    return serve(sys.argv[1], "export", _export)


def serve(order_file: str, what: str, work: Callable[[ExportOrder, Path], None]) -> int:
    """Carry out an order, locked in where it says so, and write how it went: the exit code. `what` names the work."""
    die_with_parent()
    order = ExportOrder(**json.loads(Path(order_file).read_text()))
    folder = Path(order.folder)
    try:
        if order.isolated:
            lock_in(folder, readable=[Path(order.source_folder), *([Path(order.code)] if order.code else [])])
        work(order, folder)
    except Exception as error:
        if is_exhaustion(error):
            return _refuse(folder, exhausted(what))
        if isinstance(error, StropError):
            return _refuse(folder, error)
        traceback.print_exc()
        words = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        kind = "InvalidInput" if order.isolated else "StropError"
        _answer(folder, {"error": kind, "message": f"the {what} failed: {words}", "field": "spec.model", "mend": None})
        return 1
    _answer(folder, {})
    return 0


def _refuse(folder: Path, error: StropError) -> int:
    answer: dict[str, Any] = {"error": type(error).__name__, "message": error.message}
    _answer(folder, answer | {"field": error.field, "mend": error.mend})
    return 1


def _answer(folder: Path, answer: dict[str, Any]) -> None:
    (folder / "result.json").write_text(json.dumps(answer))


def _export(order: ExportOrder, folder: Path) -> None:
    from strop_job.models import torch_export
    from strop_job.models.safetensors_files import open_checkpoint

    model = ModelSource.model_validate(order.model)
    source = Artifact(ArtifactKind.SOURCE, Path(order.source_folder), tuple(order.source_files))
    if model.format is ModelFormat.TORCH_EXPORT:
        torch_export.export_program(torch_export.load_program(source.entry), model, folder, order.seed)
        return
    if model.format is not ModelFormat.SAFETENSORS:
        raise InvalidInput(f"{model.format.value} needs no export", field="spec.model.format")
    code = Path(order.code) if order.code else None
    module = torch_export.build_module(model, open_checkpoint(source), code)
    torch_export.export_module(module, model, folder, order.seed)


if __name__ == "__main__":
    sys.exit(main())
