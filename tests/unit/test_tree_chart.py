import itertools
import math
import random
import re

import msgspec
import pytest
from support.runs import RunBuilder

from aibench.api.events import Lineage, Outcome
from aibench.score.history import RunHistory
from aibench.score.lineage import Network
from aibench.score.plot import Point
from aibench.score.prediction_chart import prediction_chart
from aibench.score.report import Report, build_report
from aibench.score.tree_chart import BOX, TreeChart, dot_size, place_dots, tree_chart


def make_networks(number: int, seed: int = 1) -> list[Network]:
    """A tree whose nodes hang from random earlier ones; the first ten are the line of the best."""
    rng = random.Random(seed)
    return [
        Network(
            architecture_hash=str(n),
            trials=(n + 1,),
            error=0.5,
            is_completed=True,
            origin="random",
            parent=str(n - 1 if n < 10 else rng.randrange(n)) if n else None,
            untrained_parent=None,
            morphs=(),
            generation=0,
            is_on_best_line=n < 10,
            claimed_s=0.0,
            parameters=1,
            train_ops=1,
            ops_ratio=1.0,
        )
        for n in range(number)
    ]


def crowded(networks: list[Network]) -> dict[str, Point]:
    """A third of the nodes wants one place, a third one height, the rest stands anywhere, time going on."""
    rng = random.Random(2)
    width, height = BOX.right - BOX.left, BOX.bottom - BOX.top
    places = {}
    for n, network in enumerate(networks):
        x = BOX.left + width * n / len(networks)
        y = BOX.top + height * rng.random()
        kind = n % 3
        places[network.architecture_hash] = ((x, y), (x, BOX.bottom), (BOX.left + width / 2, BOX.top))[kind]
    return places


@pytest.mark.parametrize("number", [1, 2, 15, 120, 700, 2000])
def test_no_two_dots_overlap_and_children_stand_right_of_their_parents(number: int) -> None:
    networks, size = make_networks(number), dot_size(number)
    places = place_dots(networks, crowded(networks), size)
    cells = {
        (round((x - BOX.left) / size - 0.5), round((y - BOX.top) / size - 0.5)) for x, y in places.values()
    }
    assert len(cells) == len(places) == number
    for network in networks:
        if network.parent is not None:
            assert places[network.parent][0] <= places[network.architecture_hash][0]
    for x, y in places.values():
        assert BOX.left <= x <= BOX.right
        assert BOX.top <= y <= BOX.bottom


def test_cells_of_two_dots_are_a_dot_apart() -> None:
    networks = make_networks(60)
    places = place_dots(networks, {n.architecture_hash: (500.0, 200.0) for n in networks}, 10.0)
    nearest = min(math.dist(first, second) for first, second in itertools.combinations(places.values(), 2))
    assert nearest == pytest.approx(10.0)


def test_a_dot_alone_stands_where_it_belongs_and_crowds_spread_sideways() -> None:
    networks = make_networks(13)
    wanted = {n.architecture_hash: (53.0 + 70 * place, 39.0) for place, n in enumerate(networks)}
    wanted |= {str(n): (753.0, 239.0) for n in (10, 11, 12)}
    places = place_dots([*networks[:10], *networks[10:]], wanted, 10.0)
    assert [places[str(n)] for n in range(10)] == [(53.0 + 70 * n, 39.0) for n in range(10)]
    assert {places[str(n)] for n in (10, 11, 12)} == {(743.0, 239.0), (753.0, 239.0), (763.0, 239.0)}


def test_more_dots_than_cells_are_placed_all_the_same() -> None:
    networks = make_networks(30)
    places = place_dots(networks, {n.architecture_hash: (60.0, 60.0) for n in networks}, 300.0)
    assert len(places) == 30


def searched_run() -> RunBuilder:
    builder = RunBuilder().start().join().barrier()
    builder.claim(t_s=0.0, architecture_hash="a").epoch(1, correct=60, t_s=100.0).close(1)
    child = Lineage(origin="evolution", parent="a", morphs=("widen@3:x2",))
    builder.claim(architecture_hash="b", lineage=child).epoch(2, correct=90, t_s=200.0).close(2)
    other = msgspec.structs.replace(child, origin="alien")
    builder.claim(architecture_hash="c", lineage=other, epochs=2).epoch(3, correct=80, t_s=300.0)
    builder.close(3, Outcome.INTERRUPTED)
    return builder.claim(architecture_hash="d", lineage=child).close(4, Outcome.FAILED)


def report_of(builder: RunBuilder) -> Report:
    return build_report(RunHistory.of(builder.records))


def drawn(report: Report) -> TreeChart:
    chart = tree_chart(report)
    assert chart is not None
    return chart


def test_dots_tell_their_network() -> None:
    chart = drawn(report_of(searched_run()))
    assert [(dot.origin, dot.is_completed, dot.is_on_best_line) for dot in chart.dots] == [
        ("initial", True, True),
        ("evolution", True, True),
        ("other", False, False),
    ]
    assert [dot.text for dot in chart.dots] == [
        "trial 1: error 40.00 %, 1.00 × the operations of trial 1; initial: the initial network",
        "trial 2: error 10.00 %, 1.00 × the operations of trial 1; "
        "evolution from trial 1: widened ×2 at node 3",
        "trial 3, cut short: error 20.00 %, 1.00 × the operations of trial 1; "
        "alien from trial 1: widened ×2 at node 3",
    ]
    assert chart.origins == {"initial": 1, "evolution": 1, "other": 1}
    assert (chart.num_cut, chart.num_hidden) == (1, 1)


def test_dots_stand_at_their_time_and_error() -> None:
    chart = drawn(report_of(searched_run()))
    for dot, t_s, error in zip(chart.dots, (0.0, 100.0, 200.0), (0.4, 0.1, 0.2), strict=True):
        assert abs(dot.x - chart.x.scale.at(t_s)) <= chart.radius / 0.9
        assert abs(dot.y - chart.y.scale.at(math.log(error))) <= chart.radius / 0.9


def test_edges_join_parents_and_children_and_the_best_line_has_its_own() -> None:
    chart = drawn(report_of(searched_run()))
    first, second, third = ((f"{dot.x:g}", f"{dot.y:g}") for dot in chart.dots)
    assert re.findall(r"[^MC ]+", chart.best_edges)[:2] == list(first)
    assert re.findall(r"[^MC ]+", chart.best_edges)[-2:] == list(second)
    assert re.findall(r"[^MC ]+", chart.edges)[-2:] == list(third)
    assert chart.best_edges.count("M") == chart.edges.count("M") == 1


def test_the_summary_names_the_line_of_the_best() -> None:
    assert drawn(report_of(searched_run())).summary == (
        "Tree of 3 networks over 5 min 00 s, errors from 40.00 % to 10.00 %. "
        "The line of the best has 2 networks: trials 1, 2."
    )
    assert [label.text for label in drawn(report_of(searched_run())).labels] == [
        "trial 2, 10.00 %",
        "trial 1",
    ]


def test_labels_keep_clear_of_each_other() -> None:
    builder = RunBuilder().start().join().barrier()
    for trial in range(1, 100):
        lineage = (
            Lineage(origin="evolution", parent=f"{trial - 1}") if trial > 1 else Lineage(origin="initial")
        )
        builder.claim(architecture_hash=f"{trial}", lineage=lineage)
        builder.epoch(trial, correct=trial, t_s=10.0 * trial).close(trial)
    labels = drawn(report_of(builder)).labels
    assert labels[0].text == "trial 99, 1.00 %"
    assert 5 <= len(labels) <= 14
    assert all(first.x - second.x >= 70.0 for first, second in itertools.pairwise(labels))


def test_a_perfect_network_is_drawn_at_the_floor() -> None:
    builder = RunBuilder().start().join().barrier().claim(t_s=0.0).epoch(correct=100, t_s=10.0).close()
    chart = drawn(report_of(builder))
    assert BOX.top <= chart.dots[0].y <= BOX.bottom
    assert chart.dots[0].text.startswith("trial 1: error 0.00 %")


def test_nothing_is_drawn_before_the_first_epoch() -> None:
    report = report_of(RunBuilder().start().join().barrier().claim(t_s=0.0))
    assert tree_chart(report) is None
    assert prediction_chart(report) is None


def test_a_hostile_morph_is_cut_in_tooltips() -> None:
    builder = searched_run().claim(
        architecture_hash="e", lineage=Lineage(origin="worker", parent="a", morphs=("x" * 10_000,))
    )
    chart = drawn(report_of(builder.epoch(5, t_s=400.0)))
    assert chart.dots[-1].text.endswith("x…")
    assert len(chart.dots[-1].text) < 300


def test_predictions_are_drawn_by_accuracy_with_the_diagonal_between_equal_axes() -> None:
    builder = RunBuilder().start().join().barrier()
    builder.claim(epochs=2, lineage=Lineage(origin="network_morphism", predicted_error=0.1), t_s=0.0)
    builder.epoch(1, correct=50, predicted_error=0.4, t_s=5.0).epoch(1, correct=90, t_s=10.0).close(1)
    chart = prediction_chart(report_of(builder))
    assert chart is not None
    search, curve = chart.series
    assert [mark.text for mark in search.marks] == ["trial 1: 90.00 % predicted, 90.00 % achieved"]
    assert [mark.text for mark in curve.marks] == ["trial 1: 60.00 % predicted, 90.00 % achieved"]
    assert float(curve.marks[0].x) < float(search.marks[0].x)
    assert curve.marks[0].y == search.marks[0].y
    across = (float(search.marks[0].x) - 52.0) / (508.0 - 52.0)
    assert (388.0 - float(search.marks[0].y)) / (388.0 - 34.0) == pytest.approx(across, abs=1e-3)
    assert chart.summary == (
        "Predicted against achieved accuracy. By the search, before training: too few to judge (1 completed "
        "trial). By the learning curve, halfway: too few to judge (1 completed trial)."
    )
