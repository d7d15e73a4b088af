"""Which callables of the image may be called by name: a spec must not be able to call `os:system`."""

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from strop_job.errors import InvalidInput, Unsupported

ALLOWED_VARIABLE = "STROP_CALLABLES"
"""Set by the worker image: further callables, `package.module:function` or `package.*`, separated by commas."""
OURS = "strop_job.zoo."


def find_callable(path: str, *, field: str, code: Path | None = None) -> Callable[..., Any]:
    """The callable `package.module:function`: of the zoo, or one the image names in STROP_CALLABLES.

    With `code`, a source file that the policy allowed, it is that file's `function`, whatever the module is called.
    Raises Unsupported for others, InvalidInput when it does not exist.
    """
    module_name, _, name = path.partition(":")
    if code is None and not _allowed(module_name, path):
        raise Unsupported(
            f"{path} is not offered by this worker image",
            field=field,
            mend=f"use a callable of {OURS}*, or an image that names it in {ALLOWED_VARIABLE}",
        )
    try:
        found = getattr(_module_in(code) if code else importlib.import_module(module_name), name)
    except (ImportError, AttributeError) as error:
        raise InvalidInput(f"{path} cannot be found in this worker image: {error}", field=field) from error
    if not callable(found) or name.startswith("_"):
        raise InvalidInput(f"{path} is not a public callable", field=field)
    return found  # type: ignore[no-any-return]


def _module_in(code: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(code.stem, code)
    if spec is None or spec.loader is None:
        raise ImportError(f"{code.name} is not a Python source file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[code.stem] = module
    spec.loader.exec_module(module)
    return module


def _allowed(module_name: str, path: str) -> bool:
    if f"{module_name}.".startswith(OURS):
        return True
    offered = [entry.strip() for entry in os.environ.get(ALLOWED_VARIABLE, "").split(",") if entry.strip()]
    return any(
        f"{module_name}.".startswith(entry.removesuffix("*")) if entry.endswith(".*") else entry == path
        for entry in offered
    )
