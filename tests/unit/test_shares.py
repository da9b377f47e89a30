from __future__ import annotations

import pytest
from support.runs import RunBuilder, times

from aibench.api.events import Outcome
from aibench.score.history import RunHistory
from aibench.score.shares import Share, TimeShares, total_shares, worker_shares


def parts_of(builder: RunBuilder) -> dict[str, TimeShares]:
    return worker_shares(RunHistory.of(builder.records))


def seconds(shares: TimeShares) -> dict[str, float]:
    """Only what is not empty."""
    return {share.value: spent_s for share, spent_s in shares.seconds.items() if spent_s}


def one_worker(ranks: int = 1) -> RunBuilder:
    return RunBuilder().start().join("w0", ranks=ranks, t_s=5.0).barrier()


def test_every_second_of_a_trial_is_booked_to_what_it_was_spent_on() -> None:
    builder = one_worker().claim(epochs=2, t_s=10.0)
    rank = times(50.0, startup_s=20.0, data_wait_s=5.0, communication_s=4.0, validation_s=6.0)
    builder.epoch(ranks=[rank], search_wait_s=3.0, t_s=98.0)
    rank = times(70.0, data_wait_s=1.0, communication_s=2.0, validation_s=7.0)
    builder.epoch(ranks=[rank], t_s=180.0).close(t_s=180.0)
    (shares,) = parts_of(builder).values()
    # The window is 170 s; 88 s and 80 s of it are booked.
    assert seconds(shares) == {
        "startup": 20.0,
        "search_wait": 3.0,
        "compute": 120.0,
        "data_wait": 6.0,
        "communication": 6.0,
        "validation": 13.0,
        "idle": 2.0,
    }
    assert shares.fractions[Share.COMPUTE] == 120 / 170
    assert shares.overbooked_s == 0.0
    assert shares.first_startup_s == 20.0


def test_ranks_wait_for_the_search_together() -> None:
    builder = one_worker(ranks=4).claim(t_s=0.0 + 5.0)
    builder.epoch(ranks=[times(90.0)] * 4, search_wait_s=10.0, t_s=105.0)
    (shares,) = parts_of(builder).values()
    assert seconds(shares) == {"search_wait": 40.0, "compute": 360.0}


def test_ranks_that_are_ready_early_idle() -> None:
    builder = one_worker(ranks=2).claim(t_s=10.0).epoch(ranks=[times(90.0), times(60.0)], t_s=110.0)
    (shares,) = parts_of(builder).values()
    assert seconds(shares) == {"compute": 150.0, "idle": 50.0}


def test_startup_is_split_into_the_first_of_a_life_and_the_rest() -> None:
    builder = one_worker().claim(t_s=10.0)
    builder.epoch(1, ranks=[times(30.0, startup_s=20.0)], t_s=60.0).close(1)
    builder.claim().epoch(2, ranks=[times(48.0, startup_s=2.0)], t_s=110.0).close(2)
    builder.join(incarnation="b", t_s=110.0).claim()
    builder.epoch(3, ranks=[times(80.0, startup_s=20.0)], t_s=210.0)
    (shares,) = parts_of(builder).values()
    assert seconds(shares) == {"compute": 158.0, "startup": 42.0}
    assert shares.first_startup_s == 40.0
    # 158 s of the 160 s that are not first start-up are useful.
    assert shares.overhead == pytest.approx(2 / 160)


def test_what_the_end_of_the_run_cuts_off_is_unfinished() -> None:
    builder = one_worker(ranks=2).join("w1").claim("w0", epochs=2, t_s=10.0).claim("w1", t_s=10.0)
    builder.epoch(1, ranks=[times(50.0)] * 2, t_s=60.0).epoch(2, ranks=[times(100.0)], t_s=110.0)
    builder.close(2)
    builder.close(1, Outcome.INTERRUPTED, t_s=150.0).end()
    parts = parts_of(builder)
    # The window ends with the last finished epoch, at 110 s.
    assert seconds(parts["w0"]) == {"compute": 100.0, "unfinished": 100.0}
    assert seconds(parts["w1"]) == {"compute": 100.0}
    assert parts["w0"].overhead == 0.0


def test_an_open_trial_is_unfinished_so_far() -> None:
    builder = one_worker().join("w1").claim("w0", t_s=10.0).claim("w1", t_s=20.0)
    builder.epoch(2, ranks=[times(80.0)], t_s=100.0)
    parts = parts_of(builder)
    assert seconds(parts["w0"]) == {"unfinished": 90.0}
    assert seconds(parts["w1"]) == {"compute": 80.0, "idle": 10.0}


def test_a_failed_trial_is_lost_from_claim_to_close() -> None:
    builder = one_worker(ranks=2).claim(epochs=2, t_s=10.0)
    builder.epoch(1, ranks=[times(30.0)] * 2, search_wait_s=1.0, t_s=45.0)
    builder.close(1, Outcome.FAILED, t_s=50.0).claim(t_s=60.0)
    builder.epoch(2, ranks=[times(40.0)] * 2, t_s=100.0)
    (shares,) = parts_of(builder).values()
    assert seconds(shares) == {"lost": 80.0, "compute": 80.0, "idle": 20.0}


def test_a_lost_worker_loses_its_cut_off_epoch_and_its_absence() -> None:
    builder = one_worker(ranks=2).claim(epochs=2, t_s=10.0)
    builder.epoch(1, ranks=[times(40.0)] * 2, t_s=50.0)
    builder.close(1, Outcome.LOST, t_s=70.0).lose()
    builder.join(incarnation="b", ranks=2, t_s=100.0).claim(t_s=105.0)
    builder.epoch(2, ranks=[times(95.0)] * 2, t_s=200.0)
    (shares,) = parts_of(builder).values()
    # 50 to 70 s cut off, 70 to 100 s away, 5 s idle; times two ranks.
    assert seconds(shares) == {"compute": 270.0, "lost": 100.0, "idle": 10.0}


def test_a_worker_that_never_comes_back_is_lost_until_the_end_of_the_window() -> None:
    builder = one_worker().join("w1").claim("w1", t_s=10.0).lose("w0", t_s=40.0)
    builder.epoch(1, ranks=[times(100.0)], t_s=110.0)
    parts = parts_of(builder)
    assert seconds(parts["w0"]) == {"idle": 30.0, "lost": 70.0}


def test_losses_outside_the_window_do_not_count() -> None:
    builder = one_worker().join("w1").lose("w0", t_s=6.0).join("w0", incarnation="b", t_s=30.0)
    builder.lose("w0", t_s=40.0).join("w0", incarnation="c", t_s=50.0).claim("w1", t_s=45.0 + 5.0)
    builder.epoch(1, ranks=[times(100.0)], t_s=150.0).lose("w0", t_s=160.0)
    assert seconds(parts_of(builder)["w0"]) == {"idle": 100.0}


def test_an_absence_that_reaches_into_the_window_counts_from_its_start() -> None:
    builder = one_worker().join("w1").lose("w0", t_s=6.0).claim("w1", t_s=10.0)
    builder.join("w0", incarnation="b", t_s=30.0).epoch(1, ranks=[times(100.0)], t_s=110.0)
    assert seconds(parts_of(builder)["w0"]) == {"lost": 20.0, "idle": 80.0}


@pytest.mark.parametrize(
    ("outcome", "expected"),
    [
        (Outcome.FAILED, {"compute": 90.0, "lost": 30.0}),
        (Outcome.LOST, {"compute": 90.0, "lost": 30.0}),
        (Outcome.INTERRUPTED, {"compute": 90.0, "unfinished": 30.0}),
    ],
)
def test_a_trial_claimed_before_the_last_closed_begins_when_that_closed(
    outcome: Outcome, expected: dict[str, float]
) -> None:
    builder = one_worker().join("w1").claim("w0", t_s=10.0).claim("w1", t_s=10.0)
    builder.claim("w0", t_s=60.0)
    builder.epoch(1, ranks=[times(90.0)], t_s=100.0).close(1)
    builder.epoch(2, ranks=[times(120.0)], t_s=130.0).close(2).close(3, outcome)
    parts = parts_of(builder)
    assert seconds(parts["w0"]) == expected
    assert parts["w0"].overbooked_s == 0.0


def test_both_leases_of_a_lost_worker_count_once() -> None:
    builder = one_worker().join("w1").claim("w0", t_s=10.0).claim("w1", t_s=10.0).claim("w0", t_s=50.0)
    builder.close(1, Outcome.LOST, t_s=70.0).close(3, Outcome.LOST).lose("w0")
    builder.epoch(2, ranks=[times(100.0)], t_s=110.0)
    assert seconds(parts_of(builder)["w0"]) == {"lost": 100.0}


def test_ranks_that_book_more_than_passed_are_found_out() -> None:
    builder = one_worker(ranks=2).claim(t_s=10.0).epoch(ranks=[times(150.0), times(100.0)], t_s=110.0)
    (shares,) = parts_of(builder).values()
    assert shares.overbooked_s == 50.0
    assert seconds(shares) == {"compute": 250.0}
    assert shares.fractions[Share.COMPUTE] == 1.0


@pytest.mark.parametrize(("communication_s", "is_separate"), [(0.0, True), (3.0, True), (None, False)])
def test_communication_is_separate_only_if_every_rank_can_tell(
    communication_s: float | None, is_separate: bool
) -> None:
    ranks = [times(10.0, communication_s=1.0), times(10.0, communication_s=communication_s)]
    (shares,) = parts_of(one_worker(ranks=2).claim(t_s=10.0).epoch(ranks=ranks, t_s=30.0)).values()
    assert shares.communication_is_separate is is_separate
    assert shares.seconds[Share.COMMUNICATION] == 1.0 + (communication_s or 0.0)


def test_workers_add_up() -> None:
    builder = one_worker(ranks=2).join("w1").claim("w0", t_s=10.0).claim("w1", t_s=30.0)
    builder.epoch(1, ranks=[times(60.0, startup_s=40.0), times(110.0, startup_s=1.0)], t_s=110.0)
    builder.epoch(2, ranks=[times(50.0, startup_s=20.0, communication_s=None)], t_s=110.0)
    total = total_shares(parts_of(builder))
    # w0 books 100 and 111 s of 200 s, w1 70 s of 100 s.
    assert seconds(total) == {"compute": 220.0, "startup": 61.0, "idle": 30.0}
    assert (total.first_startup_s, total.overbooked_s) == (61.0, 11.0)
    assert not total.communication_is_separate
    assert total.overhead == pytest.approx(30 / 250)


def test_nothing_is_shared_before_the_first_finished_epoch() -> None:
    assert parts_of(one_worker()) == {}
    assert parts_of(one_worker().claim(t_s=10.0)) == {}


def test_a_window_of_no_length_has_no_shares() -> None:
    (shares,) = parts_of(one_worker().claim(t_s=10.0).epoch(t_s=10.0)).values()
    assert set(shares.fractions.values()) == {0.0}
    assert shares.overhead == 0.0


def test_a_stopped_trial_books_its_epochs_and_nothing_as_cut_off() -> None:
    builder = one_worker().claim(epochs=9, t_s=10.0)
    builder.epoch(1, ranks=[times(40.0)], t_s=50.0).close(1, Outcome.STOPPED, t_s=55.0)
    builder.claim(t_s=55.0).epoch(2, ranks=[times(50.0)], t_s=110.0).close(2)
    (shares,) = parts_of(builder).values()
    assert seconds(shares) == {"compute": 90.0, "idle": 10.0}
