"""Bounds of a training, and real trainings in small: a CNN of ten classes, prepared for quantization once a session."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch

from bench.forgetting import Original, original
from strop_job.audit.training import Bounds, Epoch, TrainingWatch

MakeWatch = Callable[..., TrainingWatch]


@pytest.fixture
def watch() -> MakeWatch:
    """A watch over so many epochs that has seen the given validation metrics; the loss falls as it should."""

    def make(*metrics: float, losses: tuple[float, ...] = (), rate: float = 1e-5, **bounds: Any) -> TrainingWatch:
        settings = {"baseline": 0.9, "higher_is_better": True, "tolerance": 0.01, "epochs": 10, **bounds}
        seen = TrainingWatch(Bounds(**settings))
        for number, metric in enumerate(metrics, 1):
            loss = losses[number - 1] if losses else 0.5 / number
            seen = seen.after(Epoch(number, metric, loss, rate))
        return seen

    return make


@pytest.fixture(scope="session")
def trained() -> Iterator[Original]:
    """A float model that is right in about nine of ten, and its fake-quantized copy."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # a small model: more threads wait for one another
    yield original(0)
    torch.set_num_threads(threads)
