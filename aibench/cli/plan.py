"""``aibench run --dry-run``: what would run, and what it could be worth."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec
import yaml

from aibench.api.host import Host
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture
from aibench.config import ResolvedRun, RunConfig
from aibench.counting import RULES_VERSION, count
from aibench.master.layout import RunLayout
from aibench.master.staging import check_stage
from aibench.master.submission import order_of
from aibench.score.rules import MIN_MEASURED_TIME_S, Facts, Finding, check
from aibench.score.units import binary, duration, grouped
from aibench.search.domains import corner_values
from aibench.search.memory import most_memory


def print_plan(resolved: ResolvedRun, root: Path) -> None:
    """Print the plan, as a configuration file with comments; starts and writes nothing.

    Raises:
        LauncherError: The workers could not be placed.
    """
    layout = RunLayout(root.absolute())
    check_stage(resolved)
    host = resolved.launcher.host()
    order = order_of(resolved.config, resolved.document, layout)
    if host is None:
        resolved.launcher.check(order.workers)
    else:
        host.check(order)
    click.echo(yaml.safe_dump(resolved.document, sort_keys=False, allow_unicode=True))
    _print_validity(resolved)
    _print_network(resolved)
    _note(f"Would be started, with the run folder {layout.root}:")
    if host is not None:
        _note_text(host.render(order))
        return
    for rendered in resolved.launcher.render(order.workers):
        _note_text(f"{rendered.name}: {rendered.text}")


def print_remote_plan(host: Host, config: RunConfig, root: Path) -> None:
    """The plan of a master that alone sees the data: the configuration as given, and what would be sent.

    Raises:
        LauncherError: The engine would not take it.
    """
    order = order_of(config, msgspec.to_builtins(config), RunLayout(root.absolute()))
    host.check(order)
    click.echo(order.config)
    _note("The data is looked at where the master runs.")
    _note_text(host.render(order))


def projected_findings(resolved: ResolvedRun) -> tuple[Finding, ...]:
    """The rules, as far as they can be judged before the run."""
    config, description = resolved.config, resolved.description
    facts = Facts(
        division=config.division,
        rules_version=RULES_VERSION,
        precision=description.precision,
        departures=description.departures,
        is_synthetic=description.dataset.is_synthetic,
        search_enabled=config.search.is_enabled,
        search_departures=config.search.departures,
        measured_time_s=_certain_time_s(config.limits.measured_time_s),
    )
    return check(facts)


def warn_if_hopeless(resolved: ResolvedRun) -> None:
    """Say on standard error what already makes the result invalid."""
    for finding in projected_findings(resolved):
        if finding.passed is False:
            click.echo(
                f"aibench: the result will be invalid: {finding.rule}: {finding.actual}, "
                f"expected {finding.expected}; {finding.mend}",
                err=True,
            )


def _print_validity(resolved: ResolvedRun) -> None:
    config, description = resolved.config, resolved.description
    findings = projected_findings(resolved)
    is_hopeless = any(finding.passed is False for finding in findings)
    _note(f"Division {config.division}: {'would be invalid' if is_hopeless else 'can be valid'}")
    for finding in findings:
        state = {True: "passed", False: "FAILED", None: "open"}[finding.passed]
        mend = f"; mend: {finding.mend}" if finding.passed is False else ""
        _note(f"{state:8}{finding.rule}: {finding.actual}; expected {finding.expected}{mend}")
    if description.departures:
        _note(f"departs from the workload's reference: {'; '.join(description.departures)}")
    limits = config.limits
    ends = [
        *([f"after {duration(limits.measured_time_s)} of measured time"] if limits.measured_time_s else []),
        *([f"after {limits.trials} trials"] if limits.trials else []),
    ]
    _note(f"ends {' or '.join(ends)}")


def _note(text: str) -> None:
    """A line that leaves the output a valid configuration file."""
    click.echo(f"# {text}")


def _note_text(text: str) -> None:
    for line in text.splitlines():
        _note(line)


def _certain_time_s(limit_s: float | None) -> float | None:
    """The measured time, if the limit already settles that it is too short."""
    return limit_s if limit_s is not None and limit_s <= MIN_MEASURED_TIME_S else None


def _print_network(resolved: ResolvedRun) -> None:
    counts = count(resolved.initial)
    dataset = resolved.description.dataset
    _note(f"Initial network {resolved.description.initial_architecture}")
    _note(f"data: {dataset.name}, {dataset.train_images} train and {dataset.validation_images} validation")
    _note(f"parameters: {grouped(counts.parameters)}")
    _note(f"aiperf_ops per image: training {grouped(counts.aiperf_ops.train)}, "
               f"evaluation {grouped(counts.aiperf_ops.forward)}")  # fmt: skip
    _note(f"tensor_flops per image: training {grouped(counts.tensor_flops.train)}")
    epoch = dataset.train_images * counts.aiperf_ops.train
    epoch += dataset.validation_images * counts.aiperf_ops.forward
    _note(f"operations of one epoch: {grouped(epoch)}")
    for ranks in sorted({group.ranks for group in resolved.config.workers}):
        _print_memory(resolved, ranks)


def _print_memory(resolved: ResolvedRun, ranks: int) -> None:
    def estimate(architecture: Architecture, hyper_parameters: HyperParameters) -> int:
        return resolved.workload.training_memory_bytes(architecture, hyper_parameters, ranks)

    first = {name: corner_values(domain)[0] for name, domain in resolved.space.items()}
    most = most_memory(resolved.initial, resolved.space, estimate)
    needed = estimate(resolved.initial, {**first, **most})
    decisive = "".join(f", {name} {value}" for name, value in most.items())
    _note(f"estimated memory per rank, {ranks} rank(s){decisive}: {binary(needed)}")
