"""The process of its own in which a graph is read and run: it answers in one line of JSON, on what was its stdout."""

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from strop_job.doctor.files import Kind

ALONE_SECONDS = 30
"""Beside the time it is given; then the kernel ends it: whoever was to watch it is gone."""


def main() -> None:
    """Examine one file: kind, path, seconds, `run` or `read`. Findings, or the library that is missing."""
    kind, path, seconds, how = sys.argv[1:]
    answer = os.dup(1)
    os.dup2(2, 1)  # libraries print what they like
    signal.alarm(int(float(seconds)) + ALONE_SECONDS)
    spared(Path("/proc/self/oom_score_adj"))
    with os.fdopen(answer, "w", encoding="utf-8") as said:
        said.write(json.dumps(_examined(Kind(kind), Path(path), float(seconds), run=how == "run")))


def spared(score: Path) -> None:
    """Where memory runs out all the same, the kernel is to end this process and none beside it."""
    try:
        score.write_text("1000")
    except OSError:
        return


def _examined(kind: Kind, path: Path, seconds: float, *, run: bool) -> dict[str, Any]:
    try:
        if kind is Kind.ONNX:
            from strop_job.audit.graph.alone import examine

            found = examine(path, seconds, run=run)
        else:
            from strop_job.audit.graph.engines import examine as examine_engine

            found = examine_engine(path)
    except ModuleNotFoundError as error:
        return {"missing": (error.name or str(error)).partition(".")[0]}
    except OSError as error:
        return {"unread": error.strerror or "cannot be read"}
    return {"findings": [finding.model_dump(mode="json", by_alias=True) for finding in found]}
