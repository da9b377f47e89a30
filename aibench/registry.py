"""Launchers and workloads by name: a built-in table merged with entry points.

The built-in names are literal because entry points vanish when a checkout is used through ``PYTHONPATH``
without being installed, as clusters often do.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from importlib.metadata import entry_points
from typing import Any, cast

from aibench.api.launcher import Launcher
from aibench.api.workload import Workload
from aibench.errors import ConfigError

LAUNCHERS = "aibench.launchers"
WORKLOADS = "aibench.workloads"

_BUILTIN: Mapping[str, Mapping[str, str]] = {
    LAUNCHERS: {
        "kubernetes": "launchers.kubernetes:KubernetesLauncher",
        "local": "launchers.local:LocalLauncher",
        "mpi": "launchers.mpi:MpiLauncher",
        "slurm": "launchers.slurm:SlurmLauncher",
    },
    WORKLOADS: {
        "image_classification": "workloads.image_classification.workload:ImageClassification",
        "synthetic": "workloads.synthetic.workload:Synthetic",
    },
}


def launcher_type(name: str) -> type[Launcher]:
    """The launcher called ``name``.

    Raises:
        ConfigError: Unknown name (the known ones are listed), a clash of plugins, or one that cannot be
            imported.
    """
    return cast(type[Launcher], _load(LAUNCHERS, name, path="launcher.name"))


def workload_type(name: str) -> type[Workload]:
    """The workload called ``name``.

    Raises:
        ConfigError: Unknown name (the known ones are listed), a clash of plugins, or one that cannot be
            imported.
    """
    return cast(type[Workload], _load(WORKLOADS, name, path="workload.name"))


def known_names(group: str) -> Mapping[str, str]:
    """All names of a group with their ``module:Class`` targets.

    Raises:
        ConfigError: Two plugins claim one name.
    """
    targets = dict(_BUILTIN[group])
    for point in entry_points(group=group):
        known = targets.setdefault(point.name, point.value)
        if known != point.value:
            raise ConfigError("", f"{group} {point.name!r} is claimed by both {known} and {point.value}")
    return targets


def _load(group: str, name: str, *, path: str) -> Any:
    targets = known_names(group)
    if name not in targets:
        near = difflib.get_close_matches(name, targets, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(path, f"{name!r} is unknown{hint}; known: {', '.join(sorted(targets))}")
    module, _, attribute = targets[name].partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ConfigError(path, f"{name!r} ({targets[name]}) cannot be loaded ({error})") from error
