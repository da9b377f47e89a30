from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner, Result

from aibench.cli import main
from aibench.cli.compare import DEFAULT_BUDGET_TRIALS
from aibench.comparison_html import BOX, race_chart, render_comparison
from aibench.search.comparison import Course, Improvement, algorithm_names
from aibench.search.comparison_summary import Comparison, Conditions, summarize

COORDINATES = re.compile(r"[ML](\S+) ([^MLZ]+)")


def compare(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["compare-search", *arguments], prog_name="aibench")


def make_comparison(*, name: str = "test", num_algorithms: int = 3, num_seeds: int = 2) -> Comparison:
    """Errors that fall with the algorithm's number and differ by seed."""
    conditions = Conditions(
        name=name,
        aibench_version="0",
        rules_version="rules",
        evaluator="made up",
        on="landscape",
        least_error=0.01,
        initial_architecture="resnet18",
        architecture_hash="0" * 64,
        budget_ops=10**12,
        trial_epochs=2,
        num_workers=8,
        seeds=tuple(range(num_seeds)),
        config={"name": name},
    )
    courses = [
        Course(
            algorithm=f"{name}-{number}",
            seed=seed,
            num_trials=2,
            spent_ops=10**12,
            improvements=(
                Improvement(ops=10**11 + seed, error=0.9),
                Improvement(ops=5 * 10**11, error=seed / 100 / (number + 1)),
            ),
        )
        for seed in range(num_seeds)
        for number in range(num_algorithms)
    ]
    return summarize(conditions, courses)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, Path]:
    out = tmp_path_factory.mktemp("comparisons") / "first"
    return compare(
        "smoke", "--algorithms", "none,random", "--seeds", "2", "--budget", "4e11", "--out", str(out)
    ), out


def test_result_is_printed_and_written(written: tuple[Result, Path]) -> None:
    done, out = written
    assert done.exit_code == 0, done.output
    assert done.stderr == ""
    comparison = msgspec.json.decode((out / "comparison.json").read_bytes(), type=Comparison)
    assert comparison.format == "aibench-comparison/1"
    assert comparison.conditions.budget_ops == 400_000_000_000
    assert comparison.conditions.seeds == (1, 2)
    assert {algorithm.algorithm for algorithm in comparison.algorithms} == {"none", "random"}
    assert len(comparison.courses) == 4
    printed = " ".join(done.stdout.split())
    for text in (*(pair.sentence for pair in comparison.pairs), comparison.remark, "test landscape"):
        assert text in printed
    assert comparison.algorithms[0].convergence_sentence in printed
    assert comparison.convergence_remark in printed
    assert sorted(path.name for path in out.iterdir()) == ["comparison.html", "comparison.json"]


def test_page_says_the_same_and_loads_nothing(written: tuple[Result, Path]) -> None:
    _, out = written
    comparison = msgspec.json.decode((out / "comparison.json").read_bytes(), type=Comparison)
    page = (out / "comparison.html").read_text(encoding="utf-8")
    assert comparison.pairs[0].sentence in page
    assert comparison.remark in page
    assert "not significant" in page
    assert comparison.algorithms[0].convergence_sentence in page
    assert "test landscape" in page
    for address in ("http://", "https://", "url(", "@import", " src=", "<link"):
        assert address not in page


def test_same_command_writes_the_same_comparison(written: tuple[Result, Path], tmp_path: Path) -> None:
    _, out = written
    again = tmp_path / "again"
    compare("smoke", "--algorithms", "none,random", "--seeds", "2", "--budget", "4e11", "--out", str(again))
    for name in ("comparison.json", "comparison.html"):
        assert (again / name).read_bytes() == (out / name).read_bytes()


def test_everything_has_a_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(DEFAULT_BUDGET_TRIALS, "landscape", 5)
    done = compare("smoke", "--seeds", "2")
    assert done.exit_code == 0, done.output
    (folder,) = (tmp_path / "comparisons").iterdir()
    assert re.fullmatch(r"smoke-\d{8}-\d{6}", folder.name)
    comparison = msgspec.json.decode((folder / "comparison.json").read_bytes(), type=Comparison)
    assert {algorithm.algorithm for algorithm in comparison.algorithms} == set(algorithm_names())


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (
            ["--algorithms", "randm,none"],
            f"Invalid value for --algorithms: 'randm' is unknown; did you mean 'random'? expected some of "
            f"{', '.join(algorithm_names())} (see aibench compare-search --help)",
        ),
        (
            ["--algorithms", ""],
            f"Invalid value for --algorithms: '' is unknown; expected some of "
            f"{', '.join(algorithm_names())} (see aibench compare-search --help)",
        ),
        (
            ["--algorithms", "none, none"],
            "Invalid value for --algorithms: 'none' is given twice (see aibench compare-search --help)",
        ),
        (
            ["--seeds", "1"],
            "Invalid value for '--seeds': 1 is not in the range x>=2. (see aibench compare-search --help)",
        ),
        (
            ["--on", "moon"],
            "Invalid value for '--on': 'moon' is not one of 'landscape', 'workload'. "
            "(see aibench compare-search --help)",
        ),
        (
            ["--on", "workload", "--jobs", "0"],
            "Invalid value for '--jobs': 0 is not in the range x>=1. (see aibench compare-search --help)",
        ),
        (
            ["--jobs", "2"],
            "Invalid value for --jobs: 2: nothing is trained on the landscape; expected 1, or --on workload "
            "(see aibench compare-search --help)",
        ),
        (
            ["--on", "workload", "--set", "division=open", "--set", "search.inherit_weights=true"],
            "search: weights are inherited (search.inherit_weights); expected off: a comparison trains every "
            "trial whole and from scratch",
        ),
        (["--set", "epochs.ful=1"], "epochs.ful: unknown key (did you mean 'full'?)"),
        *(
            (
                ["--budget", budget],
                f"Invalid value for --budget: '{budget}': expected a number of operations above 0, such as "
                "5e12 (see aibench compare-search --help)",
            )
            for budget in ("much", "0", "-5", "nan", "inf")
        ),
    ],
)
def test_bad_input_gets_one_line_and_writes_nothing(
    arguments: list[str], line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = compare("smoke", *arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"aibench: {line}\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("on", ["landscape", "workload"])
@pytest.mark.parametrize("budget", ["1e6", "0.5"])
def test_budget_below_one_trial_is_refused(budget: str, on: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = compare("smoke", "--on", on, "--seeds", "2", "--budget", budget, "--out", str(out))
    assert (done.exit_code, done.stdout) == (2, "")
    problem = f"{int(float(budget)):,} operations do not last for one trial; expected at least"
    assert re.fullmatch(rf"aibench: --budget: {problem} [\d,]+\n", done.stderr)
    assert not out.exists()


def test_occupied_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("keep")
    done = compare("smoke", "--seeds", "2", "--budget", "4e11", "--out", str(tmp_path))
    assert done.exit_code == 2
    assert done.stderr == f"aibench: {tmp_path}: is not empty; expected a new or empty folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_everything_is_drawn_inside_the_view_box() -> None:
    chart = race_chart(make_comparison().algorithms)
    places = [place for series in chart.series for place in COORDINATES.findall(series.line + series.band)]
    assert len(places) == 3 * 3 * 101
    for x, y in places:
        assert BOX.left <= float(x) <= BOX.right
        assert BOX.top <= float(y) <= BOX.bottom


def test_more_algorithms_than_colours_and_an_error_of_0_render() -> None:
    page = render_comparison(make_comparison(num_algorithms=8))
    # A key and a line on each of the three charts; two charts share their keys.
    assert page.count('class="mean"') == 2 * 8 + 3 * 8


def test_texts_on_the_page_are_escaped() -> None:
    page = render_comparison(make_comparison(name="<img src=x onerror=alert(1)>"))
    assert "<img" not in page
    assert "&lt;img" in page


def test_ctrl_c_before_anything_is_known_leaves_no_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("aibench.search.comparison.run_courses", interrupted)
    result = compare("smoke", "--seeds", "2", "--out", str(tmp_path / "out"))
    assert (result.exit_code, result.stderr) == (130, "aibench: interrupted\n")
    assert not (tmp_path / "out").exists()
