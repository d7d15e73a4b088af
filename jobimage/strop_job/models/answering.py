"""The child's end of an order: the work is done, locked in where it must be, and `result.json` says how it went."""

import json
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from strop_job.errors import StropError
from strop_job.memory import exhausted, is_exhaustion
from strop_job.models.sandbox import die_with_parent, lock_in


def answer(
    folder: Path, what: str, work: Callable[[], None], *, locked_to: Sequence[Path] | None = None, field: str
) -> int:
    """Do the work and write how it went: the exit code. `what` names the work in errors, `field` blames the spec.

    `locked_to`: before the work this process is locked in, and reads nothing but these and Python itself.
    """
    die_with_parent()
    try:
        if locked_to is not None:
            lock_in(folder, readable=locked_to)
        work()
    except Exception as error:
        if is_exhaustion(error):
            return _refuse(folder, exhausted(what))
        if isinstance(error, StropError):
            return _refuse(folder, error)
        traceback.print_exc()
        words = " ".join(f"{type(error).__name__}: {error}".split())[:400]
        kind = "StropError" if locked_to is None else "InvalidInput"
        _write(folder, {"error": kind, "message": f"the {what} failed: {words}", "field": field, "mend": None})
        return 1
    _write(folder, {})
    return 0


def _refuse(folder: Path, error: StropError) -> int:
    said: dict[str, Any] = {"error": type(error).__name__, "message": error.message}
    _write(folder, said | {"field": error.field, "mend": error.mend})
    return 1


def _write(folder: Path, said: dict[str, Any]) -> None:
    (folder / "result.json").write_text(json.dumps(said))
