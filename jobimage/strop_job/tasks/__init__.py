"""How a model is judged on labelled samples: one figure a sample, and the metric made of them."""

from strop_job.tasks.evaluation import Run, evaluate
from strop_job.tasks.metrics import MetricSamples, higher_is_better

__all__ = ["MetricSamples", "Run", "evaluate", "higher_is_better"]
