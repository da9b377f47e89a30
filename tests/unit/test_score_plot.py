import math

import pytest

from aibench.score.plot import (
    Axis,
    Scale,
    Tick,
    accuracy_axis,
    area_path,
    between_path,
    coordinate,
    dots_path,
    error_axis,
    line_path,
    log_percent_axis,
    nice_step,
    percent_axis,
    si_axis,
    spaced,
    stacked,
    step_path,
    ticks_covering,
    ticks_within,
    time_axis,
)


def test_scale_maps_linearly_and_may_run_downwards() -> None:
    scale = Scale(0.0, 10.0, 200.0, 100.0)
    assert [scale.at(value) for value in (0.0, 2.5, 10.0)] == [200.0, 175.0, 100.0]


@pytest.mark.parametrize(
    ("extent", "max_steps", "step"),
    [
        (10.0, 5, 2.0),
        (11.0, 5, 5.0),
        (1.0, 5, 0.2),
        (0.3, 3, 0.1),
        (60.0, 6, 10.0),
        (7e11, 5, 2e11),
        (51.0, 5, 20.0),
    ],
)
def test_step_is_one_two_or_five_times_a_power_of_ten(extent: float, max_steps: int, step: float) -> None:
    assert nice_step(extent, max_steps) == pytest.approx(step, rel=1e-12)


def test_ticks_within_end_at_or_before_the_end() -> None:
    assert ticks_within(62.0, 6) == (0.0, 20.0, 40.0, 60.0)
    assert ticks_within(60.0, 6) == (0.0, 10.0, 20.0, 30.0, 40.0, 50.0, 60.0)


def test_ticks_covering_reach_the_end() -> None:
    assert ticks_covering(62.0, 5) == (0.0, 20.0, 40.0, 60.0, 80.0)
    assert ticks_covering(60.0, 3) == (0.0, 20.0, 40.0, 60.0)
    assert ticks_covering(0.0, 5) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("end_s", "unit", "labels"),
    [
        (120.0, "s", ["0", "20", "40", "60", "80", "100", "120"]),
        (0.5, "s", ["0.0", "0.1", "0.2", "0.3", "0.4", "0.5"]),
        (3720.0, "min", ["0", "10", "20", "30", "40", "50", "60"]),
        (43_200.0, "h", ["0", "2", "4", "6", "8", "10", "12"]),
    ],
)
def test_time_axis_chooses_its_unit(end_s: float, unit: str, labels: list[str]) -> None:
    axis = time_axis(end_s, 0.0, 100.0)
    assert (axis.unit, [tick.label for tick in axis.ticks]) == (unit, labels)
    assert axis.scale.at(end_s) == 100.0


def test_time_axis_of_no_time_is_one_second_long() -> None:
    assert time_axis(0.0, 0.0, 100.0).scale.high == 1.0


def test_si_axis_labels_all_ticks_with_one_prefix() -> None:
    axis = si_axis(1.23e12, "OPS", 200.0, 0.0)
    assert axis.unit == "TOPS"
    assert [tick.label for tick in axis.ticks] == ["0.0", "0.5", "1.0", "1.5"]
    assert [tick.at for tick in axis.ticks] == pytest.approx([200.0, 400 / 3, 200 / 3, 0.0])


def test_si_axis_of_zero_still_has_an_extent() -> None:
    axis = si_axis(0.0, "OPS", 200.0, 0.0)
    assert [(tick.at, tick.label) for tick in axis.ticks] == [(200.0, "0"), (0.0, "1")]


def test_percent_axis_covers_the_largest_fraction() -> None:
    axis = percent_axis(0.62, 200.0, 0.0)
    assert [tick.label for tick in axis.ticks] == ["0", "20", "40", "60", "80"]
    assert axis.scale.at(0.4) == pytest.approx(100.0)


def test_coordinates_are_rounded_and_short() -> None:
    assert [coordinate(value) for value in (12.0, 12.34, -0.01, 507.96)] == ["12", "12.3", "0", "508"]


def test_paths_connect_the_points() -> None:
    points = [(1.0, 9.0), (2.0, 5.5), (4.0, 5.0)]
    assert line_path(points) == "M1 9L2 5.5L4 5"
    assert area_path(points, 10.0) == "M1 9L2 5.5L4 5L4 10L1 10Z"
    assert step_path(points) == "M1 9H2V5.5H4V5"


def test_paths_of_no_points_are_empty() -> None:
    assert [line_path([]), area_path([], 10.0), step_path([]), dots_path([])] == ["", "", "", ""]


def test_dots_on_one_place_are_drawn_once() -> None:
    assert dots_path([(1.0, 2.0), (3.0, 4.0), (1.01, 2.04)]) == "M1 2h0M3 4h0"


def test_stacked_parts_lie_side_by_side() -> None:
    assert stacked([0.5, 0.0, 0.25, 0.25], 1000.0) == (
        (0.0, 500.0),
        (500.0, 0.0),
        (500.0, 250.0),
        (750.0, 250.0),
    )


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.08, 0.25, ["7", "10", "15", "20", "30"]),
        (0.1, 0.2, ["10", "15", "20"]),
        (0.1, 0.1, ["10", "15"]),
        (0.99, 1.0, ["70", "100"]),
        (0.0001, 0.0002, ["0.01", "0.015", "0.02"]),
    ],
)
def test_logarithmic_axis_lies_between_round_values(low: float, high: float, labels: list[str]) -> None:
    axis = log_percent_axis(low, high, 200.0, 100.0)
    assert [tick.label for tick in axis.ticks] == labels
    assert [axis.ticks[0].at, axis.ticks[-1].at] == pytest.approx([200.0, 100.0])


def test_equal_ratios_are_equal_lengths_on_a_logarithmic_axis() -> None:
    scale = log_percent_axis(0.1, 0.3, 0.0, 90.0).scale
    places = [scale.at(math.log(error)) for error in (0.1, 0.15, 0.225)]
    assert places[2] - places[1] == pytest.approx(places[1] - places[0])


def test_surface_between_two_lines_is_closed() -> None:
    assert between_path([(0, 1), (2, 3)], [(0, 5), (2, 6)]) == "M0 1L2 3L2 6L0 5Z"
    assert between_path([], []) == ""


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (0.22, 0.34, ["22", "24", "26", "28", "30", "32", "34"]),
        (0.003, 0.5, ["0.3", "0.5", "0.7", "1", "1.5", "2", "3", "5", "7", "10", "15", "20", "30", "50"]),
        (0.9, 1.0, ["90", "92", "94", "96", "98", "100"]),
        (0.1, 0.1, ["9", "10", "11", "12"]),
        (1.0, 1.0, ["85", "90", "95", "100"]),
    ],
)
def test_error_axis_has_round_ticks_between_its_ends(low: float, high: float, labels: list[str]) -> None:
    axis = error_axis(low, high, 400.0, 100.0)
    assert [tick.label for tick in axis.ticks] == labels
    assert 400.0 >= axis.scale.at(math.log(low)) >= axis.scale.at(math.log(high)) >= 100.0
    assert all(400.0 >= tick.at >= 100.0 for tick in axis.ticks)


def test_error_axis_is_logarithmic() -> None:
    axis = error_axis(0.01, 0.64, 0.0, 110.0)
    # 5 % of the range on either side: six doublings in 100 of 110 units.
    assert [axis.scale.at(math.log(error)) for error in (0.01, 0.08, 0.64)] == pytest.approx(
        [5.0, 55.0, 105.0]
    )


def test_accuracy_axis_grows_while_the_error_falls() -> None:
    axis = accuracy_axis(0.003, 0.5, 0.0, 300.0)
    assert [tick.label for tick in axis.ticks[:2]] == ["50", "70"]
    assert [tick.label for tick in axis.ticks[-2:]] == ["99.5", "99.7"]
    places = [tick.at for tick in axis.ticks]
    assert places == sorted(places)
    assert axis.scale.at(math.log(0.5)) < axis.scale.at(math.log(0.003))


def test_spaced_ticks_keep_their_distance() -> None:
    ticks = tuple(Tick(at, f"{at:g}") for at in (100.0, 90.0, 79.0, 75.0, 50.0))
    axis = Axis(Scale(0.0, 1.0, 100.0, 0.0), ticks, "%")
    assert [tick.label for tick in spaced(axis, 20.0).ticks] == ["100", "79", "50"]
