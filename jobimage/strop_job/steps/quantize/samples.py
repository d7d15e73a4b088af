"""What a quantizer is fed: the calibration data of a run batch by batch, or one synthetic batch."""

from collections.abc import Iterator

from strop_job.backends import Arrays
from strop_job.batches import batch_size, fitted
from strop_job.benchmark.inputs import synthetic
from strop_job.data import open_samples
from strop_job.errors import InvalidInput
from strop_job.stages import StageContext
from strop_job.steps.quantize import CALIBRATION

CALIBRATION_BATCH = 8
"""Samples per call while observing: their activations are all that is held in memory."""


class CalibrationBatches:
    """The calibration batches of a run, counted as they pass; the first one is kept for the proof."""

    def __init__(self, context: StageContext) -> None:
        source = context.spec.data.calibration
        if source is None:
            raise InvalidInput("Static needs calibration data", field="spec.data.calibration", mend="name a source")
        self._context = context
        self._samples = open_samples(context.inputs[CALIBRATION], source, context.spec, "calibration")
        self.first: Arrays = {}
        self.seen = 0

    def __len__(self) -> int:
        """Samples."""
        return len(self._samples)

    def __iter__(self) -> Iterator[Arrays]:
        size = batch_size(self._context.spec.model, CALIBRATION_BATCH)
        for batch in self._samples.batches(size):
            inputs = fitted(batch.inputs, self._context.spec.model)
            self.first = self.first or inputs
            yield inputs

    def tell(self, samples: int) -> None:
        """Reports how far the data is read."""
        total = max(len(self._samples), 1)
        self.seen = min(samples, total)
        self._context.report(0.1 + 0.7 * self.seen / total, f"calibrating, sample {self.seen} of {total}")


def synthetic_batch(context: StageContext) -> Arrays:
    """One batch at the tuned sizes, from the run's seed."""
    return synthetic(context.spec.model, context.spec.seed)
