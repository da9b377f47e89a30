"""Does a feature-guided start save trials? Each recorded data set in turn is new, the others are known.

Trials until the error is among the best 5 % of the data set's recorded points. Searches draw from the
recorded points only: a drawn point counts as the nearest one that was not tried yet.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import pytest

from aibench.api.features import Experience, ExperienceTable
from aibench.api.space import Domain, Scalar
from aibench.api.workload import HyperParameters
from aibench.search.guidance import Start, nearest, start_from
from aibench.search.hyperparameters import HyperParameterSearch
from aibench.search.paired import bootstrap_band, signed_rank_test
from workloads.image_classification.experience import load_experience
from workloads.image_classification.hyperparameters import search_space

pytestmark = pytest.mark.bench

NUM_SEEDS = 50
TARGET_SHARE = 0.05
SPACE = search_space(is_large=False)
STARTS = ("none", "features", "all others", "space only", "all features")

Order = Callable[[ExperienceTable, Experience, Start, int], Iterator[int]]
Known = Callable[[Experience, Experience], bool]


def unguided() -> Start:
    table = load_experience()
    start = start_from(table, {}, SPACE)
    return Start(first_points=(), space=dict(SPACE), guidance=start.guidance)


def start_of(kind: str, table: ExperienceTable, new: Experience, is_known: Known) -> Start:
    """A start with what is known of other data sets.

    ``features`` is what a run does. ``all others`` is a portfolio over all known data sets, ``space only``
    its space without its points, ``all features`` one over the nearest data sets by all features, selected or
    not.
    """
    if kind == "none":
        return unguided()
    others = tuple([experience for experience in table.experiences if is_known(experience, new)])
    if kind == "all features":
        values = np.array([list(known.features.values()) for known in others])
        varying = values.std(axis=0) > 0
        near = nearest(values[:, varying], np.array(list(new.features.values()))[varying])
        others = tuple([others[index] for index in near])
    known = ExperienceTable(origin=table.origin, points=table.points, experiences=others)
    start = start_from(known, new.features if kind == "features" else {}, SPACE)
    return dataclasses.replace(start, first_points=()) if kind == "space only" else start


def is_inside(point: HyperParameters, space: Mapping[str, Domain]) -> bool:
    return all(position(domain, point[name]) is not None for name, domain in space.items())


def position(domain: Domain, value: Scalar) -> float | None:
    """Where a value lies in its domain, from 0 to 1; None outside."""
    if domain.choices is not None:
        spread = max(len(domain.choices) - 1, 1)
        return domain.choices.index(value) / spread if value in domain.choices else None
    assert domain.low is not None
    assert domain.high is not None
    assert not isinstance(value, str)
    if not domain.low <= value <= domain.high:
        return None
    scale = math.log if domain.log else float
    return (scale(value) - scale(domain.low)) / (scale(domain.high) - scale(domain.low))


def random_order(table: ExperienceTable, new: Experience, start: Start, seed: int) -> Iterator[int]:
    """First points, then the others in the narrowed space, then the rest, at random."""
    first = [table.points.index(point) for point in start.first_points]
    yield from first
    order: list[int] = np.random.default_rng(seed).permutation(len(table.points)).tolist()
    rest = [index for index in order if index not in first]
    yield from sorted(rest, key=lambda index: not is_inside(table.points[index], start.space))


def tpe_order(table: ExperienceTable, new: Experience, start: Start, seed: int) -> Iterator[int]:
    """First points, then TPE in the narrowed space while it has untried points, then the rest."""
    search = HyperParameterSearch(start.space, sampler="tpe", seed=seed)
    places = np.array([[position(SPACE[n], point[n]) or 0.0 for n in SPACE] for point in table.points])
    inside = {index for index, point in enumerate(table.points) if is_inside(point, start.space)}
    waiting = [table.points.index(point) for point in start.first_points]
    while inside:
        if waiting:
            chosen = waiting.pop(0)
        else:
            drawn = next(search.draws(0))
            place = np.array([position(SPACE[name], drawn[name]) or 0.0 for name in SPACE])
            chosen = min(inside, key=lambda index: float(np.linalg.norm(places[index] - place)))
        inside.remove(chosen)
        yield chosen
        error = new.errors[chosen]
        search.start(chosen, table.points[chosen])
        search.tell(chosen, None if error is None else 1 - error)
    yield from (index for index, point in enumerate(table.points) if not is_inside(point, start.space))


def trials_to_target(order: Iterator[int], new: Experience) -> int:
    errors = [math.inf if error is None else error for error in new.errors]
    target = sorted(errors)[math.ceil(TARGET_SHARE * len(errors)) - 1]
    return next(number for number, index in enumerate(order, start=1) if errors[index] <= target)


def mean_trials(order: Order, kind: str, is_known: Known) -> list[float]:
    table = load_experience()
    means = []
    for new in table.experiences:
        start = start_of(kind, table, new, is_known)
        trials = [trials_to_target(order(table, new, start, seed), new) for seed in range(NUM_SEEDS)]
        means.append(float(np.mean(trials)))
    return means


def print_ratio(title: str, guided: list[float], other: list[float]) -> None:
    logarithms = np.log(guided) - np.log(other)
    band = bootstrap_band(logarithms[:, None])
    mean, low, high = (float(np.exp(values[0])) for values in band)
    p_value = signed_rank_test(logarithms.tolist()).p_value
    verdict = "fewer trials" if high < 1 else "more trials" if low > 1 else "no difference shown"
    print(f"{title:44} × {mean:4.2f} ({low:4.2f} to {high:4.2f}, p {p_value:.3f}): {verdict}")


def compare(title: str, order: Order, is_known: Known) -> None:
    found = {kind: mean_trials(order, kind, is_known) for kind in STARTS}
    print(f"\n{title}: mean trials to the best 5 %\n{'':52} {'  '.join(f'{kind:>12}' for kind in STARTS)}")
    for row, experience in enumerate(load_experience().experiences):
        figures = "  ".join(f"{found[kind][row]:12.1f}" for kind in STARTS)
        print(f"{experience.name:52} {figures}")
    print_ratio("guided by features / unguided", found["features"], found["none"])
    print_ratio("portfolio over all others / unguided", found["all others"], found["none"])
    print_ratio("guided by features / portfolio over all", found["features"], found["all others"])
    print_ratio("by all features / portfolio over all", found["all features"], found["all others"])
    print_ratio("space of the portfolio alone / unguided", found["space only"], found["none"])


def is_another(known: Experience, new: Experience) -> bool:
    return known.name != new.name


def is_of_another_family(known: Experience, new: Experience) -> bool:
    return known.name.partition("-")[0] != new.name.partition("-")[0]


@pytest.mark.parametrize("order", [random_order, tpe_order])
def test_trials_to_target_with_each_data_set_left_out(order: Order) -> None:
    compare(f"{order.__name__}, all other data sets known", order, is_another)


def test_trials_to_target_with_each_family_left_out() -> None:
    compare("random_order, only the other family known", random_order, is_of_another_family)


def test_what_guides_a_search_of_each_data_set() -> None:
    table = load_experience()
    print()
    for new in table.experiences:
        start = start_of("features", table, new, is_another)
        guidance = start.guidance
        selected = ", ".join(f"{name} {score:.2f}" for name, score in guidance.selected.items())
        print(f"{new.name}: without features {guidance.score_without_features:.2f}, {selected or 'none'}")
        print(f"    neighbours {', '.join(guidance.neighbours[:4])}")
        print(f"    space {start.space}")
