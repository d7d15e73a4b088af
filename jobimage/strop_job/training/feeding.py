"""Training data in an order that seed and epoch decide, a block in memory at a time."""

from collections.abc import Iterator

import numpy as np

from strop_job.data.samples import Arrays, Batch, Samples

BLOCK = 64
"""Batches that are read, and shuffled among themselves, at a time: memory does not grow with the set."""
STREAM = 0x7374726F
"""Keeps the order of the data apart from other uses of the same seed."""


def shuffled(samples: Samples, batch_size: int, *, seed: int, epoch: int, start: int = 0) -> Iterator[Batch]:
    """The batches of one epoch from number `start` on: the same ones whenever they are asked for.

    A last batch of one sample is left out where it is not the only one: batch normalization cannot learn from it.
    """
    number = 0
    for block_number, block in enumerate(samples.batches(batch_size * BLOCK)):
        order = np.random.default_rng((STREAM, seed, epoch, block_number)).permutation(len(block))
        for first in range(0, len(block), batch_size):
            rows = order[first : first + batch_size]
            if len(rows) == 1 and number > 0:
                continue
            if number >= start:
                yield taken(block, rows)
            number += 1


def count(samples: Samples, batch_size: int) -> int:
    """Batches of one epoch, as `shuffled` makes them."""
    whole, rest = divmod(len(samples), batch_size)
    return whole + (1 if rest > 1 or (rest == 1 and whole == 0) else 0)


def taken(batch: Batch, rows: "np.ndarray") -> Batch:
    """These rows of a batch."""

    def picked(arrays: Arrays) -> Arrays:
        return {name: value[rows] for name, value in arrays.items()}

    return Batch(
        picked(batch.inputs),
        None if batch.labels is None else batch.labels[rows],
        None if batch.documents is None else picked(batch.documents),
    )
