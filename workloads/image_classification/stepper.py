"""The training steps of one network: forward, backward, update."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from aibench.api.workload import Gang
from workloads.image_classification.hyperparameters import StepSettings
from workloads.image_classification.options import ImageClassificationOptions
from workloads.image_classification.overlap import ExposedCommunication

_AUTOCAST_TYPES = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Stepper:
    """Trains a network by stochastic gradient descent, its learning rate falling linearly to 0.

    With several ranks, a step is that of one network on the images of all of them, however many each has.

    Args:
        network: On the rank's device; all ranks start with the same weights.
        options: Of the workload.
        settings: Of the trial; ``batch_size`` is what every step really has.
        num_steps: Steps until the learning rate is 0.
        gang: The rank's place.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        options: ImageClassificationOptions,
        settings: StepSettings,
        num_steps: int,
        gang: Gang,
    ) -> None:
        self.network = network
        self.batch_size = settings.batch_size
        self._learning_rate = settings.learning_rate
        self._label_smoothing = options.label_smoothing
        self._num_steps = num_steps
        self._steps_taken = 0
        self._loss_weight = gang.num_ranks / settings.batch_size
        self._device_type = torch.device(gang.device).type
        self._low_precision = _AUTOCAST_TYPES[options.precision]
        self._scaler = torch.amp.GradScaler(self._device_type, enabled=options.precision == "fp16")
        self._optimizer = torch.optim.SGD(
            network.parameters(),
            lr=settings.learning_rate,
            momentum=options.momentum,
            weight_decay=options.weight_decay,
        )
        self._model = network
        self._exposed: ExposedCommunication | None = None
        if gang.num_ranks > 1:
            self._connect(network)

    def step(self, images: Tensor, labels: Tensor) -> tuple[Tensor, float]:
        """Train on this rank's part of one batch.

        Args:
            images: Normalised, B×C×H×W.
            labels: Classes, B.

        Returns:
            The sum of the images' losses, on the device, and the seconds that the host saw itself wait for
            other ranks.
        """
        self._optimizer.param_groups[0]["lr"] = self._learning_rate * (
            1 - self._steps_taken / self._num_steps
        )
        self._optimizer.zero_grad()
        with self.autocast():
            logits = self._model(images)
            loss = F.cross_entropy(logits, labels, label_smoothing=self._label_smoothing, reduction="sum")
        # Gradients are averaged over the ranks; this weight makes that the mean over the images.
        self._scaler.scale(loss * self._loss_weight).backward()  # type: ignore[no-untyped-call]
        exposed_s = self._exposed.seconds() if self._exposed else 0.0
        self._scaler.step(self._optimizer)
        self._scaler.update()
        self._steps_taken += 1
        return loss.detach(), exposed_s

    def autocast(self) -> torch.autocast:
        """The precision of the trial's arithmetic, as a context."""
        return torch.autocast(
            self._device_type, dtype=self._low_precision, enabled=self._low_precision is not None
        )

    def _connect(self, network: nn.Module) -> None:
        model = DistributedDataParallel(network, gradient_as_bucket_view=True)
        # Running statistics are shared once per epoch, before they are used, not in every step. Set here
        # because torch 2.13 renamed the constructor's argument and warns of the old name.
        model.broadcast_buffers = False
        if self._device_type == "cpu":
            self._exposed = ExposedCommunication(model)
        self._model = model
