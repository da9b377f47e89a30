from collections import Counter

import pytest
from support.kill_schedule import (
    KILLED,
    MASTER,
    MASTER_STARTED,
    Kill,
    Moment,
    Target,
    Victim,
    draw_ending,
    draw_schedule,
)

RANKS = {"w0": 2, "w1": 1}
MANY = 2000


def test_a_schedule_is_a_function_of_its_seed_alone() -> None:
    assert draw_schedule(7, 50, RANKS) == draw_schedule(7, 50, RANKS)
    assert draw_schedule(7, 50, RANKS) != draw_schedule(8, 50, RANKS)


@pytest.mark.parametrize("num_kills", [1, 2, 20, 101])
def test_it_has_as_many_kills_as_asked_for_and_begins_like_a_shorter_one(num_kills: int) -> None:
    kills = draw_schedule(3, num_kills, RANKS)
    assert len(kills) == num_kills
    assert draw_schedule(3, 200, RANKS)[:num_kills] == kills


def test_runs_end_in_every_way_there_is_whatever_the_number_of_kills() -> None:
    endings = [draw_ending(seed, RANKS) for seed in range(40)]
    assert endings == [draw_ending(seed, RANKS) for seed in range(40)]
    ways = {(ending.victim is None, ending.seal_delay_s is None) for ending in endings}
    assert len(ways) == 4


def test_long_ones_kill_everything_that_there_is() -> None:
    kills = draw_schedule(1, MANY, RANKS)
    victims = Counter(victim for kill in kills for victim in (*kill.victims, *kill.meanwhile))
    for worker, num_ranks in RANKS.items():
        for target in (Target.GANG, Target.WORKER, Target.PROPOSER):
            assert victims[Victim(target, worker)] > 0
        for rank in range(num_ranks):
            assert victims[Victim(Target.RANK, worker, rank)] > 0
    assert victims[Victim(Target.ALL_RANKS, "w0")] > 0
    assert any(kill.hits_master and len(kill.victims) > 1 for kill in kills)
    assert any(kill.hits_master and kill.meanwhile for kill in kills)
    assert {MASTER_STARTED, KILLED} <= {kill.moment.event for kill in kills}


def test_a_worker_gets_to_finish_an_epoch_at_least_after_every_second_kill_of_it() -> None:
    for seed in range(40):
        without_epoch: Counter[str] = Counter()
        for kill in draw_schedule(seed, 100, RANKS):
            if kill.moment.event == "epoch_finished":
                for worker in kill.moment.workers:
                    without_epoch[worker] = 0
            for victim in (*kill.victims, *kill.meanwhile):
                if victim.worker is not None and victim.target is not Target.PROPOSER:
                    without_epoch[victim.worker] += 1
            assert max(without_epoch.values(), default=0) <= 2


def test_a_proposer_is_not_killed_again_before_its_gang_started_a_new_one() -> None:
    for seed in range(20):
        gone: set[str | None] = set()
        for kill in draw_schedule(seed, 100, RANKS):
            for victim in (*kill.victims, *kill.meanwhile):
                if victim.target is Target.PROPOSER:
                    assert victim.worker not in gone
                    gone.add(victim.worker)
                else:
                    gone.discard(victim.worker)


def test_a_kill_reads_as_what_will_be_done() -> None:
    moment = Moment("epoch_finished", 2, 0.25, ("w0", "w1"))
    kill = Kill(moment, (MASTER, Victim(Target.RANK, "w0", 1)), pause_s=1.5)
    assert str(kill) == (
        "0.250 s after 2 × epoch_finished of w0 and w1 each: master and rank 1 of w0; resume after 1.500 s"
    )
