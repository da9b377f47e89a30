"""Whether a search could propose anything besides the initial network; asked before a run starts."""

from __future__ import annotations

from aibench.architecture import Architecture
from aibench.architecture.morphs import applicable, apply
from aibench.counting import count
from aibench.errors import ConfigError
from aibench.search.config import SearchConfig
from aibench.search.fitting import Fitting
from aibench.search.neutral import lasting_kinds


def check_children(config: SearchConfig, fitting: Fitting) -> None:
    """Look for one child of the initial network that the search may propose; morphs only make it larger.

    Raises:
        ConfigError: No morph applies, or none stays within ``search.max_ops_ratio`` and
            ``search.max_memory_gib``; it says how far the cheapest child is from the limit.
    """
    initial = fitting.initial
    initial_ops = count(initial).aiperf_ops.train
    ratios: list[float] = []
    too_large: Architecture | None = None
    for morph in applicable(initial, kinds=lasting_kinds(initial, fitting.neutralised)):
        child = apply(initial, morph)
        ratios.append(count(child).aiperf_ops.train / initial_ops)
        if ratios[-1] > config.max_ops_ratio:
            continue
        if fitting.fits(child):
            return
        too_large = too_large or child
    raise _barren(config, ratios, fitting.excess(too_large) if too_large else None)


def _barren(config: SearchConfig, ratios: list[float], excess: str | None) -> ConfigError:
    if excess is not None:
        return ConfigError("search.max_memory_gib", f"no morph of the initial network fits: one {excess}")
    if ratios:
        return ConfigError(
            "search.max_ops_ratio",
            f"got {config.max_ops_ratio}; the cheapest child of the initial network takes "
            f"{min(ratios):.6g} times its operations, so nothing could be searched",
        )
    return ConfigError(
        "search.architecture",
        f"got {config.architecture!r}; no morph applies to the initial network, so only 'none' is possible",
    )
