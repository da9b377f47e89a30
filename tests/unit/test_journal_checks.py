from collections.abc import Callable
from pathlib import Path

import pytest
from support.journal_checks import missing_acknowledged, num_acknowledged, problems
from support.runs import RunBuilder, journal_lines

from aibench.api.events import Outcome
from aibench.journal import Record


def begun() -> RunBuilder:
    return RunBuilder().start().join().barrier().claim(epochs=2).epoch(t_s=1)


def sound() -> tuple[Record, ...]:
    builder = begun().epoch(t_s=2).close().claim().close(2, Outcome.LOST).lose()
    return builder.join(incarnation="b").claim().epoch(3).close(3).end()


def journal(records: tuple[Record, ...]) -> bytes:
    return b"".join(journal_lines(records))


def test_a_sound_journal_has_no_problems_wherever_it_was_looked_at_before() -> None:
    lines = journal_lines(sound())
    snapshots = [b"".join(lines[:number]) + b'{"half' for number in range(len(lines))]
    assert problems(b"".join(lines), snapshots) == []


@pytest.mark.parametrize(
    ("build", "problem"),
    [
        (lambda: begun().epoch(t_s=2).close().claim().end(), "trial 2 was never closed"),
        (
            lambda: begun().epoch().epoch().close().epoch().end(),
            "epoch_finished of trial 1, which is not open",
        ),
        (lambda: begun().epoch().close().close().end(), "trial_closed of trial 1, which is not open"),
        (lambda: begun().close().end(), "completed with 1 of 2 epochs"),
        (
            lambda: begun().close(outcome=Outcome.FAILED, reason="odd").end(),
            "failed, though only kills happened",
        ),
        (lambda: begun().epoch(epoch=1).close().end(), "not epoch 2 of trial 1"),
        (lambda: begun().epoch().close().claim(trial=3).close(3).end(), "trial 3 claimed where 2 is due"),
        (lambda: begun().lose().close(outcome=Outcome.LOST).end(), "worker_lost of w0 with trials [1] open"),
        (
            lambda: begun().join(incarnation="b").close(outcome=Outcome.LOST).end(),
            "worker_joined of w0 with trials [1] open",
        ),
        (
            lambda: begun().epoch().close().claim(incarnation="z").epoch(2).close(2).end(),
            "claimed by a life of w0 that is not the present one",
        ),
        (lambda: begun().epoch(t_s=0.5).close().end(), "time goes back"),
        (lambda: begun().epoch().close().records, "the last record is not the end of the run"),
    ],
)
def test_a_contradiction_is_told(build: Callable[[], tuple[Record, ...]], problem: str) -> None:
    found = problems(journal(build()), [])
    assert any(problem in told for told in found), found


def test_a_changed_line_and_a_removed_one_are_told() -> None:
    lines = journal_lines(sound())
    changed = [line.replace(b'"validation_correct":50', b'"validation_correct":51') for line in lines]
    assert "record 5 is not what was hashed" in problems(b"".join(changed), [])
    assert "record 3 does not follow the one before it" in problems(b"".join(lines[:2] + lines[3:]), [])


def test_what_was_there_at_a_kill_and_is_not_any_more_is_told() -> None:
    lines = journal_lines(sound())
    before = b"".join(lines[:4]) + lines[-1]
    assert problems(b"".join(lines), [before]) == ["the journal does not begin with what it was at kill 1"]


def test_what_a_worker_noted_as_recorded_is_looked_for(tmp_path: Path) -> None:
    log = tmp_path / "w0" / "output.log"
    log.parent.mkdir()
    log.write_text(
        "x INFO y: trial 1: the master has recorded epoch 2\n"
        "x INFO y: trial 1: the master has recorded it as completed\n"
    )
    assert num_acknowledged(tmp_path) == 2
    assert missing_acknowledged(journal(sound()), tmp_path) == []
    early = journal(begun().close(outcome=Outcome.LOST).end())
    assert missing_acknowledged(early, tmp_path) == [
        "w0: epoch 2 of trial 1 was acknowledged, is not there",
        "w0: trial 1 was acknowledged as completed, is lost",
    ]
