"""Independent random streams of one trial."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Stream(IntEnum):
    """What randomness is drawn for; the numbers are part of every result."""

    WEIGHTS = 0
    ORDER = 1
    AUGMENTATION = 2
    DROPOUT = 3
    INHERITANCE = 4


def derive_seed(seed: int, stream: Stream, *parts: int) -> int:
    """A 64-bit seed for one stream of a trial, further divided by ``parts`` such as epoch and rank."""
    return int(np.random.SeedSequence(seed, spawn_key=(stream, *parts)).generate_state(1, np.uint64)[0])
