"""The state of a training between two batches, in one file: read back, it goes on bit for bit. Imports torch."""

import errno
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

VERSION = 1


@dataclass
class Position:
    """Where a training stands."""

    epoch: int = 1
    """The epoch that is being trained, from 1."""
    batch: int = 0
    """Batches of it that are done."""
    step: int = 0
    """Optimizer steps in all."""
    loss_sum: float = 0.0
    """Of this epoch's batches so far."""
    seconds: float = 0.0
    """That training took before this process."""


@dataclass
class State:
    """Everything that decides what comes next."""

    position: Position
    tensors: dict[str, Any]
    """State dictionaries: `module`, `optimizer`, `scaler`, `extra`, `best`."""
    curve: list[dict[str, float]] = field(default_factory=list)
    """One entry an epoch: number, loss, metric, learningRate."""
    best: int = 0
    """The epoch whose weights are in `tensors['best']`; 0 is the state before training."""


class CheckpointFile:
    """Writes at most every so often, and whole or not at all."""

    def __init__(self, path: Path, every_seconds: float, identity: str) -> None:
        self.path, self._every, self._identity = path, every_seconds, identity
        self._last = time.monotonic()
        self.written = 0

    def load(self) -> State | None:
        """What an earlier attempt left; None when there is nothing, or it is of another training."""
        if not self.path.exists():
            return None
        kept = torch.load(self.path, map_location="cpu", weights_only=True)
        if kept["version"] != VERSION or kept["identity"] != self._identity:
            return None
        torch.set_rng_state(kept["rng"])
        if torch.cuda.is_available() and kept["cuda"] is not None:
            torch.cuda.set_rng_state_all(kept["cuda"])
        return State(Position(**kept["position"]), kept["tensors"], kept["curve"], kept["best"])

    @property
    def due(self) -> bool:
        """Whether the time has come."""
        return time.monotonic() - self._last >= self._every

    def save(self, state: State) -> None:
        """Replace the file. A disk that is full leaves the former one, and raises OSError."""
        fresh = self.path.with_suffix(".new")
        try:
            torch.save(self._content(state), fresh)
        except (OSError, RuntimeError) as error:
            fresh.unlink(missing_ok=True)
            raise _as_full_disk(error) from error
        fresh.replace(self.path)
        self._last = time.monotonic()
        self.written += 1

    def _content(self, state: State) -> dict[str, Any]:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else None
        return {
            "version": VERSION,
            "identity": self._identity,
            "rng": torch.get_rng_state(),
            "cuda": cuda,
            "position": vars(state.position),
            "tensors": state.tensors,
            "curve": state.curve,
            "best": state.best,
        }


def _as_full_disk(error: OSError | RuntimeError) -> OSError | RuntimeError:
    """torch's writer says of a full disk only that it wrote less than it wanted."""
    words = str(error)
    if isinstance(error, RuntimeError) and ("PytorchStreamWriter" in words or "file write failed" in words):
        return OSError(errno.ENOSPC, "no space left for the checkpoint")
    return error
