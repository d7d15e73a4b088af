"""The table of what is gone or going, held against the libraries that are installed."""

import importlib
import inspect

import pytest

from strop_job.audit.source.retired import NNCF, ONNX, OPENVINO, PARAMETERS, TENSORRT, TORCH, Retired, retired


def _there(path: str) -> bool:
    module, _, name = path.rpartition(".")
    try:
        found = importlib.import_module(module) if module else None
        return found is not None and (hasattr(found, name) or importlib.util.find_spec(path) is not None)
    except ImportError:
        return False


ROWS = [row for row in (*TORCH, *OPENVINO, *NNCF, *ONNX) if not row.path.startswith("compression")]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path)
def test_what_is_called_gone_is_gone_and_what_is_going_is_there(row: Retired) -> None:
    """People would be sent away from what works, or told that something works that does not."""
    assert _there(row.path) is not row.removed


@pytest.mark.parametrize("row", [r for r in TENSORRT if "(" not in r.path], ids=lambda row: row.path)
def test_names_of_tensorrt_are_gone_from_its_sibling(row: Retired) -> None:
    """TensorRT for RTX has the same interface as TensorRT 11: what it lacks is gone there too."""
    import tensorrt_rtx

    found = tensorrt_rtx
    *parts, last = row.path.split(".")[1:]
    for part in parts:
        found = getattr(found, part)
    assert not hasattr(found, last)


@pytest.mark.parametrize(("path", "words"), PARAMETERS.items())
def test_parameters_called_gone_are_gone(path: str, words: tuple[str, ...]) -> None:
    """A call would be flagged that works."""
    module, _, name = path.rpartition(".")
    there = inspect.signature(getattr(importlib.import_module(module), name)).parameters
    assert not set(words) & set(there)


def test_other_names_of_a_module_are_the_same_name() -> None:
    """A program that spells the longer path would be left alone."""
    assert retired("torch.quantization.quantize_fx.convert_fx") is retired(
        "torch.ao.quantization.quantize_fx.convert_fx"
    )
    assert retired("torch.ao.quantization.observer.MinMaxObserver") is None
