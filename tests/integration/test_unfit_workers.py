"""Workers that may take no part, and engines that refuse or do not answer."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from aibench import __version__

LAUNCHER = str(Path(__file__).parents[1] / "data" / "odd_launcher")


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [LAUNCHER, *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))


@pytest.mark.parametrize(
    ("options", "problem", "mend"),
    [
        (
            {"version": "0.0.7"},
            f" runs aibench 0.0.7, the master {__version__}; ",
            "install the same release on all nodes",
        ),
        ({"skew_s": 30.0}, " s ahead; expected at most 2 s, ", "synchronise the nodes' clocks"),
        ({"refused": "no such partition"}, " cannot be placed: no such partition", "no worker is left"),
    ],
)
def test_the_run_ends_with_the_reason_before_it_began(
    make_run: Callable[..., Any], options: dict[str, Any], problem: str, mend: str
) -> None:
    run = make_run(launcher={"name": "odd", **options})
    run.start()
    status, output = run.finish()
    (ended,) = run.events("run_ended")
    assert status == 1, output
    assert problem in ended["detail"]
    assert mend in ended["detail"]
    assert any(line.startswith("aibench: ") and problem in line for line in output.splitlines()), (
        "the reason stands in one line"
    )
    assert "Traceback" not in output
    assert run.events("worker_joined") == []
    assert run.left_over_processes() == []


def test_an_engine_that_does_not_answer_costs_nothing_while_workers_are_heard(
    make_run: Callable[..., Any],
) -> None:
    run = make_run(launcher={"name": "odd", "deaf": 4}, limits={"trials": 4})
    run.start()
    status, output = run.finish()
    assert status == 0, output
    assert "the engine does not answer (unanswered 3 times in a row)" in output
