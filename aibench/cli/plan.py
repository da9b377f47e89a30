"""``aibench run --dry-run``: what would run, and what it could be worth."""

from __future__ import annotations

import shlex
from pathlib import Path

import click
import yaml

from aibench.api.space import Domain
from aibench.config import ResolvedRun
from aibench.counting import RULES_VERSION, count
from aibench.master.layout import RunLayout
from aibench.master.loop import worker_specs
from aibench.score.rules import MIN_MEASURED_TIME_S, Facts, check, verdict
from aibench.score.units import binary, duration, grouped


def print_plan(resolved: ResolvedRun, root: Path) -> None:
    """Print the plan; starts and writes nothing.

    Raises:
        LauncherError: The workers could not be placed.
    """
    layout = RunLayout(root.absolute())
    workers = worker_specs(resolved, layout)
    resolved.launcher.check(workers)
    click.echo("# Resolved configuration")
    click.echo(yaml.safe_dump(resolved.document, sort_keys=False, allow_unicode=True))
    _print_validity(resolved)
    _print_network(resolved)
    click.echo(f"# Would be started, with the run folder {layout.root}")
    for worker in workers:
        command = resolved.launcher.render(worker)
        settings = " ".join(f"{name}={shlex.quote(text)}" for name, text in command.environment.items())
        click.echo(f"{worker.worker}: {settings} {shlex.join(command.argv)}")


def _print_validity(resolved: ResolvedRun) -> None:
    config, description = resolved.config, resolved.description
    facts = Facts(
        division=config.division,
        rules_version=RULES_VERSION,
        precision=description.precision,
        departures=description.departures,
        is_synthetic=description.dataset.is_synthetic,
        search_enabled=config.search.is_enabled,
        measured_time_s=_certain_time_s(config.limits.measured_time_s),
    )
    findings = check(facts)
    projected = verdict(facts, findings).value
    meaning = "can still be valid" if projected == "undecided" else f"would be {projected}"
    click.echo(f"# Division {config.division}: {meaning}")
    for finding in findings:
        state = {True: "passed", False: "FAILED", None: "open"}[finding.passed]
        mend = f"; mend: {finding.mend}" if finding.passed is False else ""
        click.echo(f"{state:8}{finding.rule}: {finding.actual}; expected {finding.expected}{mend}")
    if description.departures:
        click.echo(f"departs from the workload's reference: {'; '.join(description.departures)}")
    limits = config.limits
    ends = [
        *([f"after {duration(limits.measured_time_s)} of measured time"] if limits.measured_time_s else []),
        *([f"after {limits.trials} trials"] if limits.trials else []),
    ]
    click.echo(f"ends {' or '.join(ends)}\n")


def _certain_time_s(limit_s: float | None) -> float | None:
    """The measured time, if the limit already settles that it is too short."""
    return limit_s if limit_s is not None and limit_s <= MIN_MEASURED_TIME_S else None


def _print_network(resolved: ResolvedRun) -> None:
    counts = count(resolved.initial)
    dataset = resolved.description.dataset
    click.echo(f"# Initial network {resolved.description.initial_architecture}")
    click.echo(
        f"data: {dataset.name}, {dataset.train_images} train and {dataset.validation_images} validation"
    )
    click.echo(f"parameters: {grouped(counts.parameters)}")
    click.echo(f"aiperf_ops per image: training {grouped(counts.aiperf_ops.train)}, "
               f"evaluation {grouped(counts.aiperf_ops.forward)}")  # fmt: skip
    click.echo(f"tensor_flops per image: training {grouped(counts.tensor_flops.train)}")
    epoch = dataset.train_images * counts.aiperf_ops.train
    epoch += dataset.validation_images * counts.aiperf_ops.forward
    click.echo(f"operations of one epoch: {grouped(epoch)}")
    if "batch_size" in resolved.space:
        largest = _largest(resolved.space["batch_size"])
        for ranks in sorted({group.ranks for group in resolved.config.workers}):
            needed = resolved.workload.training_memory_bytes(resolved.initial, -(-largest // ranks))
            click.echo(f"estimated memory per rank, {ranks} rank(s), batch {largest}: {binary(needed)}")
    click.echo("")


def _largest(domain: Domain) -> int:
    values = domain.choices if domain.choices is not None else (domain.high,)
    return max(int(value) for value in values if isinstance(value, int | float))
