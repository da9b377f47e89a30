"""One trial on one rank: build, then train and validate epoch by epoch."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from aibench.api.clock import Phase, PhaseClock, RankTimes
from aibench.api.workload import EpochResult, Gang, Inheritance, Progress, TrialSpec
from aibench.architecture import Architecture, Shape
from aibench.errors import AibenchError, TrialError
from workloads.image_classification.collectives import Collectives
from workloads.image_classification.data import Batch, ImageSource, IndexArray
from workloads.image_classification.data.preprocessing import DevicePreprocessing
from workloads.image_classification.data.sharding import train_plan, validation_plan
from workloads.image_classification.hyperparameters import StepSettings
from workloads.image_classification.inheritance import inherited_state
from workloads.image_classification.model import Network, build
from workloads.image_classification.options import ImageClassificationOptions
from workloads.image_classification.seeds import Stream, derive_seed
from workloads.image_classification.specialise import specialise
from workloads.image_classification.stepper import Stepper
from workloads.image_classification.weights import load_weights, save_weights

logger = logging.getLogger(__name__)

# Batch normalisation cannot train on one value per channel, which is what one image leaves of a 1×1 map.
_MIN_IMAGES_PER_RANK = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class RankContext:
    """What a rank keeps between trials.

    Attributes:
        weights_dir: Where trials leave their weights and find those of their parents; None for nowhere.
    """

    options: ImageClassificationOptions
    gang: Gang
    device: torch.device
    source: ImageSource
    preprocessing: DevicePreprocessing
    collectives: Collectives
    weights_dir: Path | None


class TrialRun:
    """Trains one trial; used once.

    Args:
        context: The rank.
        spec: The trial.
        progress: Where work of the unfinished epoch is noted.
    """

    def __init__(self, context: RankContext, spec: TrialSpec, progress: Progress) -> None:
        self._context = context
        self._spec = spec
        self._progress = progress
        self._clock = PhaseClock()
        self._has_inherited = False

    def epochs(self) -> Iterator[EpochResult]:
        """Yield once per finished epoch, the same on every rank.

        Raises:
            TrialError: The network cannot be built on some rank, the loss is not finite, or nothing was
                processed; on every rank alike.
        """
        with self._clock.phase(Phase.STARTUP):
            stepper = self._prepare()
        for epoch in range(1, self._spec.epochs + 1):
            num_trained, loss_sum = self._train(stepper, epoch)
            with self._clock.phase(Phase.VALIDATION):
                train_images, train_loss = self._training_totals(num_trained, loss_sum, epoch)
                validation_images, correct = self._validate(stepper)
            result = EpochResult(
                epoch=epoch,
                parameters=sum(parameter.numel() for parameter in stepper.network.parameters()),
                train_images=train_images,
                validation_images=validation_images,
                validation_correct=correct,
                train_loss=train_loss,
                ranks=self._times(),
                inherited=self._has_inherited,
            )
            # A finished epoch is no longer in progress: an interruption from here on has left nothing undone.
            self._progress.reset()
            yield result
        self._leave_weights(stepper)

    def _prepare(self) -> Stepper:
        """Build on all ranks or on none, then connect the ranks."""
        problem = ""
        try:
            settings = self._settings()
            network = self._build()
        except AibenchError as error:
            problem = str(error)
        except Exception as error:
            # Whatever it is, the other ranks are about to wait for this one: they have to be told.
            logger.exception("trial %d: cannot build the network", self._spec.trial)
            problem = f"cannot build the network: {type(error).__name__}: {' '.join(str(error).split())}"
        self._context.collectives.agree(problem)
        self._inherit(network)
        gang = self._context.gang
        torch.manual_seed(derive_seed(self._spec.seed, Stream.DROPOUT, gang.rank))
        return Stepper(
            network,
            options=self._context.options,
            settings=settings,
            num_steps=self._spec.epochs * (self._context.source.facts.train_images // settings.batch_size),
            gang=gang,
        )

    def _settings(self) -> StepSettings:
        """The trial's settings; a batch larger than the training set is cut to it."""
        settings = StepSettings.read(self._spec.hyper_parameters)
        batch_size = min(settings.batch_size, self._context.source.facts.train_images)
        least = _MIN_IMAGES_PER_RANK * self._context.gang.num_ranks
        if batch_size < least:
            raise TrialError(
                f"batch of {batch_size} images on {self._context.gang.num_ranks} rank(s): "
                f"expected at least {least}, {_MIN_IMAGES_PER_RANK} per rank"
            )
        return dataclasses.replace(settings, batch_size=batch_size)

    def _build(self) -> Network:
        architecture = self._spec.architecture.to_architecture()
        self._check(architecture)
        network = build(architecture, seed=derive_seed(self._spec.seed, Stream.WEIGHTS))
        return network.to(self._context.device)

    def _inherit(self, network: Network) -> None:
        """Start from the parent's weights, on all ranks or on none."""
        if self._spec.parent is None:
            return
        state = self._inherited_state(self._spec.parent)
        (num_ready,) = self._context.collectives.sum_integers([int(state is not None)])
        if state is not None and num_ready == self._context.gang.num_ranks:
            network.load_state_dict(state, strict=False)
            self._has_inherited = True

    def _inherited_state(self, parent: Inheritance) -> dict[str, Tensor] | None:
        if self._context.weights_dir is None:
            return None
        try:
            return inherited_state(
                parent.architecture.to_architecture(),
                load_weights(self._context.weights_dir, parent),
                child=self._spec.architecture.to_architecture(),
                morphs=parent.morphs,
                hyper_parameters=self._spec.hyper_parameters,
                seed=derive_seed(self._spec.seed, Stream.INHERITANCE),
            )
        except Exception as error:
            # Weights are a start, not a condition; and the other ranks are about to wait for this one.
            logger.warning("trial %d starts from scratch: %s", self._spec.trial, error)
            return None

    def _leave_weights(self, stepper: Stepper) -> None:
        """Write the weights for children; without them these start from scratch."""
        if self._context.weights_dir is None or self._context.gang.rank:
            return
        try:
            save_weights(self._context.weights_dir, self._spec, stepper.network)
        except (OSError, RuntimeError) as error:
            logger.warning("trial %d leaves no weights: %s", self._spec.trial, error)

    def _check(self, architecture: Architecture) -> None:
        facts = self._context.source.facts
        expected_output = Shape(facts.num_classes, 1, 1)
        if architecture.input_shape != facts.input_shape or architecture.output_shape != expected_output:
            raise TrialError(
                f"the network maps {architecture.input_shape} to {architecture.output_shape}, "
                f"expected {facts.input_shape} to {expected_output}"
            )
        if specialise(architecture, self._spec.hyper_parameters) != architecture:
            raise TrialError("the network is not the one its hyper-parameters lead to")

    def _train(self, stepper: Stepper, epoch: int) -> tuple[int, Tensor]:
        """Train one epoch; number of images and sum of their losses on this rank."""
        seed = derive_seed(self._spec.seed, Stream.AUGMENTATION, epoch, self._context.gang.rank)
        generator = torch.Generator().manual_seed(seed)
        batches = self._context.source.train_batches(self._train_plan(stepper.batch_size, epoch), seed=seed)
        loss_sum = torch.zeros((), device=self._context.device)
        num_images = 0
        stepper.network.train()
        while (batch := self._next(batches)) is not None:
            with self._clock.phase(Phase.COMPUTE):
                images, labels = self._to_device(batch)
                images = self._context.preprocessing.augment(images, generator)
                loss, exposed_s = stepper.step(self._context.preprocessing.normalise(images), labels)
                loss_sum += loss
            self._clock.rebook(exposed_s, source=Phase.COMPUTE, target=Phase.COMMUNICATION)
            num_images += len(batch.labels)
            self._progress.train_images += stepper.batch_size
        with self._clock.phase(Phase.COMPUTE):
            self._synchronise()
        return num_images, loss_sum

    def _training_totals(self, num_images: int, loss_sum: Tensor, epoch: int) -> tuple[int, float]:
        """Images of all ranks and the mean of their losses."""
        collectives = self._context.collectives
        (train_images,) = collectives.sum_integers([num_images])
        if train_images == 0:
            raise TrialError(f"epoch {epoch} processed no training images")
        losses = collectives.gather_floats([loss_sum.item()])
        train_loss = sum(loss for (loss,) in losses) / train_images
        if not math.isfinite(train_loss):
            raise TrialError(f"loss is {train_loss} in epoch {epoch}: training diverged")
        return train_images, train_loss

    @torch.no_grad()
    def _validate(self, stepper: Stepper) -> tuple[int, int]:
        """Images of all ranks and how many of them the network has right."""
        context = self._context
        context.collectives.share_buffers(stepper.network)
        stepper.network.eval()
        correct = torch.zeros((), dtype=torch.int64, device=context.device)
        num_images = 0
        for batch in context.source.validation_batches(self._validation_plan(stepper.batch_size)):
            images, labels = self._to_device(batch)
            with stepper.autocast():
                logits = stepper.network(context.preprocessing.normalise(images))
            correct += (logits.argmax(1) == labels).sum()
            num_images += len(batch.labels)
            self._progress.validation_images = min(
                num_images * context.gang.num_ranks, context.source.facts.validation_images
            )
        total, total_correct = context.collectives.sum_integers([num_images, int(correct.item())])
        if total == 0:
            raise TrialError("validation processed no images")
        return total, total_correct

    def _next(self, batches: Iterator[Batch]) -> Batch | None:
        with self._clock.phase(Phase.DATA_WAIT):
            return next(batches, None)

    def _to_device(self, batch: Batch) -> tuple[Tensor, Tensor]:
        device = self._context.device
        return torch.from_numpy(batch.images).to(device), torch.from_numpy(batch.labels).to(device)

    def _train_plan(self, batch_size: int, epoch: int) -> list[IndexArray]:
        return train_plan(
            self._context.source.facts.train_images,
            batch_size=batch_size,
            seed=derive_seed(self._spec.seed, Stream.ORDER, epoch),
            rank=self._context.gang.rank,
            num_ranks=self._context.gang.num_ranks,
        )

    def _validation_plan(self, batch_size: int) -> list[IndexArray]:
        gang = self._context.gang
        return validation_plan(
            self._context.source.facts.validation_images,
            batch_size=batch_size // gang.num_ranks,
            rank=gang.rank,
            num_ranks=gang.num_ranks,
        )

    def _times(self) -> tuple[RankTimes, ...]:
        """Times of all ranks since the last call; gathering them is booked to the next epoch."""
        spent_s = self._clock.take()
        with self._clock.phase(Phase.VALIDATION):
            rows = self._context.collectives.gather_floats([spent_s[phase] for phase in Phase])
        return tuple([self._rank_times(dict(zip(Phase, row, strict=True))) for row in rows])

    def _rank_times(self, spent_s: Mapping[Phase, float]) -> RankTimes:
        is_hidden = self._context.gang.num_ranks > 1 and self._context.device.type != "cpu"
        return RankTimes(
            startup_s=spent_s[Phase.STARTUP],
            compute_s=spent_s[Phase.COMPUTE],
            data_wait_s=spent_s[Phase.DATA_WAIT],
            communication_s=None if is_hidden else spent_s[Phase.COMMUNICATION],
            validation_s=spent_s[Phase.VALIDATION],
        )

    def _synchronise(self) -> None:
        """Wait for the device, so that the clock read next covers its work."""
        if self._context.device.type != "cpu":
            torch.accelerator.synchronize(self._context.device)
