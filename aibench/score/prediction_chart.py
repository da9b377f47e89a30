"""Predicted against achieved accuracy as a picture: what is predicted well lies on the diagonal."""

from __future__ import annotations

import math
from dataclasses import dataclass

from aibench.score.charts import Box, Mark
from aibench.score.plot import Axis, accuracy_axis, coordinate, spaced
from aibench.score.predictions import PredictionPair, PredictionSeries, figures_text
from aibench.score.report import Report
from aibench.score.units import percent

BOX = Box(width=520.0, height=430.0, left=52.0, right=508.0, top=34.0, bottom=388.0)

_NAMES = {"search": "the search, before training", "curve": "the learning curve, halfway"}
_MIN_X_SPACE = 54.0
_MIN_Y_SPACE = 24.0


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionDots:
    """One source of predictions: its figures in words, and a dot for each trial."""

    source: str
    name: str
    figures: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class PredictionChart:
    """The picture, laid out in `BOX`; both axes have the same ends.

    Attributes:
        is_thinned: Whether there are more pairs than marks.
    """

    summary: str
    x: Axis
    y: Axis
    series: tuple[PredictionDots, ...]
    is_thinned: bool


def prediction_chart(report: Report) -> PredictionChart | None:
    """Lay the pairs out; None where no completed trial had a prediction."""
    sources: dict[str, PredictionSeries] = {
        "search": report.predictions.search,
        "curve": report.predictions.curve,
    }
    pairs = [pair for series in sources.values() for pair in series.pairs]
    if not pairs:
        return None
    floor = 1 / report.workload.dataset.validation_images
    errors = [max(floor, error) for pair in pairs for error in (pair.predicted_error, pair.achieved_error)]
    x = accuracy_axis(min(errors), max(errors), BOX.left, BOX.right)
    y = accuracy_axis(min(errors), max(errors), BOX.bottom, BOX.top)
    figures = {source: figures_text(series) for source, series in sources.items()}
    return PredictionChart(
        summary="Predicted against achieved accuracy. "
        + " ".join(f"By {_NAMES[source]}: {figures[source]}." for source in sources),
        is_thinned=any(series.num_pairs > len(series.pairs) for series in sources.values()),
        x=spaced(x, _MIN_X_SPACE),
        y=spaced(y, _MIN_Y_SPACE),
        series=tuple(
            PredictionDots(
                source=source,
                name=_NAMES[source],
                figures=figures[source],
                marks=tuple(_mark(pair, x, y, floor) for pair in series.pairs),
            )
            for source, series in sources.items()
        ),
    )


def _mark(pair: PredictionPair, x: Axis, y: Axis, floor: float) -> Mark:
    return Mark(
        coordinate(x.scale.at(math.log(max(floor, pair.predicted_error)))),
        coordinate(y.scale.at(math.log(max(floor, pair.achieved_error)))),
        f"trial {pair.trial}: {percent(1 - pair.predicted_error, digits=2)} predicted, "
        f"{percent(1 - pair.achieved_error, digits=2)} achieved",
    )
