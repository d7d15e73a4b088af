"""Parts of the spine's tests: a request, a port, waiting with a deadline."""

import socket
import time
from pathlib import Path

import pytest

from strop_api.data import DataFormat, DataSource, DataSpec
from strop_api.model import Dimension, DType, InputTensor, Metric, ModelFormat, ModelSource, TaskSpec, TaskType
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest, StoreAccess
from strop_api.targets import Cpu, Output, Runtime, Target

PARTS = Path(__file__).with_name("parts")


def make_spec(**changes):
    """A spec that this build can do; each change replaces a field."""
    fields = {
        "model": ModelSource(
            uri="s3://models/tiny/model.onnx",
            format=ModelFormat.ONNX,
            inputs=[InputTensor(name="x", dtype=DType.FLOAT32, shape=["batch", 8])],
            dimensions=[Dimension(name="batch", min=1, opt=4, max=16)],
        ),
        "task": TaskSpec(type=TaskType.CLASSIFICATION, metric=Metric.ACCURACY, labels="label"),
        "data": DataSpec(evaluation=DataSource(uri="s3://data/tiny/eval.npz", format=DataFormat.NPZ)),
        "targets": [Target(name="cpu", runtime=Runtime.ONNX_RUNTIME, cpu=Cpu(threads=1))],
        "output": Output(uri="s3://engines/tiny"),
    }
    return ModelOptimizationSpec(**(fields | changes))


def make_request(spec=None, **changes):
    """A request for it."""
    spec = spec or make_spec()
    fields = {
        "namespace": "team", "name": "tiny", "uid": "uid-1", "run_id": "0123456789", "target": spec.targets[0].name,
        "spec": spec, "image": "strop@test",
        "store": StoreAccess(endpoint="file://local", region="local", records_uri="s3://strop-records"),
    }  # fmt: skip
    return RunRequest(**(fields | changes))


def wait_for(condition, seconds=20.0):
    """The condition's first true value; fails after the deadline."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := condition():
            return value
        time.sleep(0.02)
    raise AssertionError(f"not true within {seconds} s: {condition}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def spine():
    """The helpers, for tests that cannot import this file."""

    class Parts:
        parts = PARTS

    Parts.make_spec, Parts.make_request = staticmethod(make_spec), staticmethod(make_request)
    Parts.wait_for, Parts.free_port = staticmethod(wait_for), staticmethod(free_port)
    return Parts
