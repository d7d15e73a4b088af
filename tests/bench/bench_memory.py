"""Peak memory of a whole MiniLM run as a pod does it: `strop worker`, its working child, and all that these start.

`python tests/bench/bench_memory.py` prints the largest sum over the processes of proportional set sizes (a shared page
counts once) and of resident set sizes (it counts in each), sampled every 50 ms; a short peak may be missed, which
`largest_process`, the kernel's own high-water mark of a single process, would show.
"""

import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psutil
from lines import emit

from strop_job.local import Wishes, read_request

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "crds" / "samples"
EVERY_SECONDS = 0.05
GATE_MISSED = 10
MEBIBYTE = 1 << 20


def start(folder: Path, request: Path) -> subprocess.Popen[bytes]:
    """The pod's entry point, on a folder that stands for the store."""
    strop = "import sys; from strop_job.cli import main; sys.exit(main())"
    places = {"request": request, "local-store": folder, "scratch": folder / ".scratch", "port": 0}
    flags = [f"--{name}={value}" for name, value in (places | {"termination-log": folder / ".said"}).items()]
    command = [sys.executable, "-c", strop, "worker", *flags]
    return subprocess.Popen(command, stdout=sys.stderr, env={**os.environ, "OMP_NUM_THREADS": "2"})


def sums(root: psutil.Process) -> tuple[int, int]:
    """Proportional and resident bytes of a process and its descendants at this moment."""
    proportional = resident = 0
    for process in (root, *root.children(recursive=True)):
        try:
            memory = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):  # it ended meanwhile
            continue
        proportional, resident = proportional + memory.pss, resident + memory.rss
    return proportional, resident


def watch(worker: subprocess.Popen[bytes]) -> Sequence[tuple[int, int]]:
    """The sums until the worker has ended. Raises CalledProcessError when it did not get as far as a judgement."""
    taken, root = [], psutil.Process(worker.pid)
    while True:
        try:
            taken.append(sums(root))
            worker.wait(EVERY_SECONDS)
        except subprocess.TimeoutExpired:
            continue
        except psutil.NoSuchProcess:
            worker.wait()
        break
    if worker.returncode not in (0, GATE_MISSED):
        raise subprocess.CalledProcessError(worker.returncode, "strop worker")
    return taken


def main() -> None:
    """Measures and prints."""
    with tempfile.TemporaryDirectory(prefix="strop-bench-") as scratch:
        folder, request = Path(scratch) / "store", Path(scratch) / "request.json"
        subprocess.run([sys.executable, SAMPLES / "prepare.py", "--store", folder], check=True, stdout=sys.stderr)
        asked = read_request(SAMPLES / "minilm-int8.yaml", Wishes(str(folder)))
        request.write_text(asked.model_dump_json(by_alias=True))
        worker = start(folder, request)
        try:
            taken = watch(worker)
        finally:
            worker.terminate()
            worker.wait()
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    emit("minilm_worker_peak_proportional", "MiB", max(pss for pss, _ in taken) / MEBIBYTE, n=len(taken))
    emit("minilm_worker_peak_resident", "MiB", max(rss for _, rss in taken) / MEBIBYTE, n=len(taken))
    emit("minilm_worker_largest_process", "MiB", largest)


if __name__ == "__main__":
    main()
