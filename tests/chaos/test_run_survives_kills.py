"""A short local run whose master, workers and ranks are killed again and again.

``pytest -m chaos tests/chaos --kills 100 --seed 7`` repeats a schedule; a failure prints its own.
"""

import json
import signal
from collections.abc import Callable
from typing import Any

import pytest
from support.journal_checks import last_incarnations, missing_acknowledged, num_acknowledged, problems
from support.kill_schedule import Kill, Target, draw_ending, draw_schedule
from support.real_run import Run
from support.storm import Storm

RANKS = {"w0": 2, "w1": 1}
CHANGES: dict[str, Any] = {
    "workers": [{"count": 1, "ranks": n, "device": "cpu", "oversubscribe": True} for n in RANKS.values()],
    "limits": {"measured_time_s": 36000},
    "epochs": {"warmup": [3], "full": 6},
}

pytestmark = pytest.mark.chaos


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    return int(request.config.getoption("--seed"))


@pytest.fixture
def schedule(request: pytest.FixtureRequest, seed: int) -> tuple[Kill, ...]:
    return draw_schedule(seed, int(request.config.getoption("--kills")), RANKS)


def test_no_kill_costs_a_finished_epoch_or_counts_one_twice(
    make_run: Callable[..., Run], aibench: Callable[..., Any], schedule: tuple[Kill, ...], seed: int
) -> None:
    storm = Storm(make_run(**CHANGES))
    try:
        storm.ride(schedule)
        storm.recover(tuple(RANKS))
        status, output = storm.end(draw_ending(seed, RANKS))
        check(storm, schedule, aibench)
        assert status in (0, 128 + signal.SIGTERM), output
    except BaseException as error:
        error.add_note(story(storm, schedule, seed))
        raise


def check(storm: Storm, schedule: tuple[Kill, ...], aibench: Callable[..., Any]) -> None:
    run = storm.run
    assert run.left_over_processes() == []
    journal = (run.root / "journal.jsonl").read_bytes()
    assert problems(journal, storm.snapshots) == []
    assert num_acknowledged(run.root / "workers") > 0
    assert missing_acknowledged(journal, run.root / "workers") == []
    check_new_lives(storm, schedule, journal)
    verified = aibench("verify", run.root)
    assert verified.returncode == 0, verified.stdout + verified.stderr
    scored = json.loads(aibench("score", "--json", run.root).stdout)
    assert scored["runs"][0]["score"] == json.loads((run.root / "report.json").read_text())["score"]


def check_new_lives(storm: Storm, schedule: tuple[Kill, ...], journal: bytes) -> None:
    """A worker that was hit goes on under a new incarnation."""
    final = last_incarnations(journal)
    for number, (kill, snapshot) in enumerate(zip(schedule, storm.snapshots, strict=True), start=1):
        before = last_incarnations(snapshot)
        for victim in (*kill.victims, *kill.meanwhile):
            if victim.worker in before and victim.target is not Target.PROPOSER:
                assert final[victim.worker] != before[victim.worker], f"{victim} outlived kill {number}"


def story(storm: Storm, schedule: tuple[Kill, ...], seed: int) -> str:
    plan = [f"  {number}: {kill}" for number, kill in enumerate(schedule, start=1)]
    plan.append(f"  end: {draw_ending(seed, RANKS)}")
    return "\n".join(
        [
            f"Schedule of seed {seed}:",
            *plan,
            "What happened:",
            *(f"  {line}" for line in storm.log),
            f"Again: python -m pytest -m chaos tests/chaos --kills {len(schedule)} --seed {seed}",
        ]
    )
