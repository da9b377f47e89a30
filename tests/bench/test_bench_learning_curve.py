"""Predictions from recorded learning curves beside the last best error, what stopping would save, and speed.

The curves are of real trials; ``about`` in ``tests/data/learning_curves.json`` says of which. Misses are
|predicted - achieved|, and |ln(predicted / achieved)| because the score takes -ln(error); a ratio below 1
means that the prediction beats the last best error.
"""

from __future__ import annotations

import json
import math
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from aibench.search.config import SearchConfig
from aibench.search.learning_curve import MIN_EPOCHS, predict_end, predict_full
from aibench.search.stopping import reason_to_stop

pytestmark = pytest.mark.bench

CURVES = Path(__file__).parents[1] / "data" / "learning_curves.json"
SEEN_SHARES = (0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9)
MIN_TRIAL_EPOCHS = 8
NUM_TIMINGS = 2000


@dataclass(frozen=True, slots=True)
class Trial:
    candidate: int
    kind: str
    errors: list[float]
    floor: float

    @property
    def epochs(self) -> int:
        return len(self.errors)


@dataclass(frozen=True, slots=True)
class Guess:
    predicted: float
    plain: float
    achieved: float
    floor: float

    def misses(self) -> tuple[float, float, float, float]:
        ends = [max(value, self.floor) for value in (self.predicted, self.plain, self.achieved)]
        return (
            abs(self.predicted - self.achieved),
            abs(self.plain - self.achieved),
            abs(math.log(ends[0] / ends[2])),
            abs(math.log(ends[1] / ends[2])),
        )


def recorded() -> list[Trial]:
    return [
        Trial(
            candidate=number,
            kind=f"{candidate['network']}, noise {candidate['noise']}",
            errors=[wrong / candidate["validation_images"] for wrong in curve],
            floor=1 / candidate["validation_images"],
        )
        for number, candidate in enumerate(json.loads(CURVES.read_text())["candidates"])
        for curve in candidate["wrong"]
    ]


def within_trials(trials: list[Trial], share: float) -> Iterator[Guess]:
    for trial in trials:
        done = max(MIN_EPOCHS, round(share * trial.epochs))
        if trial.epochs >= MIN_TRIAL_EPOCHS and done < trial.epochs:
            seen = trial.errors[:done]
            predicted = predict_end(seen, trial.epochs).error
            yield Guess(predicted, min(seen), min(trial.errors), trial.floor)


def across_trials(trials: list[Trial]) -> dict[tuple[int, int], list[Guess]]:
    """By the epochs of a trial and those of the longer trials of the same candidate."""
    found: dict[tuple[int, int], list[Guess]] = defaultdict(list)
    for trial in trials:
        same = [other for other in trials if other.candidate == trial.candidate]
        for full in sorted({other.epochs for other in same if other.epochs > trial.epochs}):
            achieved = statistics.mean(min(other.errors) for other in same if other.epochs == full)
            if trial.epochs >= MIN_EPOCHS:
                predicted = predict_full(trial.errors, trial.epochs, full)
                found[trial.epochs, full].append(Guess(predicted, min(trial.errors), achieved, trial.floor))
    return found


def show(label: str, guesses: list[Guess]) -> None:
    error, plain, log_error, log_plain = map(
        statistics.mean, zip(*(guess.misses() for guess in guesses), strict=True)
    )
    print(
        f"{label:40} {len(guesses):4} trials  error {error:.4f} / {plain:.4f} = {error / plain:4.2f}   "
        f"ln error {log_error:.3f} / {log_plain:.3f} = {log_error / log_plain:4.2f}"
    )


def test_predictions_of_a_trial_s_own_end() -> None:
    trials = recorded()
    print("\nfrom a share of a trial's epochs to its last one")
    for share in SEEN_SHARES:
        show(f"{share:.0%} of the epochs", list(within_trials(trials, share)))
    for kind in sorted({trial.kind for trial in trials}):
        show(f"50%, {kind}", list(within_trials([t for t in trials if t.kind == kind], 0.5)))


def test_predictions_of_a_longer_trial() -> None:
    print("\nfrom a whole trial to a longer one of the same candidate")
    found = across_trials(recorded())
    for (epochs, full), guesses in sorted(found.items()):
        show(f"{epochs} to {full} epochs", guesses)
    show("all", [guess for guesses in found.values() for guess in guesses])


def test_share_of_trials_above_the_optimistic_error() -> None:
    print("\ntrials that ended at or above the optimistic error; nine in ten are meant")
    for share in SEEN_SHARES:
        above = [
            min(trial.errors) >= predict_end(trial.errors[:done], trial.epochs).optimistic_error
            for trial in recorded()
            if (done := max(MIN_EPOCHS, round(share * trial.epochs))) < trial.epochs >= MIN_TRIAL_EPOCHS
        ]
        print(f"{share:.0%} of the epochs: {statistics.mean(above):.2f}")


def test_stopping_recorded_trials() -> None:
    """Each trial beside all others of its kind and length, as if they had ended before it."""
    print("\nstopped trials, those of them that would have come under the median, epochs saved")
    for name, config in {
        "stop_hopeless": SearchConfig(stop_hopeless=True),
        "patience_epochs 3": SearchConfig(patience_epochs=3),
        "patience_epochs 6": SearchConfig(patience_epochs=6),
    }.items():
        num_trials = num_stopped = num_wrong = num_epochs = num_saved = 0
        trials = recorded()
        for trial in trials:
            peers = [
                min(other.errors)
                for other in trials
                if (other.kind, other.epochs) == (trial.kind, trial.epochs) and other is not trial
            ]
            if trial.epochs < MIN_TRIAL_EPOCHS or len(peers) < 5:
                continue
            num_trials, num_epochs = num_trials + 1, num_epochs + trial.epochs
            if asked := asked_after(config, trial, peers):
                num_stopped += 1
                num_saved += trial.epochs - asked - 1
                num_wrong += min(trial.errors) < min(statistics.median(peers), min(trial.errors[: asked + 1]))
        print(
            f"{name:18} {num_stopped:3} of {num_trials} stopped, {num_wrong} wrongly, "
            f"{num_saved / num_epochs:.1%} of the epochs saved"
        )


def asked_after(config: SearchConfig, trial: Trial, peers: list[float]) -> int:
    """Epochs finished when the trial is asked to stop; 0 for never."""
    for done in range(1, trial.epochs):
        if reason_to_stop(config, trial.errors[:done], trial.epochs, peers=peers):
            return done
    return 0


def test_time_of_a_prediction() -> None:
    errors = [0.9 * epoch**-0.4 for epoch in range(1, 60)]
    print("\nprocessor time")
    print(f"predict_end, 59 epochs  {timed(lambda: predict_end(errors, 60)) * 1e6:6.1f} µs")
    print(f"predict_full, 30 epochs {timed(lambda: predict_full(errors[:30], 60, 60)) * 1e6:6.1f} µs")


def timed(work: Callable[[], object]) -> float:
    began_s = time.process_time()
    for _ in range(NUM_TIMINGS):
        work()
    return (time.process_time() - began_s) / NUM_TIMINGS
