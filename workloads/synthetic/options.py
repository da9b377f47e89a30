"""What the ``workload`` section of a configuration may say about the synthetic workload."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aibench.api.workload import Positive
from aibench.architecture.resnet import IMAGENET_WIDTH, NAMES

DAY_S = 86400


class SyntheticOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the workload; the defaults have the sizes of CIFAR-10.

    Attributes:
        epoch_s: Time that every epoch takes, validation included, whatever network it trains.
        train_images: Images that an epoch says it trained.
        validation_images: Images that it says it validated.
        classes: Classes of these.
        image_size: Side of the images in pixels.
        initial: Network that the search starts from.
        width: Channels of its first stage.

    Raises:
        ValueError: The network is unknown.
    """

    epoch_s: Annotated[float, msgspec.Meta(ge=0.0, le=DAY_S)] = 1.0
    train_images: Positive = 50_000
    validation_images: Positive = 10_000
    classes: Annotated[int, msgspec.Meta(ge=2, le=2**31)] = 10
    image_size: Positive = 32
    initial: str = "resnet18"
    width: Positive = IMAGENET_WIDTH

    def __post_init__(self) -> None:
        if self.initial not in NAMES:
            raise ValueError(f"initial is {self.initial!r}, expected one of {', '.join(NAMES)}")
