"""`python engine_child.py SETUP`: the benchmark's child for one contender: an engine of ours, or a tool used by hand.

Before it serves, it answers the check samples once and leaves the outputs beside its Setup, as `<contender>.npz`.
"""

import importlib.util
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from engine_build import calibration_batches
from engine_models import MODELS

from strop_job.backends import Session, backend_for
from strop_job.benchmark.child import serve
from strop_job.benchmark.memory import resident_bytes
from strop_job.benchmark.protocol import Setup

CHECK_SAMPLES, CHECK_FROM = 16, 200
PLAIN = "plainTool"
"""Fact of a contender that is no engine of ours: the script that makes it."""


class Plain:
    """A tool used by hand, as a session."""

    def __init__(self, call: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]]) -> None:
        self.run = call


def plain(setup: Setup) -> Plain:
    """What the script's `make` yields from the exported model and the calibration samples."""
    script = Path(str(setup.engine.facts[PLAIN]))
    spec = importlib.util.spec_from_file_location(script.stem, script)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = setup.inputs / script.stem
    folder.mkdir(exist_ok=True)
    batches = list(calibration_batches(MODELS[str(setup.engine.facts["model"])]))  # tools read them more than once
    return Plain(module.make(setup.engine.folder, batches, folder))


def load(setup: Setup) -> tuple[Any, int]:
    """The contender, after it has shown what it answers."""
    session: Session | Plain
    if PLAIN in setup.engine.facts:
        bare, session = resident_bytes(), plain(setup)
    else:
        backend = backend_for(setup.target.runtime)
        bare = resident_bytes()
        session = backend.open(setup.engine, setup.target, threads=setup.threads, spinning=setup.spinning)
    check = MODELS[str(setup.engine.facts["model"])].samples(CHECK_SAMPLES, CHECK_FROM)
    np.savez(setup.inputs / f"outputs-{setup.engine.facts['contender']}.npz", **session.run(check))
    return session, bare


if __name__ == "__main__":
    sys.exit(serve(sys.argv[1:], load))
