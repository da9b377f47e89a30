"""The search section of report.html: what its template draws without computing."""

from __future__ import annotations

from dataclasses import dataclass

from aibench.score.lineage import leading
from aibench.score.page import counted
from aibench.score.pedigree import MAX_FAMILY_ROWS, Step, family, pedigree
from aibench.score.prediction_chart import PredictionChart, prediction_chart
from aibench.score.report import Report
from aibench.score.tree_chart import TreeChart, tree_chart
from aibench.score.units import percent


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchView:
    """The parts of the section; ``tree`` and ``predictions`` are None where there is nothing to draw."""

    sentence: str
    tree: TreeChart | None
    pedigree: tuple[Step, ...]
    family: tuple[Step, ...]
    predictions: PredictionChart | None


def search_view(report: Report) -> SearchView:
    """Lay the section out."""
    return SearchView(
        sentence=search_sentence(report),
        tree=tree_chart(report),
        pedigree=pedigree(report.tree),
        family=family(leading(report.tree.networks, MAX_FAMILY_ROWS)),
        predictions=prediction_chart(report),
    )


def search_sentence(report: Report) -> str:
    """How far the search came, as a sentence or two."""
    tree = report.tree
    trained = (
        f"{counted(len(report.trials), 'trial')} trained {counted(tree.num_networks, 'different network')} "
        f"in {counted(tree.max_generation + 1, 'generation')}."
    )
    line = tree.best_line
    if not line or line[0].error is None or line[-1].error is None:
        return trained
    errors = f"{percent(line[0].error, digits=2)} to {percent(line[-1].error, digits=2)}"
    if len(line) == 1:
        return f"{trained} The best one, of trial {line[0].first_trial}, is a root itself."
    return (
        f"{trained} The best one is {counted(len(line) - 1, 'step')} from its root, trial "
        f"{line[0].first_trial}: "
        f"along its line the error went from {errors}."
    )
