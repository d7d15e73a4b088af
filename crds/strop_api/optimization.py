"""`ModelOptimization`: what a user asks for."""

from typing import Annotated

from pydantic import Field

from strop_api.base import ApiModel, ListMap, Name
from strop_api.data import DataSpec
from strop_api.model import ModelSource, TaskSpec
from strop_api.steps import Step
from strop_api.targets import Benchmark, Gates, Output, Target
from strop_api.worker import WorkerSettings

KIND = "ModelOptimization"
PLURAL = "modeloptimizations"


class StoreRef(ApiModel):
    """An entry of the policy. Users never name a Secret."""

    name: Name = "default"
    """Name of one of the policy's `stores`."""


class ModelOptimizationSpec(ApiModel):
    """What is asked for: a model, what to do to it, where it will run and how good it must be."""

    model: ModelSource
    """The trained model."""
    task: TaskSpec
    """What the model is judged by."""
    data: DataSpec
    """The data a run may look at."""
    steps: Annotated[list[Step], ListMap(32)] = []
    """What is done to the model, in this order. None: the model is exported, compiled and measured as it is."""
    targets: Annotated[list[Target], ListMap(8, min_length=1)]
    """Where the model will run."""
    gates: Gates = Gates()
    """What must hold before anything is published."""
    benchmark: Benchmark = Benchmark()
    """How latency is measured."""
    output: Output
    """Where the result is published."""
    store_ref: StoreRef = StoreRef()
    """The object store, by its name in the policy."""
    worker: WorkerSettings = WorkerSettings()
    """How the worker's pod runs."""
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    """Seed of everything random."""
    retries: Annotated[int, Field(ge=0, le=20)] = 3
    """Attempts after a failure that may pass by itself (store, network)."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=2_592_000)] = 21_600
    """The run ends with DeadlineExceeded after this long."""
    ttl_seconds_after_finished: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    """The finished Job is deleted after this long; its result stays in status. By default a published run's Job goes at
    once, and any other stays for an hour, so that its log can be read."""
    runs_history_limit: Annotated[int, Field(ge=0, le=10)] = 3
    """Earlier runs kept in `status.runs`."""
    suspend: bool = False
    """Stop the pod and start none; finished work is kept and resuming is cheap."""
