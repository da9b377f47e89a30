"""The feature-guided start of a search, chosen once, before a run begins."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from typing import Any

import msgspec

from aibench.api.features import NetworkFeatures
from aibench.api.workload import HyperParameters, Workload
from aibench.errors import ConfigError
from aibench.search.config import SearchConfig
from aibench.search.fitting import Fitting

_KEY = "search.feature_guided"


def guided(
    search: SearchConfig, workload: Workload, options: Mapping[str, Any], fitting: Fitting
) -> SearchConfig:
    """The ``search`` section with first points, narrowed space and what they were chosen by filled in.

    Configured first points stay in front. Domains that the configuration gives, or gives first points of,
    stay as they are.

    Args:
        options: The workload's own, resolved, as plain data.
        fitting: What the initial network can be trained with.

    Raises:
        ConfigError: The workload has no experience with such data, none of it lies in the space and within
            the memory limit, or the initial network cannot be measured.
        DataError: The data cannot be read.
    """
    from aibench.search.guidance import start_from

    table = workload.experience()
    if table is None:
        problem = "the workload has no experience with such data to be guided by; expected false"
        raise ConfigError(_KEY, f"got true; {problem}")
    features = {**workload.features(), **measure_network(workload.name, options).features}
    kept = {*search.space, *(name for point in search.first_points for name in point)}

    def is_possible(point: HyperParameters) -> bool:
        return fitting.problem_with(point) is None

    start = start_from(table, features, fitting.space, kept=kept, is_possible=is_possible)
    if not start.first_points:
        raise ConfigError(
            _KEY,
            "got true; no recorded point lies in search.space and within search.max_memory_gib, expected "
            "more room or false",
        )
    return msgspec.structs.replace(
        search,
        first_points=(*search.first_points, *start.first_points),
        space={**search.space, **start.space},
        guidance=start.guidance,
    )


def measure_network(workload: str, options: Mapping[str, Any]) -> NetworkFeatures:
    """Features of a workload's initial network, from a process of its own: the master imports no framework.

    Raises:
        ConfigError: The process failed; the last line that it wrote says why.
    """
    done = subprocess.run(
        [sys.executable, "-m", "aibench", "network-features", workload],
        input=msgspec.json.encode(options),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["it wrote nothing"]
        raise ConfigError(_KEY, f"cannot measure the initial network: {lines[-1]}")
    return msgspec.json.decode(done.stdout, type=NetworkFeatures)
