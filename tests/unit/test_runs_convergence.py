from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.runs import RunBuilder, write_journal

from aibench.api.events import Outcome
from aibench.cli import main
from aibench.convergence import lengths
from aibench.journal import Record
from aibench.score.convergence import render_convergence, runs_convergence, scores_at
from aibench.score.convergence_chart import ConvergenceLine, convergence_charts, length_axis
from aibench.score.plot import signed_percent_axis

PLACES = re.compile(r"[ML](\S+) ([^ML]+)")


def steady_run(*, corrects: tuple[int, ...], step_s: float = 10.0, name: str = "run") -> tuple[Record, ...]:
    """One trial; an epoch every ``step_s``, so many of 100 images right after each; a start at 5 s."""
    builder = RunBuilder().start(run=name).join().barrier().claim(t_s=5.0, epochs=len(corrects))
    for place, correct in enumerate(corrects, start=1):
        builder.epoch(t_s=5.0 + step_s * place, correct=correct)
    return builder.close().end()


def write_run(folder: Path, records: tuple[Record, ...]) -> str:
    folder.mkdir()
    write_journal(folder / "journal.jsonl", records)
    return str(folder)


def score(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["score", *arguments], prog_name="aibench")


def test_scores_are_those_of_the_run_cut_off_then() -> None:
    records = steady_run(corrects=(50, 75, 75, 75))
    alone = scores_at(steady_run(corrects=(50,)), [10.0])[0]
    assert alone is not None
    first, before_second, second = scores_at(records, [10.0, 19.9, 20.0])
    assert first == before_second == alone
    assert second == pytest.approx(alone * math.log(0.25) / math.log(0.5))


def test_before_the_first_epoch_there_is_no_score() -> None:
    assert scores_at(steady_run(corrects=(50,)), [2.0, 9.9]) == (None, None)
    assert scores_at(RunBuilder().start().join().barrier().end(), [1.0]) == (None,)


def test_a_trial_that_failed_later_counts_before() -> None:
    builder = RunBuilder().start().join().barrier().claim(t_s=0.0, epochs=2).epoch(t_s=10.0)
    records = builder.close(outcome=Outcome.FAILED, t_s=15.0, reason="loss").end(t_s=20.0)
    before, after = scores_at(records, [12.0, 20.0])
    assert before is not None
    assert after is None


def test_times_after_the_end_have_the_final_score() -> None:
    at_end, later = scores_at(steady_run(corrects=(50, 60)), [20.0, 500.0])
    assert at_end == later


def test_runs_are_combined_by_length() -> None:
    found = runs_convergence(["a", "b"], [[1, 1, 2, 2, 4, 4], [1, 1, 2, 4, 4, 4]], 320.0)
    assert [p.length for p in found.points] == [20.0, 40.0, 80.0, 160.0, 320.0]
    assert found.points[2].spread == pytest.approx(2**0.5 / 3)
    assert [p.slope for p in found.points] == pytest.approx([0.0, 1.0, 0.5, 1 / 3, 0.0])
    assert found.sentence == (
        "From 20.0 s to 5 min 20 s the spread between runs stayed at 0.0 %; the slope per doubling stayed at "
        "+0.0 %."
    )


def test_several_runs_of_one_configuration_show_how_their_score_converges(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / name, steady_run(corrects=(50, 60, correct, 80) * 8, name=name))
        for name, correct in (("a", 70), ("b", 90))
    ]
    page = tmp_path / "convergence.html"
    done = score(*runs, "--out", str(page))
    assert done.exit_code == 0, done.output
    assert "Normalized score by length" in done.stdout
    assert "From 20.0 s to 5 min 20 s the spread between runs" in " ".join(done.stdout.split())
    assert "Estimated from 2 runs, a spread is itself uncertain by about 71 % of its value." in done.stdout
    text = page.read_text(encoding="utf-8")
    assert "From 20.0 s to 5 min 20 s the spread between runs" in text
    assert text.count('class="mean"') == 3
    document = json.loads(score(*runs, "--json").stdout)
    assert [p["length"] for p in document["convergence"]["points"]] == [20.0, 40.0, 80.0, 160.0, 320.0]


def test_one_run_has_no_convergence(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a", steady_run(corrects=(50,) * 40))
    assert json.loads(score(run, "--json").stdout)["convergence"] is None
    done = score(run, "--out", str(tmp_path / "x.html"))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == (
        "aibench: --out draws several valid runs of one configuration; here is no common mean: one run "
        "(see aibench score --help)\n"
    )
    assert not (tmp_path / "x.html").exists()


def test_one_run_given_twice_is_not_two_runs(tmp_path: Path) -> None:
    records = steady_run(corrects=(50,) * 40)
    runs = [write_run(tmp_path / name, records) for name in ("run", "copy")]
    document = json.loads(score(*runs, "--json").stdout)
    assert document["no_summary_because"] == "run is given twice"
    assert (document["summary"], document["convergence"]) == (None, None)


def test_a_page_that_cannot_be_written_gets_one_line(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, steady_run(corrects=(50,) * 40, name=name)) for name in "ab"]
    target = tmp_path / "absent" / "x.html"
    done = score(*runs, "--out", str(target))
    assert done.exit_code == 2
    assert done.stderr == f"aibench: {target}: cannot be written (No such file or directory)\n"


def test_texts_on_the_page_are_escaped() -> None:
    convergence = runs_convergence(["<img src=x>", "b"], [[1] * 6, [1] * 6], 10.0)
    page = render_convergence(convergence, aibench_version="0")
    assert "<img" not in page
    assert "&lt;img" in page


def test_everything_is_drawn_inside_the_box() -> None:
    scores = [[4.0, 5.0, 3.0, 9.0, 1.0, 2.0], [1.0, 5.5, 3.0, 4.0, 8.0, 3.0]]
    points = runs_convergence(["a", "b"], scores, 7.0).points
    found = convergence_charts([ConvergenceLine(name="x", points=points)], 7.0, length_text=str)
    for chart in found.charts:
        places = PLACES.findall(chart.series[0].path)
        assert len(places) == 5
        for x, y in places:
            assert found.box.left <= float(x) <= found.box.right
            assert found.box.top <= float(y) <= found.box.bottom
        assert found.box.top <= chart.zero <= found.box.bottom


def test_a_chart_without_any_length_renders() -> None:
    found = convergence_charts([ConvergenceLine(name="x", points=())], 7.0, length_text=str)
    assert [chart.summary for chart in found.charts] == [
        "Spread: not known.",
        "Slope per doubling of the length: not known.",
    ]


def test_lengths_stand_at_equal_distances() -> None:
    axis = length_axis(64.0)
    assert [tick.label for tick in axis.ticks] == ["1/16", "1/8", "1/4", "1/2", "1"]
    gaps = [b.at - a.at for a, b in zip(axis.ticks, axis.ticks[1:], strict=False)]
    assert gaps == pytest.approx([115.0] * 4)
    assert len(lengths(64.0)) == 6


@pytest.mark.parametrize(
    ("low", "high", "labels"),
    [
        (-0.021, 0.04, ["-4", "-2", "0", "2", "4"]),
        (0.01, 0.04, ["0", "1", "2", "3", "4"]),
        (-0.3, -0.1, ["-30", "-20", "-10", "0"]),
        (0.0, 0.0, ["0", "1"]),
    ],
)
def test_a_signed_axis_covers_0_and_everything(low: float, high: float, labels: list[str]) -> None:
    axis = signed_percent_axis(low, high, 100.0, 0.0)
    assert [tick.label for tick in axis.ticks] == labels
    assert axis.scale.low <= low <= high <= axis.scale.high
