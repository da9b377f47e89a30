"""Which images a rank reads, and when: index arrays, one per step."""

from __future__ import annotations

import numpy as np

from workloads.image_classification.data.base import IndexArray


def train_plan(num_images: int, *, batch_size: int, seed: int, rank: int, num_ranks: int) -> list[IndexArray]:
    """This rank's part of every step of a shuffled epoch.

    Over all ranks every image is read once, except those of the last batch if it is not full: they are left
    out. Parts of one step differ by one image at most.

    Args:
        batch_size: Images of a step over all ranks, at most ``num_images``.
        seed: Seed of the order; the same on all ranks.
    """
    order = np.random.default_rng(seed).permutation(num_images)
    steps = order[: num_images - num_images % batch_size].reshape(-1, batch_size)
    return [step[rank::num_ranks] for step in steps]


def validation_plan(num_images: int, *, batch_size: int, rank: int, num_ranks: int) -> list[IndexArray]:
    """This rank's share of all images, every ``num_ranks``-th, in batches of its own ``batch_size``."""
    share = np.arange(rank, num_images, num_ranks)
    return [share[first : first + batch_size] for first in range(0, len(share), batch_size)]
