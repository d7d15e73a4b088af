"""The conversion's child process: `python -m strop_job.handoff.device_child FORMAT order.json`.

It runs in the environment of the converters, and like the export's child it answers with `result.json`.
"""

import json
import sys
from pathlib import Path

from strop_api.model import ModelSource
from strop_api.targets import OutputFormat
from strop_job.handoff.checked import CHECKED
from strop_job.models.child import serve
from strop_job.models.exporter import ExportOrder, given


def convert(order: ExportOrder, folder: Path, wanted: OutputFormat) -> None:
    """Write the bundle to `out` and what was checked of it to `check.json`."""
    from strop_job.handoff.original import load

    if wanted is OutputFormat.LITERT:
        from strop_job.handoff.litert import convert as converter
    else:
        from strop_job.handoff.coreml import convert as converter

    model = ModelSource.model_validate(order.model)
    original = load(model, given(order), Path(order.code) if order.code else None, order.seed)
    out = folder / "out"
    out.mkdir()
    checked = converter(original, out)
    (folder / CHECKED).write_text(json.dumps(checked))


if __name__ == "__main__":
    wanted = OutputFormat(sys.argv[1])
    sys.exit(serve(sys.argv[2], "conversion", lambda order, folder: convert(order, folder, wanted)))
