"""The worker's side: sleeps, and reports what a training of that time might have found."""

from __future__ import annotations

import math
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

from aibench.api.clock import Phase, PhaseClock, RankTimes
from aibench.api.workload import EpochResult, Gang, Inheritance, Progress, TrialSpec, weights_name
from aibench.architecture import Architecture
from aibench.counting import count
from aibench.errors import ArchitectureError, TrialError
from workloads.synthetic.curve import ErrorCurve
from workloads.synthetic.hyperparameters import learning_rate_of
from workloads.synthetic.options import SyntheticOptions

VALIDATION_SHARE = 0.1
STEP_S = 1.0
"""Time between two entries in the progress."""


class SyntheticTrainer:
    """One rank, or all ranks of a worker in one process: every rank sleeps alike, unheard by the others."""

    def __init__(self, options: SyntheticOptions, gang: Gang, weights_dir: Path | None) -> None:
        self._options = options
        self._gang = gang
        self._weights_dir = weights_dir

    def train(self, spec: TrialSpec, progress: Progress) -> Iterator[EpochResult]:
        """Sleep for the time of every epoch.

        Raises:
            TrialError: The network does not fit the images, or the hyper-parameters are not those expected.
        """
        architecture = self._network(spec)
        counts = count(architecture)
        curve = ErrorCurve(
            num_classes=self._options.classes,
            learning_rate=learning_rate_of(spec.hyper_parameters),
            train_ops=counts.aiperf_ops.train,
            seed=spec.seed,
        )
        is_inherited = spec.parent is not None and self._has_weights(spec.parent)
        progress.reset()
        for epoch in range(1, spec.epochs + 1):
            times = self._sleep(progress)
            error = curve.error(epoch, is_inherited=is_inherited)
            progress.reset()
            if epoch == spec.epochs:
                self._leave_weights(spec, architecture)
            yield EpochResult(
                epoch=epoch,
                parameters=counts.parameters,
                train_images=self._options.train_images,
                validation_images=self._options.validation_images,
                validation_correct=round((1.0 - error) * self._options.validation_images),
                train_loss=error * math.log(self._options.classes),
                ranks=(times,) * self._gang.num_ranks,
                inherited=is_inherited,
            )

    def _network(self, spec: TrialSpec) -> Architecture:
        try:
            architecture = spec.architecture.to_architecture()
        except ArchitectureError as error:
            raise TrialError(str(error)) from error
        classes = self._options.classes
        if architecture.output_shape != (classes, 1, 1):
            raise TrialError(f"the network ends in {architecture.output_shape}, expected {classes}×1×1")
        return architecture

    def _sleep(self, progress: Progress) -> RankTimes:
        clock = PhaseClock()
        num_steps = max(1, round(self._options.epoch_s / STEP_S))
        train_s = self._options.epoch_s * (1.0 - VALIDATION_SHARE)
        with clock.phase(Phase.COMPUTE):
            for step in range(1, num_steps + 1):
                time.sleep(train_s / num_steps)
                progress.train_images = self._options.train_images * step // num_steps
        with clock.phase(Phase.VALIDATION):
            time.sleep(self._options.epoch_s * VALIDATION_SHARE)
        spent_s = clock.take()
        return RankTimes(
            startup_s=0.0,
            compute_s=spent_s[Phase.COMPUTE],
            data_wait_s=0.0,
            communication_s=0.0,
            validation_s=spent_s[Phase.VALIDATION],
        )

    def _leave_weights(self, spec: TrialSpec, architecture: Architecture) -> None:
        """There are none to keep, so the file names the network that they would be of."""
        if self._weights_dir is None or self._gang.rank != 0:
            return
        path = self._weights_dir / weights_name(spec.trial)
        draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
        draft.write_text(architecture.content_hash)
        os.replace(draft, path)

    def _has_weights(self, parent: Inheritance) -> bool:
        if self._weights_dir is None:
            return False
        try:
            found = (self._weights_dir / weights_name(parent.trial)).read_text()
        except OSError:
            return False
        return found == parent.architecture.to_architecture().content_hash
