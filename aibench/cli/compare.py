"""``aibench compare-search``."""

from __future__ import annotations

import dataclasses
import difflib
import math
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from aibench.config import ResolvedRun
    from aibench.search.comparison import Contest
    from aibench.search.comparison_summary import Comparison, Conditions

DEFAULT_SEEDS = 10
LANDSCAPE, WORKLOAD = "landscape", "workload"
DEFAULT_BUDGET_TRIALS = {LANDSCAPE: 300, WORKLOAD: 24}


@click.command("compare-search", short_help="Compare search algorithms at equal operations.")
@click.argument("config")
@click.option("--algorithms", metavar="A,B,…", help="Architecture searches to compare [default: all].")
@click.option(
    "--on",
    type=click.Choice([LANDSCAPE, WORKLOAD]),
    default=LANDSCAPE,
    help="Take errors from a test landscape, a formula, or really train each trial of the workload "
    "[default: landscape].",
)
@click.option(
    "--seeds",
    "num_seeds",
    type=click.IntRange(min=2),
    default=DEFAULT_SEEDS,
    help=f"Number of seeds, from the configuration's on [default: {DEFAULT_SEEDS}].",
)
@click.option(
    "--budget",
    "budget_text",
    metavar="OPS",
    help="Operations of each algorithm with each seed, such as 5e12 [default: as many as "
    f"{DEFAULT_BUDGET_TRIALS[LANDSCAPE]} trials of the initial network, on the workload "
    f"{DEFAULT_BUDGET_TRIALS[WORKLOAD]}].",
)
@click.option(
    "--jobs",
    "num_jobs",
    type=click.IntRange(min=1),
    default=1,
    help="On the workload: trials that train at the same time; they share the cores [default: 1].",
)
@click.option(
    "--set", "overrides", multiple=True, metavar="KEY.PATH=VALUE", help="Override a value; repeatable."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="New folder [default: comparisons/NAME-TIME].",
)
def compare_search_command(
    config: str,
    algorithms: str | None,
    on: str,
    num_seeds: int,
    budget_text: str | None,
    num_jobs: int,
    overrides: tuple[str, ...],
    out: Path | None,
) -> None:
    """Compare the architecture searches on the network, space and limits of CONFIG, as `run` takes it.

    Every algorithm gets the same seeds and operations, and 8 simulated workers. On the landscape nothing is
    trained. On the workload every trial is trained from scratch for epochs.full epochs on the first group's
    device, and written to trials.jsonl when it ends. Prints tables, writes comparison.json and
    comparison.html, also on how spread and slope of the normalized score shrink with length.

    \b
    Example:
      aibench compare-search smoke
      aibench compare-search smoke --algorithms random,none --seeds 20 --budget 5e12 --out first-comparison
      aibench compare-search smoke --on workload --seeds 6 --jobs 2 --set epochs.full=4
    """
    from aibench.cli.compare_sessions import landscape_session, workload_session
    from aibench.cli.tables import print_comparison
    from aibench.config import load_config, resolve
    from aibench.master.layout import RunLayout
    from aibench.search.comparison import check_budget, run_courses
    from aibench.search.comparison_summary import summarize

    names = _algorithms(algorithms)
    budget_ops = _budget_ops(budget_text)
    _check_jobs(on, num_jobs)
    resolved = resolve(load_config(config, overrides))
    _check_whole_trials(resolved, on)
    contest = _contest(resolved, DEFAULT_BUDGET_TRIALS[on], budget_ops)
    seeds = tuple(range(resolved.config.seed, resolved.config.seed + num_seeds))
    check_budget(contest, seeds)
    root = out or _default_root(resolved.config.name)
    RunLayout(root).create()
    num_courses = len(names) * num_seeds
    session = (
        workload_session(resolved, contest, root, num_courses=num_courses, num_jobs=num_jobs)
        if on == WORKLOAD
        else landscape_session(contest, root, num_courses=num_courses)
    )
    with session as found:
        contest = dataclasses.replace(contest, evaluator=found.evaluator)
        courses = run_courses(contest, names, seeds, found.on_course)
    comparison = summarize(_conditions(resolved, contest, seeds, on=on, evaluator=found.sentence), courses)
    _write(comparison, root)
    print_comparison(comparison, root)


def _algorithms(text: str | None) -> tuple[str, ...]:
    from aibench.search.comparison import algorithm_names

    known = algorithm_names()
    if text is None:
        return known
    names = tuple(name.strip() for name in text.split(","))
    for place, name in enumerate(names):
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise click.BadParameter(
                f"{name!r} is unknown; {hint}expected some of {', '.join(known)}", param_hint="--algorithms"
            )
        if name in names[:place]:
            raise click.BadParameter(f"{name!r} is given twice", param_hint="--algorithms")
    return names


def _budget_ops(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value <= 0:
        raise click.BadParameter(
            f"{text!r}: expected a number of operations above 0, such as 5e12", param_hint="--budget"
        )
    return int(value)


def _check_jobs(on: str, num_jobs: int) -> None:
    if on != WORKLOAD and num_jobs > 1:
        raise click.BadParameter(
            f"{num_jobs}: nothing is trained on the landscape; expected 1, or --on workload",
            param_hint="--jobs",
        )


def _check_whole_trials(resolved: ResolvedRun, on: str) -> None:
    """Refuse settings by which a run's trials are no whole trainings from scratch: here they all are."""
    from aibench.errors import ConfigError

    departures = resolved.config.search.departures
    if on == WORKLOAD and departures:
        raise ConfigError(
            "search",
            f"{departures[0]}; expected off: a comparison trains every trial whole and from scratch",
        )


def _contest(resolved: ResolvedRun, default_trials: int, budget_ops: int | None) -> Contest:
    from aibench.counting import count
    from aibench.search.comparison import Contest
    from aibench.search.evaluator import TrialWork
    from aibench.search.landscape import SurrogateLandscape

    dataset = resolved.description.dataset
    work = TrialWork(
        train_images=dataset.train_images,
        validation_images=dataset.validation_images,
        epochs=resolved.config.epochs.full,
    )
    default_ops = default_trials * work.ops(count(resolved.initial))
    return Contest(
        config=resolved.config.search,
        initial=resolved.initial,
        space=resolved.space,
        specialise=resolved.workload.specialise,
        memory=resolved.memory,
        evaluator=SurrogateLandscape(resolved.initial, work),
        work=work,
        budget_ops=default_ops if budget_ops is None else budget_ops,
    )


def _conditions(
    resolved: ResolvedRun, contest: Contest, seeds: tuple[int, ...], *, on: str, evaluator: str
) -> Conditions:
    from aibench import __version__
    from aibench.counting import RULES_VERSION
    from aibench.search.comparison_summary import Conditions

    return Conditions(
        name=resolved.config.name,
        aibench_version=__version__,
        rules_version=RULES_VERSION,
        evaluator=evaluator,
        on="workload" if on == WORKLOAD else "landscape",
        least_error=1 / contest.work.validation_images,
        initial_architecture=resolved.description.initial_architecture,
        architecture_hash=resolved.initial.content_hash,
        budget_ops=contest.budget_ops,
        trial_epochs=contest.work.epochs,
        num_workers=contest.num_workers,
        seeds=seeds,
        config=resolved.document,
    )


def _default_root(name: str) -> Path:
    from aibench.cli.run import default_root

    return Path("comparisons") / default_root(name).name


def _write(comparison: Comparison, root: Path) -> None:
    import msgspec

    from aibench.comparison_html import render_comparison
    from aibench.errors import RunFolderError

    try:
        document = msgspec.json.format(msgspec.json.encode(comparison), indent=1)
        (root / "comparison.json").write_bytes(document)
        (root / "comparison.html").write_text(render_comparison(comparison), encoding="utf-8")
    except OSError as error:
        raise RunFolderError(f"{root}: the comparison cannot be written ({error.strerror})") from error
