"""Reads Python programs for known traps: the syntax tree, its imports and the way values take; runs nothing."""

import ast
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from strop_api.checks.source import NOT_READ
from strop_job.audit.source.events import Flow
from strop_job.audit.source.exporting import (
    export_without_checker,
    missing_dynamic_shapes,
    missing_opset,
    train_mode_export,
)
from strop_job.audit.source.located import Located
from strop_job.audit.source.program import Program, read
from strop_job.audit.source.publishing import missing_evaluation
from strop_job.audit.source.quantizing import convert_misuse, missing_calibration, quantize_before_train
from strop_job.audit.source.retiring import retired_names
from strop_job.audit.source.suppressions import kept
from strop_job.audit.source.training import fp16_without_scaler

__all__ = ["Located", "examine"]

CHECKS: tuple[Callable[[Flow, Program], Iterator[Located]], ...] = (
    missing_calibration,
    convert_misuse,
    quantize_before_train,
    fp16_without_scaler,
    missing_dynamic_shapes,
    missing_evaluation,
    export_without_checker,
    missing_opset,
    train_mode_export,
)


def examine(path: Path, text: str) -> list[Located]:
    """What is wrong with a program, by line. One that cannot be parsed is a finding, never an error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(text)
        program = read(tree, path)
    except SyntaxError as error:
        return [_unread(f"not Python that can be parsed: {error.msg}", error.lineno or 1, error.offset or 1)]
    except ValueError as error:  # null bytes, and text that is no Unicode
        return [_unread(f"not Python that can be parsed: {error}")]
    except (RecursionError, MemoryError):
        return [_unread("nested deeper than is read: nothing was examined")]
    found = [located for flow in program.flows for check in CHECKS for located in check(flow, program)]
    found += retired_names(program)
    if not program.whole:
        found.append(_unread("longer than is read: some of its functions were left out"))
    return sorted(kept(_once(found), text), key=lambda located: (located.line, located.column))


def _once(found: Iterable[Located]) -> list[Located]:
    """One finding of a check at a place, however many ways lead there."""
    places = {(located.finding.check, located.line, located.column): located for located in reversed(list(found))}
    return list(places.values())


def _unread(message: str, line: int = 1, column: int = 1) -> Located:
    return Located(NOT_READ.finding(message), line, max(column, 1), line)
