from hypothesis import given, settings
from hypothesis import strategies as st
from support.runs import RunBuilder

from aibench.api.events import Outcome
from aibench.score.history import RunHistory
from aibench.score.live import LiveScore
from aibench.score.score import compute_score

NUM_WORKERS = 3
EPOCHS = 3
# What a worker does next: an epoch with so many of 20 images correct, or giving its trial up or failing it.
STEPS = st.one_of(st.integers(0, 20), st.sampled_from([Outcome.LOST, Outcome.FAILED]))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, NUM_WORKERS - 1), STEPS), max_size=40))
def test_at_any_time_it_is_the_last_sample_of_the_score(steps: list[tuple[int, int | Outcome]]) -> None:
    builder = RunBuilder().start()
    for worker in range(NUM_WORKERS):
        builder.join(f"w{worker}")
    builder.barrier()
    history = RunHistory.of(builder.records)
    live = LiveScore(history)
    trials: dict[int, int] = {}
    num_epochs: dict[int, int] = {}
    num_claimed = 0
    for number, (worker, step) in enumerate(steps, start=1):
        num_done = len(builder.records)
        if worker not in trials:
            num_claimed += 1
            trials[worker], num_epochs[worker] = num_claimed, 0
            builder.claim(f"w{worker}", epochs=EPOCHS, train_ops=number, t_s=float(number // 2))
        if isinstance(step, Outcome):
            builder.close(trials.pop(worker), step)
        else:
            builder.epoch(trials[worker], correct=step, validation_images=20, t_s=float(number // 2))
            num_epochs[worker] += 1
            if num_epochs[worker] == EPOCHS:
                builder.close(trials.pop(worker))
        for record in builder.records[num_done:]:
            history.apply(record)
        score = compute_score(history)
        assert live.final() == (score.final if score else None)


def test_a_history_that_is_long_already_is_taken_in_whole() -> None:
    builder = RunBuilder().start().join().barrier()
    builder.claim(epochs=2, t_s=10.0).epoch(t_s=20.0).epoch(correct=70, t_s=30.0).close()
    history = RunHistory.of(builder.claim(t_s=31.0).records)
    score = compute_score(history)
    assert score is not None
    assert LiveScore(history).final() == score.final
