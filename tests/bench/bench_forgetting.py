"""Whether the watch over a training finds planted faults, and leaves honest trainings alone.

    python tests/bench/bench_forgetting.py              # 18 faults on 3 models, 12 honest settings on 5
    python tests/bench/bench_forgetting.py --seeds 1    # each once

Real trainings of torchao's quantization-aware kind; found is what was said of the metric, the loss or against
calibration alone, not of the learning rate's range. What stopping saved is the share of the planned epochs
that were not run.
"""

import argparse
import math
import os
import time
import warnings

os.environ.setdefault("OMP_NUM_THREADS", "2")

import torch
from forgetting import FAULTS, HONEST, Outcome, original, qat
from lines import emit, emit_spread

from strop_api.checks.training import CONTRADICTION, DIVERGENCE, FORGETTING, UNTRAINED, WORSE_THAN_PTQ
from strop_job.judgement.statistics import wilson

SAID = {check.name for check in (CONTRADICTION, DIVERGENCE, FORGETTING, UNTRAINED, WORSE_THAN_PTQ)}


def found(outcome: Outcome) -> set[str]:
    """What was said of the training itself."""
    return SAID & {finding.check for finding in outcome.findings}


def share(name: str, hits: int, count: int, *, baseline: float) -> None:
    """A share with Wilson's interval."""
    interval = wilson(hits, count)
    emit(name, "share", interval.point, low=interval.low, high=interval.high, n=count, baseline=baseline)


def planted(seeds: int) -> None:
    """Each fault on each model: found, and after how many of its epochs it was stopped."""
    hits, run_epochs, asked_epochs = 0, 0, 0
    for name, run in FAULTS.items():
        outcomes = [qat(original(seed), run, seed) for seed in range(seeds)]
        named = [found(outcome) for outcome in outcomes]
        hits += sum(map(bool, named))
        spent = [sum(epoch.number > 0 for epoch in outcome.watch.seen) for outcome in outcomes]
        run_epochs, asked_epochs = run_epochs + sum(spent), asked_epochs + run.epochs * seeds
        emit(f"forgetting/found/{name}", "share", sum(map(bool, named)) / seeds, n=seeds, baseline=1.0)
        emit_spread(f"forgetting/epochs/{name}", "epochs", spent, baseline=run.epochs)
        if all(math.isfinite(outcome.after) for outcome in outcomes):
            emit_spread(f"forgetting/metric/{name}", "accuracy", [o.after for o in outcomes], baseline=outcomes[0].ptq)
    share("forgetting/found", hits, seeds * len(FAULTS), baseline=1.0)
    emit("forgetting/epochs-saved", "share", 1 - run_epochs / asked_epochs, n=seeds * len(FAULTS))


def honest(seeds: int) -> None:
    """Recommended settings on each model: said of them is false."""
    false, gains = 0, []
    for seed in range(seeds):
        for run in HONEST:
            outcome = qat(original(seed), run, seed)
            false += bool(found(outcome))
            gains.append(100 * (outcome.after - outcome.ptq))
    share("forgetting/false-alarms", false, seeds * len(HONEST), baseline=0.0)
    emit_spread("forgetting/honest-gain-over-ptq", "points", gains, baseline=0.0)


def main() -> None:
    """Faults, then honest runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="models of the faults; honest settings get two more")
    seeds = parser.parse_args().seeds
    torch.set_num_threads(1)  # small models: more threads wait for one another
    warnings.simplefilter("ignore")
    start = time.monotonic()
    planted(seeds)
    honest(seeds + 2)
    emit("forgetting/wall", "s", time.monotonic() - start)


if __name__ == "__main__":
    main()
