"""Between whoever has single trials trained, without a run, and the process that trains them.

JSON lines over the process's pipes: settings, then one `TrialSpec` after another; each is answered once.
The process ends when its input does.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec

from aibench.api.events import Device
from aibench.api.workload import EpochResult, Positive

Seconds = Annotated[float, msgspec.Meta(ge=0.0)]


class TrainerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The first line: what to open.

    Attributes:
        device: ``cpu``, ``auto``, or a device type of torch.
        position: Number of this process among those of this machine that train beside each other.
    """

    workload: str
    workload_options: dict[str, Any]
    device: str
    position: int


class TrainerReady(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to the settings: the device, or else why nothing could be opened."""

    device: Device | None
    problem: str = ""


class TrialTrained(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The answer to a trial.

    Attributes:
        epochs: Finished ones.
        train_s: From the trial's receipt to its end.
        reason: Why it failed; empty if it did not.
    """

    trial: Positive
    epochs: tuple[EpochResult, ...]
    train_s: Seconds
    reason: str = ""
