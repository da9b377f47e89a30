from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from aibench.api.features import Experience, ExperienceTable
from aibench.api.space import Domain
from aibench.search.guidance import (
    narrow,
    nearest,
    portfolio,
    rank_matrix,
    select_features,
    start_from,
)

SPACE = {"rate": Domain(low=0.0, high=1.0), "size": Domain(choices=(8, 16, 32))}


def table_of(
    points: list[dict[str, Any]], experiences: dict[str, tuple[dict[str, float], list[float | None]]]
) -> ExperienceTable:
    return ExperienceTable(
        origin={},
        points=tuple(points),
        experiences=tuple(
            Experience(name=name, features=features, errors=tuple(errors))
            for name, (features, errors) in experiences.items()
        ),
    )


def two_kinds(num_sets: int = 12, num_points: int = 20) -> ExperienceTable:
    """Data sets of kind 0 like low rates and size 8, those of kind 1 high rates and size 16."""
    rates = [round((index + 0.5) / num_points, 4) for index in range(num_points)]
    points = [{"rate": rate, "size": 8 if rate < 0.5 else 16} for rate in rates]
    noise = np.random.RandomState(0).uniform(size=num_sets)
    experiences: dict[str, tuple[dict[str, float], list[float | None]]] = {}
    for index in range(num_sets):
        kind = index % 2
        features = {"kind": float(kind), "noise": float(noise[index]), "same": 3.0}
        experiences[f"set-{index}"] = (features, [abs(rate - (0.1, 0.9)[kind]) for rate in rates])
    return table_of(points, experiences)


def test_ranks_run_from_the_best_to_the_worst_and_failures_are_the_worst() -> None:
    ranks = rank_matrix([[0.3, 0.1, None, 0.2, 0.9], [0.5, 0.5, 0.5, 0.5, 0.1]])
    assert ranks.tolist() == [[0.5, 0.0, 1.0, 0.25, 0.75], [0.625, 0.625, 0.625, 0.625, 0.0]]
    assert rank_matrix([[0.3]]).tolist() == [[0.0]]


def test_the_feature_that_tells_the_rankings_is_selected_and_no_other() -> None:
    table = two_kinds()
    names = ("noise", "same", "kind")
    values = np.array([[experience.features[name] for name in names] for experience in table.experiences])
    selection = select_features(names, values, rank_matrix([e.errors for e in table.experiences]))
    assert list(selection.scores) == ["kind"]
    assert selection.scores["kind"] == pytest.approx(1.0)
    assert selection.score_without < 0


def test_no_feature_is_selected_where_all_data_sets_rank_alike() -> None:
    values = np.random.RandomState(0).uniform(size=(10, 3))
    ranks = rank_matrix([[0.1, 0.2, 0.3, 0.4]] * 10)
    selection = select_features(("a", "b", "c"), values, ranks)
    assert dict(selection.scores) == {}
    assert selection.score_without == pytest.approx(1.0)


def test_a_feature_that_helps_a_few_data_sets_by_chance_is_not_selected() -> None:
    random = np.random.RandomState(0)
    ranks = rank_matrix([(np.arange(30) + random.normal(0, 20, size=30)).tolist() for _ in range(10)])
    names = [f"noise-{number}" for number in range(20)]
    assert dict(select_features(names, random.uniform(size=(10, 20)), ranks).scores) == {}


def test_data_sets_without_any_difference_have_nothing_to_predict() -> None:
    selection = select_features(("a",), np.arange(6.0)[:, None], rank_matrix([[0.5, 0.5, 0.5]] * 6))
    assert dict(selection.scores) == {}
    assert selection.score_without == 0.0


def test_neighbours_are_the_nearest_in_units_of_the_features_own_spread() -> None:
    values = np.array([[0.0, 0.0], [1.0, 0.0], [2.0, 0.0], [3.0, 0.0], [0.0, 1000.0], [0.0, 2000.0]])
    assert nearest(values, np.array([2.1, 0.0])) == [2, 3, 1, 0]
    assert nearest(values, np.array([0.0, 1900.0]))[:2] == [5, 4]


def test_one_odd_feature_does_not_choose_the_neighbours_alone() -> None:
    values = np.array([[0.0, 0.0], [0.1, 0.0], [0.2, 5.0], [0.3, 5.0], [0.4, 5.0], [0.5, 0.0]])
    far, farther = (nearest(values, np.array([odd, 5.0])) for odd in (10.0, 1e9))
    assert far == farther
    assert far[0] == 4


def test_without_features_all_are_neighbours() -> None:
    assert nearest(np.empty((6, 0)), np.empty(0)) == [0, 1, 2, 3, 4, 5]


def test_a_portfolio_complements_itself() -> None:
    ranks = np.array([[0.3, 0.0, 1.0, 0.1], [0.3, 1.0, 0.0, 0.9]])
    # Alone the first is best in the mean; then each of the specialists adds most.
    assert portfolio(ranks, 3) == [0, 1, 2]
    assert portfolio(ranks, 9) == [0, 1, 2, 3]
    assert portfolio(ranks[:, :0], 3) == []


def test_an_interval_is_cut_to_what_was_good_and_a_tenth_more() -> None:
    domain = Domain(low=0.0, high=1.0)
    tried = [0.05, 0.3, 0.4, 0.6, 0.95]
    assert narrow(domain, [0.3, 0.6], tried) == Domain(low=0.2, high=0.7)


def test_a_logarithmic_interval_is_cut_in_its_logarithm() -> None:
    domain = Domain(low=0.001, high=1.0, log=True)
    narrowed = narrow(domain, [0.01, 0.1], [0.001, 0.01, 0.1, 1.0])
    assert narrowed == Domain(low=0.005012, high=0.1995, log=True)


def test_an_interval_keeps_a_quarter_of_its_width() -> None:
    narrowed = narrow(Domain(low=0.0, high=8.0), [4.0], [1.0, 4.0, 7.0])
    assert narrowed == Domain(low=3.0, high=5.0)


def test_an_interval_stays_open_where_nothing_was_tried_beyond() -> None:
    domain = Domain(low=0.0, high=10.0)
    assert narrow(domain, [2.0, 3.0], [2.0, 3.0, 6.0]) == Domain(low=0.0, high=4.0)
    assert narrow(domain, [6.0], [2.0, 3.0, 6.0]) == Domain(low=4.75, high=10.0)
    assert narrow(Domain(low=2.0, high=2.0), [2.0], [2.0]) == Domain(low=2.0, high=2.0)


def test_choices_that_were_never_good_go_and_untried_ones_stay() -> None:
    domain = Domain(choices=(8, 16, 32, 64))
    assert narrow(domain, [16, 16, 32], [8, 16, 32]) == Domain(choices=(16, 32, 64))


def test_a_new_data_set_starts_where_its_kind_was_good() -> None:
    start = start_from(two_kinds(), {"kind": 1.0, "noise": 0.5, "same": 3.0}, SPACE)
    assert start.first_points[0] == {"rate": 0.875, "size": 16}
    assert len(start.first_points) == 4
    assert start.space["rate"] == Domain(low=0.675, high=1.0)
    assert start.space["size"] == Domain(choices=(16, 32))
    assert start.guidance.neighbours == ("set-1", "set-3", "set-5", "set-7")
    assert list(start.guidance.selected) == ["kind"]
    assert start.guidance.features == {"kind": 1.0, "noise": 0.5, "same": 3.0}
    assert start.guidance.missing == ()


def test_every_first_point_lies_in_the_narrowed_space() -> None:
    start = start_from(two_kinds(), {"kind": 0.0, "noise": 0.1, "same": 3.0}, SPACE)
    rate = start.space["rate"]
    assert rate.low is not None
    assert rate.high is not None
    assert start.space["size"].choices is not None
    for point in start.first_points:
        assert isinstance(point["rate"], float)
        assert rate.low <= point["rate"] <= rate.high
        assert point["size"] in start.space["size"].choices


def test_features_that_could_not_be_measured_are_named_and_done_without() -> None:
    start = start_from(two_kinds(), {"noise": 0.5, "unheard_of": 1.0}, SPACE)
    assert start.guidance.missing == ("kind", "same")
    assert "kind" not in start.guidance.selected
    assert start.first_points


def test_a_feature_that_not_all_recorded_data_sets_have_is_not_used() -> None:
    table = two_kinds()
    first, *others = table.experiences
    lacking = Experience(name=first.name, features={"noise": 0.1}, errors=first.errors)
    start = start_from(
        ExperienceTable(origin={}, points=table.points, experiences=(lacking, *others)),
        {"kind": 1.0, "noise": 0.5},
        SPACE,
    )
    assert "kind" not in start.guidance.selected


def test_the_configured_space_wins() -> None:
    features = {"kind": 1.0, "noise": 0.5, "same": 3.0}
    space = {"rate": Domain(low=0.2, high=0.6), "size": Domain(choices=(8, 16))}
    start = start_from(two_kinds(), features, space, kept=("rate",))
    assert start.space["rate"] == Domain(low=0.2, high=0.6)
    assert all(0.2 <= float(point["rate"]) <= 0.6 for point in start.first_points)
    assert start.first_points[0]["rate"] == 0.575


def test_a_hyper_parameter_that_was_taken_out_is_left_out_of_the_points() -> None:
    start = start_from(two_kinds(), {"kind": 1.0}, {"rate": Domain(low=0.0, high=1.0)})
    assert start.first_points[0] == {"rate": 0.875}


@pytest.mark.parametrize(
    "space",
    [
        {"rate": Domain(low=2.0, high=3.0), "size": Domain(choices=(8, 16))},
        {"rate": Domain(low=0.0, high=1.0), "size": Domain(choices=(64,))},
        {"rate": Domain(low=0.0, high=1.0), "unheard_of": Domain(low=0.0, high=1.0)},
        {"rate": Domain(choices=("fast", "slow"))},
    ],
)
def test_a_space_without_recorded_points_is_left_as_it_is(space: dict[str, Domain]) -> None:
    start = start_from(two_kinds(), {"kind": 1.0}, space)
    assert start.first_points == ()
    assert start.space == space


def test_points_that_failed_are_not_recommended() -> None:
    points = [{"rate": 0.1}, {"rate": 0.5}, {"rate": 0.9}]
    experiences = {f"set-{index}": ({"a": float(index)}, [None, 0.2, 0.3]) for index in range(5)}
    start = start_from(table_of(points, experiences), {"a": 2.0}, {"rate": Domain(low=0.0, high=1.0)})
    assert start.first_points[0] == {"rate": 0.5}


def test_a_single_recorded_data_set_is_the_neighbour() -> None:
    table = table_of([{"rate": 0.1}, {"rate": 0.9}], {"only": ({"a": 1.0}, [0.5, 0.4])})
    start = start_from(table, {"a": 7.0}, {"rate": Domain(low=0.0, high=1.0)})
    assert start.guidance.neighbours == ("only",)
    assert start.first_points[0] == {"rate": 0.9}


@pytest.mark.parametrize(
    ("points", "experiences", "problem"),
    [
        ([], {"a": ({}, [])}, "no experience is recorded"),
        ([{"rate": 0.1}], {}, "no experience is recorded"),
        ([{"rate": 0.1}], {"a": ({}, [0.1, 0.2])}, "a has 2 errors, expected 1"),
    ],
)
def test_a_table_without_one_error_per_point_is_refused(points: Any, experiences: Any, problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        table_of(points, experiences)
