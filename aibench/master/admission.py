"""What an epoch must be to be taken in."""

from __future__ import annotations

from aibench.api.workload import DatasetDescription, EpochResult
from aibench.errors import ProtocolError
from aibench.score.history import TrialHistory


def check_epoch(
    trial: TrialHistory, result: EpochResult, dataset: DatasetDescription, *, num_ranks: int
) -> None:
    """Compare an epoch with its trial, the data set and the gang that reports it.

    Raises:
        ProtocolError: 409 if it is not the next epoch of the trial, 422 if it cannot have happened.
    """
    due, epochs = len(trial.epochs) + 1, trial.claimed.spec.epochs
    if result.epoch != due or due > epochs:
        raise ProtocolError(409, f"epoch {result.epoch} arrived where {due} of {epochs} is due")
    problem = _problem(trial, result, dataset, num_ranks)
    if problem:
        raise ProtocolError(422, problem)


def _problem(
    trial: TrialHistory, result: EpochResult, dataset: DatasetDescription, num_ranks: int
) -> str | None:
    counted = trial.claimed.parameters
    if result.validation_correct > result.validation_images:
        return f"{result.validation_correct} of {result.validation_images} images correct"
    if result.parameters != counted:
        return f"a network of {result.parameters} parameters was trained, {counted} were counted"
    if result.train_images > dataset.train_images:
        return f"{result.train_images} train images in an epoch of {dataset.train_images}"
    if result.validation_images > dataset.validation_images:
        return f"{result.validation_images} validation images of {dataset.validation_images}"
    if len(result.ranks) != num_ranks:
        return f"times of {len(result.ranks)} ranks from a gang of {num_ranks}"
    return None
