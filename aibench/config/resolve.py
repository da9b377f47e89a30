"""From a configuration to live plugins and checked data: everything that can be known before a run starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from aibench.api.launcher import SIMULATED, Launcher
from aibench.api.space import Domain
from aibench.api.workload import HyperParameters, Workload, WorkloadDescription
from aibench.architecture import Architecture
from aibench.config.guided import guided
from aibench.config.model import RunConfig
from aibench.config.validate import to_section
from aibench.errors import ArchitectureError, ConfigError
from aibench.registry import launcher_type, workload_type
from aibench.search.config import check_packages, resolve_first_points, resolve_space
from aibench.search.domains import corner_values
from aibench.search.feasibility import check_children
from aibench.search.fitting import Fitting
from aibench.search.memory import MemoryLimit
from aibench.search.neutral import neutral_values


@dataclass(frozen=True, kw_only=True, slots=True)
class ResolvedRun:
    """A configuration whose plugins exist, whose data was looked at and whose names all fit.

    Attributes:
        document: The whole configuration with every default filled in, as plain data.
        memory: What training may take on one rank of the smallest workers; None for no limit.
        worker_python: Interpreter of the workers on their nodes; None for the launcher's choice.
    """

    config: RunConfig
    workload: Workload
    workload_name: str
    workload_options: dict[str, Any]
    launcher: Launcher
    description: WorkloadDescription
    initial: Architecture
    space: Mapping[str, Domain]
    document: dict[str, Any]
    memory: MemoryLimit | None = None
    worker_python: str | None = None


def resolve(config: RunConfig) -> ResolvedRun:
    """Load plugins, look at the data and check what the sections say of each other.

    Raises:
        ConfigError: Unknown plugin or key, or a value that does not fit.
        DataError: The data set is missing or malformed.
    """
    _check_barrier(config)
    check_packages(config.search.hyper_parameters)
    workload_name, workload_options = _plugin_section(config.workload, "workload")
    workload_class = workload_type(workload_name)
    typed_workload = to_section(workload_options, workload_class.options_type, path="workload")
    launcher_class, typed_launcher = _launcher(config.launcher)
    workload = workload_class(typed_workload)
    description = _describe(workload)
    _check_devices(config, workload, description)
    initial = workload.initial_architecture()
    memory = _memory_limit(workload, config)
    config = _guided(config, workload, msgspec.to_builtins(typed_workload), memory)
    space = resolve_space(workload.search_space(), config.search.space)
    _check_space(workload, initial, space)
    _check_removed(workload, initial, config)
    fitting = Fitting(initial, space=space, specialise=workload.specialise, memory=memory)
    _check_search(config, fitting, space)
    document = msgspec.to_builtins(config)
    document["workload"] = {"name": workload_name, **msgspec.to_builtins(typed_workload)}
    document["launcher"] = {
        "name": config.launcher.get("name", "local"),
        **msgspec.to_builtins(typed_launcher),
    }
    removed = {name: None for name, domain in config.search.space.items() if domain is None}
    document["search"]["space"] = {**msgspec.to_builtins(dict(space)), **removed}
    return ResolvedRun(
        config=config,
        workload=workload,
        workload_name=workload_name,
        workload_options=msgspec.to_builtins(typed_workload),
        launcher=launcher_class(typed_launcher),
        description=description,
        initial=initial,
        space=space,
        document=document,
        memory=memory,
    )


def resolve_launcher(section: dict[str, Any]) -> Launcher:
    """The launcher of a configuration's section ``launcher``.

    Raises:
        ConfigError: Unknown launcher or key, or a value that does not fit.
    """
    launcher_class, options = _launcher(section)
    return launcher_class(options)


def _launcher(section: dict[str, Any]) -> tuple[type[Launcher], msgspec.Struct]:
    name, options = _plugin_section({"name": "local", **section}, "launcher")
    launcher_class = launcher_type(name)
    return launcher_class, to_section(options, launcher_class.options_type, path="launcher")


def _guided(
    config: RunConfig, workload: Workload, options: dict[str, Any], memory: MemoryLimit | None
) -> RunConfig:
    """Choose where the search starts, unless the configuration of a run says that this was done."""
    if not config.search.feature_guided or config.search.guidance is not None:
        return config
    initial = workload.initial_architecture()
    space = resolve_space(workload.search_space(), config.search.space)
    _check_space(workload, initial, space)
    fitting = Fitting(initial, space=space, specialise=workload.specialise, memory=memory)
    return msgspec.structs.replace(config, search=guided(config.search, workload, options, fitting))


def _describe(workload: Workload) -> WorkloadDescription:
    try:
        return workload.describe()
    except ConfigError as error:
        raise ConfigError(f"workload.{error.path}" if error.path else "workload", error.problem) from error


def _check_space(workload: Workload, initial: Architecture, space: Mapping[str, Domain]) -> None:
    """Apply every choice and both ends of every interval to the initial network."""
    for name, domain in space.items():
        for value in corner_values(domain):
            try:
                workload.specialise(initial, {name: value})
            except ArchitectureError as error:
                raise ConfigError(f"search.space.{name}", f"got {value!r}; {error}") from error


def _check_removed(workload: Workload, initial: Architecture, config: RunConfig) -> None:
    """Only what changes nothing but the network may be taken out: without it, the network stays as it is."""
    removable = neutral_values(initial, workload.search_space(), workload.specialise)
    for name, domain in config.search.space.items():
        if domain is None and name not in removable:
            names = ", ".join(sorted(removable)) or "none"
            raise ConfigError(
                f"search.space.{name}",
                f"got null; the trainer needs it, expected a domain (null may take out: {names})",
            )


def _memory_limit(workload: Workload, config: RunConfig) -> MemoryLimit | None:
    max_gib = config.search.max_memory_gib
    if max_gib is None:
        return None
    # A worker's batch is shared by its ranks: where they are fewest, each has the most images.
    num_ranks = min(group.ranks for group in config.workers)

    def estimate(architecture: Architecture, hyper_parameters: HyperParameters) -> int:
        return workload.training_memory_bytes(architecture, hyper_parameters, num_ranks)

    return MemoryLimit(max_gib=max_gib, estimate=estimate)


def _check_search(config: RunConfig, fitting: Fitting, space: Mapping[str, Domain]) -> None:
    """Refuse limits that leave nothing to search, and first points that the first network cannot have."""
    if config.search.is_enabled:
        check_children(config.search, fitting)
    for number, point in enumerate(resolve_first_points(config.search.first_points, space)):
        if (problem := fitting.problem_with(point)) is not None:
            raise ConfigError(f"search.first_points.{number}", problem)


def _plugin_section(section: dict[str, Any], path: str) -> tuple[str, dict[str, Any]]:
    options = dict(section)
    name = options.pop("name", None)
    if not isinstance(name, str):
        raise ConfigError(f"{path}.name", f"got {name!r}; expected the name of a {path}")
    return name, options


def _check_barrier(config: RunConfig) -> None:
    wanted = config.start.min_workers
    if wanted is not None and wanted > config.num_workers:
        raise ConfigError(
            "start.min_workers",
            f"got {wanted}; expected at most the {config.num_workers} configured worker(s)",
        )


def _check_devices(config: RunConfig, workload: Workload, description: WorkloadDescription) -> None:
    """Simulated devices train nothing, so nothing but made-up data may seem to be trained on them."""
    if not workload.needs_devices and description.dataset.is_synthetic:
        return
    for number, group in enumerate(config.workers):
        if group.device == SIMULATED:
            raise ConfigError(
                f"workers.{number}.device",
                f"got {SIMULATED!r}; workload {workload.name!r} needs real devices, such as auto or cpu",
            )
