"""Results as terminal tables, on standard output."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from aibench.cli.convergence_tables import print_comparison_convergence, print_runs_convergence
from aibench.cli.search_tables import pedigree_table, search_rows
from aibench.cli.text import cell_text
from aibench.score.units import binary, duration, grouped, percent, si

if TYPE_CHECKING:
    from aibench.api.host import HostStatus
    from aibench.architecture import Architecture
    from aibench.cli.smoke import Check
    from aibench.counting import NetworkCount
    from aibench.master.submission import Submission
    from aibench.score.convergence import RunsConvergence
    from aibench.score.report import FindingReport, Report, ScoreReport, TrialReport
    from aibench.score.statistics import RunsSummary
    from aibench.search.comparison_summary import Comparison

PLAIN_WIDTH = 120
WIDE = 150
MAX_TRIAL_ROWS = 30
MAX_REASONS = 3
MARKS = {True: "[green]passed[/]", False: "[bold red]FAILED[/]", None: "[yellow]undecided[/]"}


def print_summary(report: Report, root: Path) -> None:
    """What a run came to."""
    console = _console()
    console.print(_summary(report))
    _print_broken(console, report)
    console.print(f"Report: {cell_text(str(root / 'report.html'))}", soft_wrap=True)


def print_smoke(report: Report, checks: Sequence[Check], root: Path) -> None:
    """The smoke test's result: the score, the checks, PASS or FAIL."""
    console = _console()
    console.print(_summary(report))
    table = Table(box=box.SIMPLE_HEAD)
    table.add_column("check")
    table.add_column("result")
    table.add_column("found", overflow="fold")
    for check in checks:
        table.add_row(check.name, MARKS[check.passed], cell_text(check.detail))
    console.print(table)
    passed = all(check.passed for check in checks)
    console.print(f"Report: {cell_text(str(root / 'report.html'))}", soft_wrap=True)
    console.print("[bold green]PASS[/]" if passed else "[bold red]FAIL[/]")


def print_report(report: Report, root: Path) -> None:
    """Everything, for a terminal."""
    console = _console()
    console.print(_summary(report))
    console.print(_findings(report.findings))
    if report.shares:
        console.print(_shares(report))
    if lineage := pedigree_table(report):
        console.print(lineage)
    console.print(_trials(report.trials))
    if len(report.trials) > MAX_TRIAL_ROWS:
        console.print(f"The last {MAX_TRIAL_ROWS} of {len(report.trials)} trials; all are in report.html.")
    console.print(f"Wrote {cell_text(str(root / 'report.json'))} and report.html.", soft_wrap=True)


def print_scores(
    reports: Sequence[Report],
    summary: RunsSummary | None,
    obstacle: str | None,
    convergence: RunsConvergence | None,
) -> None:
    """One row per run, and what several come to or, with ``obstacle``, why they come to nothing."""
    console = _console()
    if len(reports) == 1:
        console.print(_summary(reports[0]))
        return
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("run", "verdict", "normalized score", "score", "best error", "measured"):
        table.add_column(name, justify="left" if name in ("run", "verdict") else "right")
    for report in reports:
        cells = _score_cells(report.score) if report.score else ["no finished epoch"]
        table.add_row(cell_text(report.run), report.verdict, *cells)
    console.print(table)
    if summary is None:
        console.print(cell_text(f"No common mean: {obstacle}."), soft_wrap=True)
    else:
        olympic = si(summary.olympic_mean, "OPS") if summary.olympic_mean is not None else "needs 3 runs"
        variation = percent(summary.variation, digits=2) if summary.variation is not None else "n/a"
        console.print(
            f"{summary.num_runs} runs, normalized score: olympic mean {olympic}, "
            f"mean {si(summary.mean, 'OPS')}, coefficient of variation {variation}"
        )
    if convergence is not None:
        print_runs_convergence(console, convergence)


def print_status(submission: Submission, status: HostStatus, report: Report | None, root: Path) -> None:
    """Where a submitted run stands."""
    console = _console()
    table = Table(box=box.ROUNDED, show_header=False, title=f"aibench {cell_text(root.absolute().name)}")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    table.add_row("master", cell_text(f"{status.state} {status.detail}".strip()))
    table.add_row("submitted as", cell_text(f"{submission.reference} ({submission.launcher.get('name')})"))
    if report is None:
        table.add_row("journal", "not here yet")
    else:
        for label, text in _summary_rows(report):
            table.add_row(label, cell_text(text))
    console.print(table)


def print_verification(report: Report, disagreement: str | None) -> None:
    """The journal's state, the rules, the verdict."""
    console = _console()
    seal = f"sealed with {report.seal}" if report.seal else "not sealed"
    console.print(f"Journal of {cell_text(report.run)}: {report.num_records} records, chain intact, {seal}")
    console.print(_findings(report.findings))
    if disagreement:
        console.print(f"[bold red]{cell_text(disagreement)}[/]", soft_wrap=True)
    console.print(f"Verdict: [bold]{report.verdict}[/]")


def print_count(name: str, network: Architecture, counts: NetworkCount) -> None:
    """Per-layer counts and their totals, per image; a narrow terminal gets the layers' figures rounded."""
    console = _console()
    show = grouped if console.width >= WIDE or not console.is_terminal else si
    if not console.is_terminal:
        console.width = WIDE
    table = Table(box=box.SIMPLE_HEAD, title=f"{cell_text(name)}, one image of {network.input_shape}")
    columns = ("layer", "op", "output", "parameters", "aiperf forward", "aiperf backward")
    for column in (*columns, "tensor forward", "tensor backward", "activation bytes"):
        table.add_column(column, justify="left" if column == "op" else "right", no_wrap=column == "op")
    for layer in counts.layers:
        figures = (layer.parameters, *layer.aiperf_ops, *layer.tensor_flops, layer.activation_bytes)
        cells = (show(figure) for figure in figures)
        table.add_row(str(layer.position), layer.op, str(layer.output_shape), *cells)
    console.print(table)
    totals = Table(box=box.SIMPLE_HEAD)
    for column in ("per image", "forward (evaluation)", "backward", "forward + backward (training)"):
        totals.add_column(column, justify="left" if column == "per image" else "right")
    for label, operations in (("aiperf_ops", counts.aiperf_ops), ("tensor_flops", counts.tensor_flops)):
        totals.add_row(label, *(grouped(n) for n in (*operations, operations.train)))
    console.print(totals)
    console.print(
        f"{grouped(counts.parameters)} parameters, {binary(counts.activation_bytes)} of activations in FP32, "
        f"architecture {network.content_hash[:16]}"
    )


def print_comparison(comparison: Comparison, root: Path) -> None:
    """Searches by rank, and a sentence for every pair."""
    console = _console()
    conditions = comparison.conditions
    console.print(conditions.evaluator)
    conditions_text = f"{len(conditions.seeds)} seeds, {si(conditions.budget_ops)} operations each"
    table = Table(box=box.SIMPLE_HEAD, title=f"{cell_text(conditions.name)}: {conditions_text}")
    for column in ("algorithm", "mean rank", "mean best error", "95 % confidence", "trials"):
        table.add_column(column, justify="left" if column == "algorithm" else "right")
    for algorithm in comparison.algorithms:
        final = algorithm.final
        table.add_row(
            algorithm.algorithm,
            f"{algorithm.mean_rank:.2f}",
            percent(final.mean, digits=2),
            f"{percent(final.low, digits=2)} to {percent(final.high, digits=2)}",
            f"{algorithm.mean_trials:.1f}",
        )
    console.print(table)
    for sentence in (*(pair.sentence for pair in comparison.pairs), comparison.remark):
        if sentence:
            console.print(sentence)
    print_comparison_convergence(console, comparison)
    console.print(f"Wrote {cell_text(str(root / 'comparison.json'))} and comparison.html.", soft_wrap=True)


def _console() -> Console:
    """Standard output; a steady width where there is no terminal to measure."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(PLAIN_WIDTH, shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns)
    return console


def _summary(report: Report) -> Table:
    table = Table(box=box.ROUNDED, show_header=False, title=f"aibench {cell_text(report.run)}")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for label, text in _summary_rows(report):
        table.add_row(label, cell_text(text))
    return table


def _summary_rows(report: Report) -> Iterable[tuple[str, str]]:
    score = report.score
    yield "verdict", f"{report.verdict} (division {report.division}, rules {report.rules_version})"
    if score is None:
        yield "score", "none: no epoch was finished"
    else:
        yield "normalized score", f"{si(score.normalized_ops_per_s, 'OPS')} = score · -ln(error)"
        yield "score", f"{si(score.ops_per_s, 'OPS')} (operations per second)"
        accuracy = percent(1 - score.error, digits=2)
        floored = ", floored" if score.is_error_floored else ""
        yield (
            "best error",
            f"{percent(score.error, digits=2)} (accuracy {accuracy}, trial {score.best_trial}{floored})",
        )
        yield (
            "measured",
            f"{duration(score.elapsed_s)}, {score.num_epochs} epochs, {si(score.work_ops)} operations",
        )
    detail = f": {report.end_detail}" if report.end_detail else ""
    yield "ended by", f"{(report.end_reason or 'nothing yet').replace('_', ' ')}{detail}"
    yield "stability", _stability_text(report)
    yield "trials", _trials_text(report)
    yield from search_rows(report)
    failures = Counter(trial.reason for trial in report.trials if trial.outcome in ("failed", "lost"))
    for reason, number in failures.most_common(MAX_REASONS):
        yield "failed or lost", f"{number} × {reason}"
    yield "workers", "; ".join(_workers_text(report)) or "none joined"
    if report.turnaround:
        turnaround = report.turnaround
        yield (
            "turnaround",
            f"median {duration(turnaround.median_s)}, longest {duration(turnaround.max_s)} "
            "from a trial's end to the next first step",
        )
    if report.overhead is not None:
        yield (
            "overhead",
            f"{percent(report.overhead)} of worker time after start-up not in training or validation",
        )


def _score_cells(score: ScoreReport) -> list[str]:
    return [
        si(score.normalized_ops_per_s, "OPS"),
        si(score.ops_per_s, "OPS"),
        percent(score.error, digits=2),
        duration(score.elapsed_s),
    ]


def _stability_text(report: Report) -> str:
    if report.stability is None:
        return "too few samples to tell"
    found = report.stability
    state = "converged" if found.is_converged else "not converged"
    drift, spread = percent(found.drift, signed=True), percent(found.spread)
    return f"{state}: drift {drift}, spread {spread} over the last third"


def _trials_text(report: Report) -> str:
    counts: dict[str, int] = {}
    for trial in report.trials:
        counts[trial.outcome] = counts.get(trial.outcome, 0) + 1
    parts = ", ".join(f"{number} {outcome}" for outcome, number in sorted(counts.items()))
    return f"{len(report.trials)} ({parts})" if parts else "0"


def _workers_text(report: Report) -> Iterable[str]:
    for worker in report.workers:
        names = {device.name for device in worker.devices}
        lost = ", lost" if worker.is_lost else ""
        yield f"{worker.worker}: {len(worker.devices)} × {', '.join(sorted(names))} ({worker.backend}{lost})"


def _print_broken(console: Console, report: Report) -> None:
    broken = [finding for finding in report.findings if finding.passed is not True]
    if broken:
        console.print(_findings(broken))


def _findings(findings: Iterable[FindingReport]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("rule", "result", "expected", "actual", "mend"):
        table.add_column(column, overflow="fold")
    for finding in findings:
        mend = finding.mend if finding.passed is False else ""
        table.add_row(
            finding.rule,
            MARKS[finding.passed],
            cell_text(finding.expected),
            cell_text(finding.actual),
            cell_text(mend),
        )
    return table


def _shares(report: Report) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="Where the accelerators' time went")
    table.add_column("worker")
    names = list(report.shares[0].fractions)
    for name in names:
        table.add_column(name.replace("_", " "), justify="right")
    for shares in report.shares:
        table.add_row(cell_text(shares.worker or "all"), *(percent(shares.fractions[name]) for name in names))
    if not all(shares.communication_is_separate for shares in report.shares):
        table.caption = "Communication is part of compute where the device runs asynchronously."
    return table


def _trials(trials: Sequence[TrialReport]) -> Table:
    table = Table(box=box.SIMPLE_HEAD)
    for column in ("trial", "worker", "epochs", "best error", "outcome", "ops/image", "hyper-parameters"):
        table.add_column(column, overflow="fold")
    for trial in trials[-MAX_TRIAL_ROWS:]:
        values = ", ".join(f"{k}={_short(v)}" for k, v in trial.hyper_parameters.items())
        table.add_row(
            str(trial.trial),
            cell_text(trial.worker),
            f"{trial.finished_epochs}/{trial.epochs}",
            "" if trial.error is None else percent(trial.error, digits=2),
            cell_text(trial.outcome if not trial.reason else f"{trial.outcome}: {trial.reason}"),
            si(trial.train_ops),
            cell_text(values),
        )
    return table


def _short(value: float | str) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
