"""Peak memory and time of calibration, ours and ONNX Runtime's, each variant in a process of its own.

    python tests/bench/bench_calibration.py                  # both at 64 samples, ours also at 2,048
    python tests/bench/bench_calibration.py --samples 64 256 # both at each (the runtime's hold every activation)

`peak` is the process's largest resident set, `added` what calibration added to it. The baseline is the runtime's own
`quantize_static`, whose figures include the writing of the quantized graph.
"""

import argparse
import contextlib
import importlib.util
import io
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from lines import emit_spread

CALIBRATORS = ("MinMax", "Percentile", "Entropy")
OPERATORS = ["Conv", "MatMul"]
BATCH = 8
ROUNDS = 3
WHO = ("ours", "onnxruntime")
THREADS = 2


def model() -> Path:
    """The magika model that is installed with its package."""
    spec = importlib.util.find_spec("magika")
    if spec is None or spec.origin is None:
        raise SystemExit("magika is not installed")
    return Path(spec.origin).parent / "models" / "standard_v3_3" / "model.onnx"


def batches(samples: int) -> Iterator[dict[str, np.ndarray]]:
    """Seeded text-like bytes, made batch by batch: nothing but the calibrator grows with their number."""
    random = np.random.default_rng(0)
    for start in range(0, samples, BATCH):
        size = min(BATCH, samples - start)
        yield {"bytes": random.integers(32, 123, (size, 2048), dtype=np.int32)}


def ours(calibrator: str, samples: int, scratch: Path) -> None:
    """This project's calibration."""
    from strop_api.steps import QuantizeStep
    from strop_job.calibration import calibrate, float_tensors
    from strop_job.stages import Artifact, ArtifactKind
    from strop_job.steps.quantize.onnx_graph.prepare import prepare

    prepared = prepare(Artifact(ArtifactKind.ONNX_GRAPH, model().parent, (model().name,)), scratch)
    nodes = [n for n in prepared.model.graph.node if n.op_type in OPERATORS]
    step = QuantizeStep(precision="int8", method="Static", calibrator=calibrator, op_types=OPERATORS)
    calibrate(prepared.model, float_tensors(prepared.model, nodes), batches(samples), step, threads=THREADS)


def theirs(calibrator: str, samples: int, scratch: Path) -> None:
    """ONNX Runtime's plain quantize_static."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = batches(samples)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._batches, None)

    with contextlib.redirect_stdout(io.StringIO()):
        quantize_static(
            model(),
            scratch / "quantized.onnx",
            Reader(),
            op_types_to_quantize=OPERATORS,
            calibrate_method=CalibrationMethod[calibrator],
        )


def measure(who: str, calibrator: str, samples: int) -> dict[str, float]:
    """One variant, in this process."""
    import onnx  # noqa: F401 - imported before the clock starts
    import onnxruntime.quantization  # noqa: F401

    idle = peak_mebibytes()
    with TemporaryDirectory() as scratch:
        start = time.perf_counter()
        {"ours": ours, "onnxruntime": theirs}[who](calibrator, samples, Path(scratch))
        seconds = time.perf_counter() - start
    peak = peak_mebibytes()
    return {"seconds": seconds, "peak": peak, "added": peak - idle}


def peak_mebibytes() -> float:
    """Largest resident set of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main(arguments: list[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, nargs="+")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    asked = parser.parse_args(arguments)
    if asked.one:
        who, calibrator, samples = asked.one
        print(json.dumps(measure(who, calibrator, int(samples))), flush=True)
        return
    for calibrator in CALIBRATORS:
        report(calibrator, asked.samples or [64], [] if asked.samples else [2048])


def report(calibrator: str, sizes: list[int], ours_alone: list[int]) -> None:
    """Measures and prints one calibrator: both at `sizes`, taking turns; ours once more at larger ones."""
    for size in sizes:
        rounds = [[in_a_child(who, calibrator, size) for who in WHO] for _ in range(ROUNDS)]
        mine, other = ([pair[i] for pair in rounds] for i in range(2))
        show(f"calibration_{calibrator.lower()}_{size}_samples", mine, other)
    for size in ours_alone:
        show(f"calibration_{calibrator.lower()}_{size}_samples", [in_a_child(WHO[0], calibrator, size)], [])


def in_a_child(who: str, calibrator: str, samples: int) -> dict[str, float]:
    """One variant, in a process that has measured nothing else."""
    command = [sys.executable, __file__, "--one", who, calibrator, str(samples)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def show(name: str, mine: list[dict[str, float]], other: list[dict[str, float]]) -> None:
    """Ours with the median of theirs as the baseline, and the ratio of each round's pair."""
    for figure, unit in (("peak", "MiB"), ("added", "MiB"), ("seconds", "seconds")):
        baseline = statistics.median(one[figure] for one in other) if other else None
        emit_spread(f"{name}_{figure}", unit, [one[figure] for one in mine], baseline)
        if other:
            ratios = [ours[figure] / theirs[figure] for ours, theirs in zip(mine, other, strict=True)]
            emit_spread(f"{name}_{figure}_ratio", "ratio", ratios, 1.0)


if __name__ == "__main__":
    main(sys.argv[1:])
