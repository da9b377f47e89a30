"""Python's garbage collector in a master: a long run keeps millions of objects and makes hardly any cycle."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator

THRESHOLDS = (50_000, 20, 100)
"""New containers, young and middle collections between two collections of a generation."""


@contextlib.contextmanager
def rare_collections() -> Iterator[None]:
    """Collect rarely in the block, and never what is there already: workers wait while it is looked at."""
    before = gc.get_threshold()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
    try:
        yield
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
