"""Each backend that runs here against the others, and ours against the same tool used by hand, in one rotation.

    python tests/bench/bench_backends.py                                  # everything
    python tests/bench/bench_backends.py --only minilm --runtimes OpenVINO

One line a figure. For a model M and a runtime R:

    M_R_compile_cold                      seconds of the INT8 engine's compilation
    M_R_compile_again                     the same with the timing cache that the first one left, where the runtime has
                                          one; TensorRT-RTX's is a no-op, so nothing is to be gained
    M_R_size                              bytes of the INT8 engine; baseline: the FP32 engine
    M_R_runtime_gain                      FP32 ONNX Runtime over FP32 R: what the runtime alone gains
    M_R_quantization_gain                 FP32 R over INT8 R: what INT8 alone gains
    M_R_gain_over_half                    FP16 (Inductor: BF16) R over INT8 R
    M_R_gain                              FP32 ONNX Runtime over INT8 R: both together; baseline: the tool by hand
    M_R_against_plain                     the tool by hand over INT8 R: 1 is as fast, above 1 is faster
    M_R_cosine                            of the INT8 outputs to FP32 ONNX Runtime's; baseline: the tool by hand
    M_R_p50                               microseconds of a call; baseline: FP32 ONNX Runtime

Ratios are of medians over rounds in which every contender has a turn, each in a process of its own, on one thread;
`low` and `high` are the 95% ends of the block bootstrap. TensorRT-RTX builds without a device, so it has no latency.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from engine_child import PLAIN
from engine_models import HALF, MODELS, Model
from lines import emit

from strop_api.targets import Runtime, Target
from strop_job.benchmark.contender import Contender
from strop_job.benchmark.inputs import synthetic
from strop_job.benchmark.protocol import OPTIMUM, Setup, write_inputs
from strop_job.benchmark.rotation import Rotation, Schedule, rotate
from strop_job.errors import StropError
from strop_job.judgement.evidence import Latencies
from strop_job.judgement.resampling import median_ratio
from strop_job.judgement.statistics import LEVEL, Interval
from strop_job.stages import Artifact, ArtifactKind

HERE = Path(__file__).resolve().parent
LIBRARIES = {
    Runtime.ONNX_RUNTIME: "onnxruntime",
    Runtime.OPENVINO: "openvino",
    Runtime.INDUCTOR: "torchao",
    Runtime.TENSORRT_RTX: "tensorrt_rtx",
}
PLAIN_TOOLS = {
    Runtime.ONNX_RUNTIME: "plain_onnxruntime.py",
    Runtime.OPENVINO: "plain_openvino.py",
    Runtime.INDUCTOR: "plain_inductor.py",
}
PRECISIONS = ("fp32", "half", "int8")
BASE = "base"
"""Contender: FP32 ONNX Runtime."""
CALLS, MOST_SECONDS, SEED = 200, 15.0, 0
BUILD_SECONDS = 300
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}


@dataclass(frozen=True)
class Built:
    """What one build yielded."""

    artifact: Artifact
    cold_seconds: float
    again_seconds: float | None
    size_bytes: int
    graph: Path
    """Folder of the exported model, for the tool used by hand."""


def say(text: str) -> None:
    """For whoever watches; the figures alone go to standard output."""
    print(text, file=sys.stderr, flush=True)


# --- building -----------------------------------------------------------------------------------------------------


def build(model: Model, runtime: Runtime, precision: str, folder: Path) -> Built | None:
    """One engine, in a process of its own; None, and why, where that cannot be."""
    place = folder / f"{model.name}-{runtime}-{precision}"
    place.mkdir()
    job = {
        "model": model.name,
        "runtime": runtime.value,
        "precision": precision,
        "folder": str(place),
        "exports": str(folder),
    }
    command = [sys.executable, str(HERE / "engine_build.py"), json.dumps(job)]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, env=ENVIRONMENT, timeout=BUILD_SECONDS, check=True
        )
    except subprocess.TimeoutExpired:
        say(f"{model.name} {runtime} {precision}: not built within {BUILD_SECONDS} s")
        return None
    except subprocess.CalledProcessError as error:
        say(f"{model.name} {runtime} {precision}: not built: {(error.stderr.strip().splitlines() or ['?'])[-1]}")
        return None
    return read(json.loads(done.stdout.splitlines()[-1]), model, f"{runtime}-{precision}")


def read(said: Mapping[str, Any], model: Model, contender: str) -> Built:
    """What the build printed."""
    facts = {**said["facts"], "model": model.name, "contender": contender}
    engine = Artifact(ArtifactKind(said["kind"]), Path(said["folder"]), tuple(said["files"]), facts)
    return Built(engine, said["cold"], said["again"], said["size"], Path(said["exported"]))


def wanted(model: Model, runtime: Runtime) -> Iterator[str]:
    """Precisions that a runtime has for a model."""
    for precision in PRECISIONS:
        has = {"fp32": True, "half": runtime in HALF, "int8": runtime in model.recipes}
        if has[precision]:
            yield precision


def serves(model: Model, runtime: Runtime) -> bool:
    """Whether a runtime takes the model at all: Inductor starts from torch."""
    return runtime is not Runtime.INDUCTOR or model.spec["format"] != "Onnx"


# --- measuring ----------------------------------------------------------------------------------------------------


def contenders(
    model: Model, runtime: Runtime, base: Built, built: Mapping[str, Built], folder: Path
) -> dict[str, Setup]:
    """Everything that takes turns: FP32 ONNX Runtime, the runtime's precisions, and the tool used by hand."""
    target = model.optimization(runtime).targets[0]
    cpu = Target.model_validate({"name": "here", "runtime": "ONNXRuntime", "cpu": {"threads": 1}})
    setups = {BASE: setup(base.artifact, cpu, folder)}
    for precision, one in built.items():
        if not (runtime is Runtime.ONNX_RUNTIME and precision == "fp32"):
            setups[precision] = setup(one.artifact, target, folder)
    script = HERE / PLAIN_TOOLS[runtime]
    if "int8" in built and script.exists():
        exported = next(iter(built.values())).graph
        files = tuple(sorted(path.name for path in exported.iterdir()))
        facts = {PLAIN: str(script), "model": model.name, "contender": f"{runtime}-plain"}
        setups["plain"] = setup(Artifact(ArtifactKind.SOURCE, exported, files, facts), target, folder)
    elif "int8" in built:
        say(f"{model.name} {runtime}: {script.name} is not there, so nothing is compared with the tool by hand")
    return setups


def setup(artifact: Artifact, target: Target, folder: Path) -> Setup:
    """Spinning is the runtime's default, as in a run's benchmark."""
    return Setup(artifact, target, 1, True, folder)


def race(model: Model, runtime: Runtime, setups: Mapping[str, Setup], folder: Path) -> Rotation:
    """One rotation; a tool used by hand that fails is left out, and why is said."""
    write_inputs(folder, OPTIMUM, synthetic(model.optimization(runtime).model, SEED))
    with ExitStack() as stack:
        running = []
        for name, one in setups.items():
            contender = Contender(f"{model.name}-{runtime}-{name}", one, folder, CHILD)
            stack.enter_context(contender)
            try:
                contender.loaded(lambda: None)
            except StropError as error:
                say(f"{contender.name}: left out: {error}")
            else:
                running.append(contender)
        schedule = Schedule(CALLS, MOST_SECONDS, SEED)
        found = rotate(running, schedule, lambda share, message: None)
    short = len(f"{model.name}-{runtime}-")
    tallies = {name[short:]: tally for name, tally in found.tallies.items()}
    return Rotation(tallies, found.calls_per_turn, found.rounds, found.stopped_early)


CHILD = (sys.executable, str(HERE / "engine_child.py"))


def ratio(over: Latencies | None, under: Latencies | None) -> Interval | None:
    """How many times faster the second is."""
    if over is None or under is None:
        return None
    return median_ratio(over.microseconds, under.microseconds, (over.rounds, under.rounds), level=LEVEL, seed=SEED)


def cosine(folder: Path, first: str, second: str) -> float | None:
    """Mean over the check samples of the cosine between the first outputs of two contenders."""
    paths = [folder / f"outputs-{name}.npz" for name in (first, second)]
    if not all(path.exists() for path in paths):
        return None
    ours, theirs = (next(iter(np.load(path).values())) for path in paths)
    rows = [array.reshape(len(array), -1).astype(np.float64) for array in (ours, theirs)]
    if rows[0].shape[1] == 1:
        rows = [row.reshape(1, -1) for row in rows]
    norms = np.linalg.norm(rows[0], axis=1) * np.linalg.norm(rows[1], axis=1)
    return float(np.mean((rows[0] * rows[1]).sum(axis=1) / np.maximum(norms, 1e-12)))


# --- telling ------------------------------------------------------------------------------------------------------


def tell_build(prefix: str, built: Mapping[str, Built]) -> None:
    """Compile seconds and size of the INT8 engine, or of what there is."""
    kind = next((name for name in ("int8", "half", "fp32") if name in built), None)
    if kind is None:
        return
    one, fp32 = built[kind], built.get("fp32")
    suffix = "" if kind == "int8" else f"_{kind}"
    emit(f"{prefix}_compile_cold{suffix}", "seconds", one.cold_seconds)
    if one.again_seconds is not None:
        emit(f"{prefix}_compile_again{suffix}", "seconds", one.again_seconds, baseline=one.cold_seconds)
    emit(f"{prefix}_size{suffix}", "bytes", one.size_bytes, baseline=fp32.size_bytes if fp32 else None)


def tell_race(prefix: str, runtime: Runtime, rotation: Rotation, folder: Path) -> None:
    """Ratios, latency and cosine."""
    timed = {name: tally.latencies() for name, tally in rotation.tallies.items()}
    if runtime is Runtime.ONNX_RUNTIME:
        timed["fp32"] = timed[BASE]
    calls = len(timed[BASE].microseconds)
    by_hand = ratio(timed.get(BASE), timed.get("plain"))
    rows: Sequence[tuple[str, str, str, float]] = (
        ("runtime_gain", BASE, "fp32", 1.0),
        ("quantization_gain", "fp32", "int8", 1.0),
        ("gain_over_half", "half", "int8", 1.0),
        ("gain", BASE, "int8", by_hand.point if by_hand else 1.0),
        ("against_plain", "plain", "int8", 1.0),
    )
    for name, over, under, baseline in rows:
        found = ratio(timed.get(over), timed.get(under))
        if found is not None and not (over == BASE and under == "fp32" and runtime is Runtime.ONNX_RUNTIME):
            emit(f"{prefix}_{name}", "x", found.point, low=found.low, high=found.high, n=calls, baseline=baseline)
    if by_hand is not None:
        emit(f"{prefix}_gain_plain", "x", by_hand.point, low=by_hand.low, high=by_hand.high, n=calls, baseline=1.0)
    base = f"{Runtime.ONNX_RUNTIME}-fp32"
    near, theirs = (cosine(folder, base, f"{runtime}-{kind}") for kind in ("int8", "plain"))
    if near is not None:
        emit(f"{prefix}_cosine", "1", near, baseline=theirs)
    if "int8" in timed:
        emit(f"{prefix}_p50", "microseconds", timed["int8"].median, n=calls, baseline=timed[BASE].median)


def compare(model: Model, runtimes: Sequence[Runtime], folder: Path) -> None:
    """One model on every runtime."""
    base = build(model, Runtime.ONNX_RUNTIME, "fp32", folder)
    for runtime in runtimes:
        if not serves(model, runtime):
            say(f"{model.name}: {runtime} starts from torch, and this model is an ONNX graph")
            continue
        known = {"fp32": base} if runtime is Runtime.ONNX_RUNTIME else {}
        found = {name: known.get(name) or build(model, runtime, name, folder) for name in wanted(model, runtime)}
        built = {name: one for name, one in found.items() if one is not None}
        prefix = f"{model.name}_{runtime.lower()}"
        tell_build(prefix, built)
        if runtime is Runtime.TENSORRT_RTX or base is None or not built:
            continue
        with tempfile.TemporaryDirectory(dir=folder) as scratch:
            place = Path(scratch)
            setups = contenders(model, runtime, base, built, place)
            tell_race(prefix, runtime, race(model, runtime, setups, place), place)


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=[*MODELS], default=[*MODELS], help="models")
    parser.add_argument("--runtimes", nargs="+", choices=[r.value for r in LIBRARIES], help="all that are installed")
    asked = parser.parse_args(arguments)
    runtimes = [runtime for runtime, library in LIBRARIES.items() if find_spec(library) is not None]
    chosen = [runtime for runtime in runtimes if not asked.runtimes or runtime.value in asked.runtimes]
    with tempfile.TemporaryDirectory(prefix="strop-bench-") as scratch:
        for name in asked.only:
            try:
                MODELS[name].samples(1, 0)
                MODELS[name].source(Path(tempfile.mkdtemp(dir=scratch)))
            except PackageNotFoundError as error:
                say(f"{name}: left out: {error.name} is not installed (requirements/samples.lock)")
                continue
            compare(MODELS[name], chosen, Path(scratch))


if __name__ == "__main__":
    main(sys.argv[1:])
