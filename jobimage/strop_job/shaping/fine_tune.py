"""Fine-tune: weights are trained on with the task's own loss, to win back what another step lost. Imports torch."""

from pydantic import JsonValue

from strop_job.shaping.workshop import Workshop
from strop_job.training.trainer import Learned


def fine_tune(shop: Workshop) -> dict[str, JsonValue]:
    """Train; the best weights by the validation metric are kept, those before training included."""
    config = shop.step.fine_tune
    if config is None:
        raise TypeError("a step of type FineTune has fineTune")
    return facts_of(shop.train(config))


def facts_of(learned: Learned) -> dict[str, JsonValue]:
    """`curve` (one entry an epoch: number, loss, metric, learningRate), `bestEpoch`, `stopped`, `resumed`."""
    return {
        "curve": [dict(entry) for entry in learned.curve],
        "bestEpoch": learned.best,
        "stopped": learned.watch.stop.message if learned.watch.stop is not None else None,
        "resumed": learned.resumed,
        "trainingSeconds": learned.seconds,
    }
