"""The worker's side of image classification: trains one trial after another on one rank."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch

from aibench.api.workload import EpochResult, Gang, Progress, TrialSpec
from aibench.errors import TrialError
from workloads.image_classification.collectives import Collectives
from workloads.image_classification.data import open_source
from workloads.image_classification.data.preprocessing import DevicePreprocessing
from workloads.image_classification.options import ImageClassificationOptions
from workloads.image_classification.trial import RankContext, TrialRun


class ImageTrainer:
    """One rank of a worker; data and process group stay between trials.

    Args:
        options: Of the workload.
        gang: The rank's place.
        weights_dir: Where trials leave their weights and find those of their parents; None for nowhere.

    Raises:
        DataError: The data is missing or malformed.
    """

    def __init__(
        self, options: ImageClassificationOptions, gang: Gang, weights_dir: Path | None = None
    ) -> None:
        # By default cuDNN convolves FP32 in TF32: a lower precision than the run would claim.
        torch.backends.fp32_precision = "ieee"  # type: ignore[attr-defined]
        device = torch.device(gang.device)
        source = open_source(options)
        self._context = RankContext(
            options=options,
            gang=gang,
            device=device,
            source=source,
            preprocessing=DevicePreprocessing(source.facts.preprocessing, device),
            collectives=Collectives(gang),
            weights_dir=weights_dir,
        )

    def train(self, spec: TrialSpec, progress: Progress) -> Iterator[EpochResult]:
        """Build the network and train it, as `aibench.api.workload.Trainer` says.

        With one rank, a device that runs out of memory fails the trial. With several the error passes: the
        other ranks wait for this one in a collective, so that all of them have to end.

        Raises:
            TrialError: The trial cannot go on.
        """
        progress.reset()
        try:
            yield from TrialRun(self._context, spec, progress).epochs()
        except torch.OutOfMemoryError as error:
            if self._context.gang.num_ranks > 1:
                raise
            raise TrialError(f"{self._context.device} is out of memory: {error}") from error
