"""Analytic operation counts: exact integers from the architecture alone, two conventions, never mixed.

The conventions are stated in `aibench.counting.conventions`.
"""

from aibench.counting.conventions import RULES_VERSION
from aibench.counting.network import LayerCount, NetworkCount, Operations, count

__all__ = ["RULES_VERSION", "LayerCount", "NetworkCount", "Operations", "count"]
