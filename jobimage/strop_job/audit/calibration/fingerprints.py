"""Fingerprints: short vectors in which near-duplicates of a sample lie near it."""

import numpy as np
from numpy.typing import NDArray

from strop_job.audit.calibration.observed import Floats

CELLS = 256
"""Numbers kept of a sample."""


def print_of_floats(batch: NDArray[np.generic]) -> Floats:
    """[n, CELLS]: means of neighbouring values of each sample; zeros where a sample has fewer values."""
    flat = batch.reshape(len(batch), -1).astype(np.float32, copy=False)
    if flat.shape[1] > CELLS:
        cuts = np.linspace(0, flat.shape[1], CELLS + 1).astype(np.intp)[:-1]
        widths = np.diff(np.append(cuts, flat.shape[1])).astype(np.float32)
        flat = (np.add.reduceat(flat, cuts, axis=1) / widths).astype(np.float32)
    found = np.zeros((len(flat), CELLS), np.float32)
    found[:, : flat.shape[1]] = flat
    return found


def print_of_categories(batch: NDArray[np.integer]) -> Floats:
    """[n, CELLS]: signed counts of hashed triples of neighbours (feature hashing, Weinberger et al. 2009).

    The cosine of two such vectors is near the share of triples that both samples have. A constant tail is left out.
    """
    flat = batch.reshape(len(batch), -1).astype(np.int64)
    return np.stack([_hashed(row) for row in flat])


def _hashed(row: NDArray[np.int64]) -> Floats:
    changes = np.flatnonzero(np.diff(row))
    used = row[: int(changes[-1]) + 2] if len(changes) else row[:1]
    padded = np.concatenate(([-1, -1], used)).astype(np.uint64)
    mixed = (padded[:-2] * np.uint64(0x9E3779B97F4A7C15)) ^ (padded[1:-1] * np.uint64(0xC2B2AE3D27D4EB4F))
    mixed = (mixed ^ padded[2:]) * np.uint64(0xD6E8FEB86659FD93)
    mixed ^= mixed >> np.uint64(32)
    found = np.zeros(CELLS, np.float32)
    signs = np.where(mixed & np.uint64(1 << 20), 1.0, -1.0).astype(np.float32)
    np.add.at(found, (mixed % np.uint64(CELLS)).astype(np.intp), signs)
    return found
