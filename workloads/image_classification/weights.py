"""The files in which trials leave their weights for their children."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from aibench.api.workload import Inheritance, TrialSpec, weights_name
from aibench.architecture import Architecture
from aibench.errors import DataError
from workloads.image_classification.model import Network


def save_weights(folder: Path, spec: TrialSpec, network: nn.Module) -> None:
    """Write a trial's final weights, whole or not at all.

    Raises:
        OSError: They cannot be written; so does `RuntimeError`, by which torch says the same.
    """
    path = folder / weights_name(spec.trial)
    draft = path.with_name(f"{path.name}.{uuid.uuid4().hex}")
    content = {
        "architecture": spec.architecture.to_architecture().content_hash,
        "state": {name: value.detach().cpu() for name, value in network.state_dict().items()},
    }
    try:
        torch.save(content, draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def load_weights(folder: Path, parent: Inheritance) -> dict[str, Tensor]:
    """Read the final weights of a trial; nothing in the file is executed.

    Raises:
        OSError: They are not there.
        DataError: They are not those of the parent's network.
        Exception: Whatever torch raises for a damaged file.
    """
    path = folder / weights_name(parent.trial)
    content: Any = torch.load(path, map_location="cpu", weights_only=True)
    architecture = parent.architecture.to_architecture()
    if not isinstance(content, dict) or content.get("architecture") != architecture.content_hash:
        raise DataError(f"{path}: holds the weights of another network")
    state: dict[str, Tensor] = content["state"]
    if _sketch(state) != _sketch(_empty_state(architecture)):
        raise DataError(f"{path}: the weights do not fit their network")
    return state


def _empty_state(architecture: Architecture) -> dict[str, Tensor]:
    with torch.device("meta"):
        return Network(architecture).state_dict()


def _sketch(state: dict[str, Tensor]) -> dict[str, tuple[torch.Size, torch.dtype]]:
    return {name: (value.shape, value.dtype) for name, value in state.items()}
