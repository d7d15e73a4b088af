"""NNCF, the quantizer of OpenVINO models: loaded without its telemetry, and quiet."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partialmethod
from unittest.mock import patch

from strop_job.backends import openvino_library as library

# isort: split
# Importing the library first has switched telemetry off, NNCF's too.
import nncf
from nncf.common.logging.track_progress import track
from nncf.openvino.graph.metatypes.groups import INPUTS_QUANTIZABLE_OPERATIONS, QUANTIZE_AGNOSTIC_OPERATIONS
from nncf.quantization import advanced_parameters as advanced
from nncf.quantization import range_estimator as ranges

__all__ = ["AGNOSTIC", "QUANTIZABLE", "advanced", "library", "nncf", "quiet", "ranges"]

QUANTIZABLE: frozenset[str] = frozenset(name for kind in INPUTS_QUANTIZABLE_OPERATIONS for name in kind.op_names)
"""Types of operations whose inputs NNCF quantizes."""
AGNOSTIC: frozenset[str] = frozenset(name for kind in QUANTIZE_AGNOSTIC_OPERATIONS for name in kind.op_names) - {
    "ReduceMax",
    "Maximum",
    "Minimum",
}
"""Types of operations that a quantizer may move past, since they change no value; less those that get one for nothing.
"""


@contextmanager
def quiet() -> Iterator[None]:
    """No progress bars, no log on standard output, no warnings of NumPy about values that are only observed."""
    nncf.set_log_level(logging.ERROR)
    still = partialmethod(track.__init__, disable=True)
    with patch.object(track, "__init__", still), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
