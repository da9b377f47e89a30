"""Where a hyper-parameter search starts: points and ranges that were good on data sets like this one.

Features that predict which points rank well are selected, the nearest recorded data sets by these features
are the neighbours, and what was good on the neighbours starts the search: a warm start after Feurer et al.,
AAAI 2015, with the greedy portfolio of Wistuba et al., ICDM 2015. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from aibench.api.features import ExperienceTable
from aibench.api.space import Domain, Scalar
from aibench.api.workload import HyperParameters
from aibench.ranks import shared_ranks
from aibench.search.config import Guidance
from aibench.search.domains import member

NUM_NEIGHBOURS = 4
NUM_FIRST_POINTS = 4
GOOD_SHARE = 0.25
MARGIN_SHARE = 0.1
MIN_WIDTH_SHARE = 0.25

MIN_GAIN = 0.01
"""Rank correlation that a feature has to add to be selected."""

MIN_GAIN_ERRORS = 2.0
"""The same in standard errors over the data sets: the best of many features looks good by chance alone."""

MAX_DEVIATIONS = 3.0
"""Features farther from the recorded mean count as this far: one odd value does not choose the neighbours."""

_SIGNIFICANT_DIGITS = 4
_DECIMALS = 4

_Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class Start:
    """Where a search starts.

    Attributes:
        first_points: Points to try first, the best one first; all lie in ``space``. Empty if no recorded
            point is possible and lies in the configured space.
        space: The configured space, narrowed.
        guidance: What both were chosen by.
    """

    first_points: tuple[HyperParameters, ...]
    space: dict[str, Domain]
    guidance: Guidance


def start_from(
    table: ExperienceTable,
    features: Mapping[str, float],
    space: Mapping[str, Domain],
    *,
    kept: Collection[str] = (),
    is_possible: Callable[[HyperParameters], bool] = lambda _: True,
) -> Start:
    """Choose first points and a narrower space for a new data set.

    Args:
        features: Of the new data set; recorded ones that are absent are done without.
        space: The configured space; points outside it are left out.
        kept: Names whose domains stay as they are.
        is_possible: Whether a point of the space can be trained with; others are left out, too.
    """
    recorded = _common_features(table)
    names = tuple(name for name in recorded if name in features)
    ranks = rank_matrix([experience.errors for experience in table.experiences])
    values = np.array([[experience.features[name] for name in names] for experience in table.experiences])
    selection = select_features(names, values, ranks)
    columns = [names.index(name) for name in selection.scores]
    new_values = np.array([features[names[column]] for column in columns])
    near = nearest(values[:, columns], new_values)
    inside = [
        index
        for index, point in enumerate(table.points)
        if _is_inside(point, space) and is_possible({name: point[name] for name in space})
    ]
    narrowed = _narrowed(space, [table.points[index] for index in inside], ranks[np.ix_(near, inside)], kept)
    candidates = [index for index in inside if _is_inside(table.points[index], narrowed)]
    chosen = portfolio(ranks[np.ix_(near, candidates)], NUM_FIRST_POINTS)
    return Start(
        first_points=tuple(
            [{name: table.points[candidates[index]][name] for name in space} for index in chosen]
        ),
        space=narrowed,
        guidance=Guidance(
            features=_rounded(features),
            missing=tuple(name for name in recorded if name not in features),
            selected=_rounded(selection.scores),
            score_without_features=round(selection.score_without, _DECIMALS),
            neighbours=tuple(table.experiences[index].name for index in near),
        ),
    )


def rank_matrix(errors: Sequence[Sequence[float | None]]) -> _Floats:
    """Rank of every point on every data set, from 0 for the best to 1 for the worst.

    Equal errors share their mean rank; a point without an error is as bad as the worst.

    Args:
        errors: One row per data set, one error per point.

    Returns:
        Shape [data sets, points].
    """
    rows = [shared_ranks([math.inf if error is None else error for error in row]) for row in errors]
    return (np.array(rows) - 1) / max(len(errors[0]) - 1, 1)


@dataclass(frozen=True, kw_only=True, slots=True)
class Selection:
    """Features that say which data sets are alike.

    Attributes:
        scores: The selected ones in the order they were added, with the score up to each.
        score_without: Score of no features at all.
    """

    scores: Mapping[str, float]
    score_without: float


def select_features(names: Sequence[str], values: _Floats, ranks: _Floats) -> Selection:
    """Greedy forward selection by leave-one-data-set-out.

    The score is the mean over the data sets of the correlation between a data set's ranks and the mean ranks
    of its neighbours by the features; without features all others are neighbours. A feature is added while it
    adds at least `MIN_GAIN` and `MIN_GAIN_ERRORS`, so that none is selected where none helps.

    Args:
        values: Shape [data sets, features].
        ranks: Shape [data sets, points].
    """
    scaled, usable = _scaled(values), np.flatnonzero(values.std(axis=0) > 0).tolist()
    reached = without = _left_out_scores(scaled[:, :0], ranks)
    scores: dict[str, float] = {}
    columns: list[int] = []
    while rest := [column for column in usable if column not in columns]:
        found = {column: _left_out_scores(scaled[:, [*columns, column]], ranks) for column in rest}
        best = max(rest, key=lambda column: float(found[column].mean()))
        if not _is_gain(found[best] - reached):
            break
        columns.append(best)
        reached = found[best]
        scores[names[best]] = float(reached.mean())
    return Selection(scores=scores, score_without=float(without.mean()))


def _is_gain(gains: _Floats) -> bool:
    standard_error = gains.std() / math.sqrt(max(len(gains) - 1, 1))
    return bool(gains.mean() >= max(MIN_GAIN, MIN_GAIN_ERRORS * standard_error))


def nearest(values: _Floats, new: _Floats) -> list[int]:
    """The neighbours of new values, the nearest first; all data sets if there are no features to tell by.

    Args:
        values: Shape [data sets, features].
        new: Shape [features].
    """
    if values.shape[1] == 0:
        return list(range(len(values)))
    mean, deviation = values.mean(axis=0), values.std(axis=0)
    shifted = ((new - mean) / deviation).clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
    distances = np.linalg.norm(_scaled(values) - shifted, axis=1)
    order: list[int] = np.argsort(distances, kind="stable")[:NUM_NEIGHBOURS].tolist()
    return order


def portfolio(ranks: _Floats, count: int) -> list[int]:
    """Points of which on every data set one is good, each chosen to complement those before it.

    Args:
        ranks: Shape [data sets, points].
        count: Most points to choose.
    """
    means = ranks.mean(axis=0)
    best_so_far = np.ones(len(ranks))
    chosen: list[int] = []
    while len(chosen) < min(count, ranks.shape[1]):
        covered = np.minimum(ranks, best_so_far[:, None]).mean(axis=0)
        rest = [point for point in range(ranks.shape[1]) if point not in chosen]
        best = min(rest, key=lambda point: (covered[point], means[point]))
        chosen.append(best)
        best_so_far = np.minimum(best_so_far, ranks[:, best])
    return chosen


def _rounded(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, _DECIMALS) for name, value in figures.items()}


def _common_features(table: ExperienceTable) -> tuple[str, ...]:
    first, *others = (experience.features for experience in table.experiences)
    return tuple(name for name in first if all(name in other for other in others))


def _scaled(values: _Floats) -> _Floats:
    deviations = values.std(axis=0)
    scaled: _Floats = (values - values.mean(axis=0)) / np.where(deviations > 0, deviations, 1.0)
    return scaled


def _left_out_scores(scaled: _Floats, ranks: _Floats) -> _Floats:
    """Correlation of the prediction with the ranks, shape [data sets]."""
    num_sets, num_features = scaled.shape
    num_neighbours = min(NUM_NEIGHBOURS, num_sets - 1) if num_features else num_sets - 1
    if num_neighbours < 1:
        return np.zeros(num_sets)
    distances = np.linalg.norm(scaled[:, None] - scaled[None], axis=2)
    np.fill_diagonal(distances, np.inf)
    neighbours = np.argsort(distances, axis=1, kind="stable")[:, :num_neighbours]
    predicted = ranks[neighbours].mean(axis=1)
    return np.array([_correlation(*pair) for pair in zip(predicted, ranks, strict=True)])


def _correlation(first: _Floats, second: _Floats) -> float:
    """0 where one of them does not vary."""
    if first.std() == 0 or second.std() == 0:
        return 0.0
    return float(np.corrcoef(first, second)[0, 1])


def _is_inside(point: Mapping[str, Scalar], space: Mapping[str, Domain]) -> bool:
    return all(name in point and member(domain, point[name]) is not None for name, domain in space.items())


def _narrowed(
    space: Mapping[str, Domain], points: Sequence[HyperParameters], ranks: _Floats, kept: Collection[str]
) -> dict[str, Domain]:
    """The space around the best quarter of the points, by their mean rank over the neighbours."""
    order = np.argsort(ranks.mean(axis=0), kind="stable")
    good = [points[index] for index in order[: math.ceil(GOOD_SHARE * len(points))]]
    if not good:
        return dict(space)
    return {
        name: domain
        if name in kept
        else narrow(domain, [point[name] for point in good], [point[name] for point in points])
        for name, domain in space.items()
    }


def narrow(domain: Domain, good: Sequence[Scalar], tried: Sequence[Scalar]) -> Domain:
    """Cut a domain down to what was good.

    An interval ends a tenth of its width beyond the good values, stays a quarter as wide at least, and is not
    cut where nothing beyond the good values was tried. Choices that were tried and never good are left out.

    Args:
        good: Values of the good points, at least one, all in the domain.
        tried: Values of all points in the domain.
    """
    if domain.choices is not None:
        choices = tuple(choice for choice in domain.choices if choice in good or choice not in tried)
        return Domain(choices=choices)
    numbers, all_numbers = _numbers(good, domain), _numbers(tried, domain)
    low, high = _numbers([domain.low or 0.0, domain.high or 0.0], domain)
    width = high - low
    inner_low, inner_high = numbers.min() - MARGIN_SHARE * width, numbers.max() + MARGIN_SHARE * width
    lacking = max(MIN_WIDTH_SHARE * width - (inner_high - inner_low), 0.0) / 2
    new_low = low if numbers.min() <= all_numbers.min() else max(low, inner_low - lacking)
    new_high = high if numbers.max() >= all_numbers.max() else min(high, inner_high + lacking)
    return Domain(
        low=domain.low if new_low == low else _plain(new_low, domain),
        high=domain.high if new_high == high else _plain(new_high, domain),
        log=domain.log,
    )


def _numbers(values: Sequence[Scalar], domain: Domain) -> _Floats:
    numbers = np.array(list(_floats(values)))
    return np.log(numbers) if domain.log else numbers


def _floats(values: Sequence[Scalar]) -> Iterator[float]:
    for value in values:
        assert not isinstance(value, str)
        yield float(value)


def _plain(number: float, domain: Domain) -> float:
    """Back from the logarithm, with few digits, for the reader of the configuration."""
    return float(f"{math.exp(number) if domain.log else number:.{_SIGNIFICANT_DIGITS}g}")
