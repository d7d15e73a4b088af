"""MiniLM-L6, dynamic INT8 against FP32, by whole runs of the sample: what `strop run` takes, and what it tells.

`python tests/bench/bench_minilm.py [cold runs] [cached runs]` lays out the sample's inputs in a temporary store and
runs it with no record (cold), then with all records (cached, taking turns with a bare interpreter). The speed-up's
interval is the median run's own: both engines on one runtime, one thread, taking turns within the run.
"""

import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lines import emit, emit_spread

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "crds" / "samples" / "minilm-int8.yaml"
PREPARE = ROOT / "crds" / "samples" / "prepare.py"
STROP = "import sys; from strop_job.cli import main; sys.exit(main())"
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "2"}
GATE_MISSED = 10
"""A missed gate ends the run with this code; its figures stand all the same."""
Report = dict[str, Any]


def seconds(command: Sequence[str], *, allowed: tuple[int, ...] = (0,)) -> float:
    """Wall time of a process from its start to its end. Raises CalledProcessError for another exit code."""
    start = time.perf_counter()
    done = subprocess.run(command, check=False, stdout=sys.stderr, env=ENVIRONMENT)
    taken = time.perf_counter() - start
    if done.returncode not in allowed:
        raise subprocess.CalledProcessError(done.returncode, command)
    return taken


def run(store: Path) -> float:
    """Seconds of one `strop run` of the sample, interpreter included."""
    command = [sys.executable, "-c", STROP, "run", str(SAMPLE), "--store", str(store)]
    return seconds(command, allowed=(0, GATE_MISSED))


def cold_runs(inputs: Path, folder: Path, count: int) -> tuple[list[float], list[Report]]:
    """Seconds and report of each run, every one in a store without a record."""
    taken, reports = [], []
    for number in range(count):
        store = folder / f"cold-{number}"
        shutil.copytree(inputs, store, copy_function=os.link)
        taken.append(run(store))
        reports.append(json.loads(next(store.joinpath("strop-records").rglob("report.json")).read_text()))
    return taken, reports


def cached_runs(store: Path, count: int) -> tuple[list[float], list[float]]:
    """Seconds of each run that finds all its records, and of each bare interpreter, in turn."""
    run(store)  # page cache
    pairs = [(run(store), seconds([sys.executable, "-c", "pass"])) for _ in range(count)]
    return [ours for ours, _ in pairs], [bare for _, bare in pairs]


def print_report(reports: list[Report]) -> None:
    """Speed-up, latency, cosine, metric and size, of the run whose speed-up is the median one."""
    ratios = [float(report["speedup"]["ratio"]) for report in reports]
    report = reports[ratios.index(statistics.median_low(ratios))]
    variants = {variant["name"]: variant for variant in report["variants"]}
    fp32, int8 = variants["original"], variants["optimized"]
    speedup, metric, fidelity = report["speedup"], report["metric"], report["fidelity"]
    sizes = {size["stage"]: size["sizeBytes"] for size in report["sizes"]}
    calls, samples = int8["calls"], metric["samples"]
    emit("minilm_int8_speedup", "x", speedup["ratio"], low=speedup["low"], high=speedup["high"], n=calls, baseline=1)
    emit_spread("minilm_int8_speedup_of_runs", "x", ratios, 1)
    low, high = int8["lowMicroseconds"], int8["highMicroseconds"]
    p50, before = int8["p50Microseconds"], fp32["p50Microseconds"]
    emit("minilm_int8_p50", "microseconds", p50, low=low, high=high, n=calls, baseline=before)
    ratio, low, high = (1 / float(speedup[name]) for name in ("ratio", "high", "low"))
    emit("minilm_int8_latency_ratio", "ratio", ratio, low=low, high=high, n=calls, baseline=1)
    emit("minilm_int8_cosine", "1", fidelity["cosine"], n=fidelity["samples"], baseline=1)
    low, high = metric["low"], metric["high"]
    emit("minilm_int8_loss", "points", metric["dropPoints"], low=low, high=high, n=samples, baseline=0)
    emit("minilm_int8_size", "bytes", sizes["compile"], baseline=sizes["compile-original"])


def main(cold: int = 3, cached: int = 7) -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory(prefix="strop-bench-") as scratch:
        folder = Path(scratch)
        seconds([sys.executable, str(PREPARE), "--store", str(folder / "inputs")])
        taken, reports = cold_runs(folder / "inputs", folder, cold)
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
        again, bare = cached_runs(folder / "cold-0", cached)
    print_report(reports)
    emit_spread("minilm_run_cold", "seconds", taken)
    emit_spread("minilm_run_cached", "seconds", again, statistics.median(bare))
    emit_spread("minilm_run_interpreter_alone", "seconds", bare)
    emit("minilm_run_largest_process", "MiB", peak, n=cold)


if __name__ == "__main__":
    main(*(int(argument) for argument in sys.argv[1:]))
