"""MiniLM-L6, dynamic INT8 against FP32: the same runtime, one thread, measured by a whole `strop run` of the sample.

`python tests/bench/latency.py` lays out the sample's inputs in a temporary store, runs it, and prints a JSON line per
figure: {name, value, unit, low, high, n, baseline}. `low` and `high` are a 95% interval, null where there is none.
"""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "crds" / "samples" / "minilm-int8.yaml"
PREPARE = ROOT / "crds" / "samples" / "prepare.py"
STROP = "import sys; from strop_job.cli import main; sys.exit(main())"
GATE_MISSED = 10
"""A missed gate ends the run with this code; its figures stand all the same."""


def measured(store: Path) -> dict[str, Any]:
    """The run's `report.json`. Raises CalledProcessError when the run did not get as far as a judgement."""
    environment = {**os.environ, "OMP_NUM_THREADS": "2"}
    subprocess.run([sys.executable, PREPARE, "--store", store], check=True, stdout=sys.stderr)
    command = [sys.executable, "-c", STROP, "run", str(SAMPLE), "--store", str(store)]
    done = subprocess.run(command, check=False, stdout=sys.stderr, env=environment)
    if done.returncode not in (0, GATE_MISSED):
        raise subprocess.CalledProcessError(done.returncode, command)
    document: dict[str, Any] = json.loads(next(store.rglob("report.json")).read_text())
    return document


def line(name: str, unit: str, value: float, baseline: float | None, n: int, interval: tuple[Any, Any]) -> str:
    """One figure."""
    low, high = (None if end is None else round(float(end), 5) for end in interval)
    figures = {"name": name, "value": round(value, 5), "unit": unit, "low": low, "high": high, "n": n}
    return json.dumps({**figures, "baseline": baseline})


def lines(report: dict[str, Any]) -> list[str]:
    """Ratio, latencies, cosine, metric and size."""
    variants = {variant["name"]: variant for variant in report["variants"]}
    fp32, int8 = variants["original"], variants["optimized"]
    speedup, metric, fidelity = report["speedup"], report["metric"], report["fidelity"]
    sizes = {size["stage"]: size["sizeBytes"] for size in report["sizes"]}
    ends = (int8["lowMicroseconds"], int8["highMicroseconds"])
    medians = int8["p50Microseconds"], fp32["p50Microseconds"]
    samples, ratio = metric["samples"], float(speedup["ratio"])
    return [
        line("minilm_int8_speedup", "x", ratio, 1.0, int8["calls"], (speedup["low"], speedup["high"])),
        line("minilm_int8_p50", "microseconds", *medians, int8["calls"], ends),
        line("minilm_int8_cosine", "1", fidelity["cosine"], 1.0, fidelity["samples"], (None, None)),
        line("minilm_int8_loss", "points", float(metric["dropPoints"]), 0.0, samples, (metric["low"], metric["high"])),
        line("minilm_int8_size", "bytes", sizes["compile"], sizes["compile-original"], 1, (None, None)),
    ]


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory(prefix="strop-bench-") as folder:
        print("\n".join(lines(measured(Path(folder)))), flush=True)


if __name__ == "__main__":
    main()
