"""What the errors so far say of trials: predictions for the journal, and which trials to stop."""

from __future__ import annotations

import msgspec

from aibench.api.events import EpochFinished, Outcome, TrialClosed
from aibench.config import RunConfig
from aibench.score.history import RunHistory, TrialHistory
from aibench.search.learning_curve import MIN_EPOCHS, predict_end, predict_full
from aibench.search.stopping import reason_to_stop


class Prospects:
    """Derived from the history alone, so that a resumed master says what the one before it said."""

    def __init__(self, config: RunConfig, history: RunHistory) -> None:
        self._search = config.search
        self._full_epochs = config.epochs.full
        self._history = history
        self._decided: dict[int, tuple[int, str | None]] = {}
        self._ended: list[tuple[int, float | None]] = []

    def with_prediction(self, trial: TrialHistory, finished: EpochFinished) -> EpochFinished:
        """The trial's next epoch, with the error that the curve promises for the trial's last one."""
        errors, epochs = [*trial.errors, finished.result.error], trial.claimed.spec.epochs
        if not MIN_EPOCHS <= len(errors) < epochs:
            return finished
        return msgspec.structs.replace(finished, predicted_error=predict_end(errors, epochs).error)

    def with_search_error(self, trial: TrialHistory, closed: TrialClosed) -> TrialClosed:
        """The trial's end, with what the search is told instead of the best error, if it is."""
        errors = trial.errors
        if not self._search.predict_accuracy or not closed.outcome.scores:
            return closed
        if not errors or len(errors) >= self._full_epochs:
            return closed
        predicted = predict_full(errors, trial.claimed.spec.epochs, self._full_epochs)
        if predicted == min(errors):
            return closed
        return msgspec.structs.replace(closed, search_error=predicted)

    def reason_to_stop(self, trial: TrialHistory) -> str | None:
        """Why the trial's worker is asked to stop it; once asked, always asked."""
        if not self._search.stop_hopeless and self._search.patience_epochs is None:
            return None
        num_seen, reason = self._decided.get(trial.number, (0, None))
        for num_epochs in range(num_seen + 1, len(trial.epochs) + 1):
            reason = reason or self._reason_after(trial, num_epochs)
        self._decided[trial.number] = (len(trial.epochs), reason)
        return reason

    def _reason_after(self, trial: TrialHistory, num_epochs: int) -> str | None:
        """As it was when this epoch was recorded, whatever ended since."""
        epochs = trial.claimed.spec.epochs
        peers = self._peers(epochs, trial.epochs[num_epochs - 1].num_closed_trials)
        return reason_to_stop(self._search, trial.errors[:num_epochs], epochs, peers=peers)

    def _peers(self, epochs: int, num_closed: int) -> list[float]:
        self._ended += map(_ended, self._history.closed_trials[len(self._ended) :])
        return [error for budget, error in self._ended[:num_closed] if error is not None and budget <= epochs]


def _ended(trial: TrialHistory) -> tuple[int, float | None]:
    """A closed trial's budget, and its error if it measures others."""
    assert trial.closed is not None
    is_peer = trial.closed.outcome in (Outcome.COMPLETED, Outcome.STOPPED)
    return trial.claimed.spec.epochs, trial.error if is_peer else None
