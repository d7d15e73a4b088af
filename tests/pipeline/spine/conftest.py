"""Parts of the spine's tests: a request, a port, waiting with a deadline, the command line, the samples' inputs."""

import fcntl
import importlib.util
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from strop_api.data import DataFormat, DataSource, DataSpec
from strop_api.model import Dimension, DType, InputTensor, Metric, ModelFormat, ModelSource, TaskSpec, TaskType
from strop_api.optimization import ModelOptimizationSpec
from strop_api.result import RunRequest, StoreAccess
from strop_api.targets import Cpu, Output, Runtime, Target

PARTS = Path(__file__).with_name("parts")
SAMPLES = Path(__file__).parents[3] / "crds" / "samples"


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


def strop(*words, **environment):
    """`strop` in a process of its own."""
    command = [sys.executable, "-m", "strop_job.cli", *map(str, words)]
    env = os.environ | {"OMP_NUM_THREADS": "2", "COLUMNS": "200"} | environment
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=280)


@pytest.fixture(scope="session")
def tiny():
    """The tiny problem's module."""
    module = importlib.util.module_from_spec(spec := importlib.util.spec_from_file_location("tiny", PARTS / "tiny.py"))
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def prepared(tmp_path_factory, worker_id):
    """The samples' inputs in a folder store: laid out once, however many processes the tests run in."""
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "samples"
    with (shared.parent / "samples.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        command = [sys.executable, str(SAMPLES / "prepare.py"), "--store", str(shared)]
        subprocess.run(command, check=True, capture_output=True)
    return shared


@pytest.fixture
def spine():
    """The helpers, for tests that cannot import this file."""

    class Parts:
        parts, samples = PARTS, SAMPLES

    Parts.make_spec, Parts.make_request = staticmethod(make_spec), staticmethod(make_request)
    Parts.strop = staticmethod(strop)
    Parts.wait_for, Parts.free_port = staticmethod(wait_for), staticmethod(free_port)
    return Parts
