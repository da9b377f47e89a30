import itertools

from aibench.master.polling import MAX_PERIOD_S, Polling


def moments(polling: Polling, until_s: float, *, fails: bool = False) -> list[float]:
    """When it asks, answered without a change or not at all, in steps of a tenth of a second."""
    asked = []
    for tick in range(int(until_s * 10)):
        now_s = tick / 10
        if polling.is_due(now_s):
            asked.append(now_s)
            if fails:
                polling.failed(now_s)
            else:
                polling.answered(now_s, changed=False)
    return asked


def gaps(asked: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(asked)]


def test_it_asks_soon_at_first_and_never_more_often_than_steady_later() -> None:
    found = gaps(moments(Polling(steady_s=5.0), 600))
    assert found[0] < 2.0
    assert min(found[8:]) >= 5.0
    assert max(found) < 8.0


def test_steady_periods_differ_so_that_pollers_spread() -> None:
    assert len({round(gap, 1) for gap in gaps(moments(Polling(steady_s=5.0), 600))[8:]}) > 5


def test_a_change_brings_the_short_period_back() -> None:
    polling = Polling(steady_s=5.0)
    moments(polling, 100)
    polling.answered(100.0, changed=True)
    assert polling.is_due(101.3)


def test_an_engine_that_is_away_is_asked_more_and_more_rarely_and_counted() -> None:
    polling = Polling(steady_s=5.0)
    asked = moments(polling, 2000, fails=True)
    assert polling.num_failures == len(asked)
    assert gaps(asked)[-1] > 0.7 * MAX_PERIOD_S
    polling.answered(2000.0, changed=False)
    assert polling.num_failures == 0


def test_a_launcher_of_this_machine_is_asked_as_often_as_it_allows() -> None:
    found = gaps(moments(Polling(steady_s=1.0), 60))
    assert all(0.7 <= gap <= 1.6 for gap in found)
