"""A process that trains single trials without a master: one rank, requests on standard input.

Requests and answers are those of `aibench.api.training`. Standard output carries nothing but the answers:
whatever else writes to it ends up on standard error.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from typing import BinaryIO

import msgspec
import torch

from aibench.api.events import Device
from aibench.api.launcher import CPU
from aibench.api.training import TrainerReady, TrainerSettings, TrialTrained
from aibench.api.workload import EpochResult, Gang, Progress, Trainer, TrialSpec
from aibench.errors import AibenchError, TrialError
from aibench.registry import workload_type
from aibench.worker.inventory import place_rank, take_inventory

logger = logging.getLogger(__name__)


def run_trainer() -> None:
    """Answer requests until standard input ends, which ends this process at once, also amid a trial."""
    requests, answers = _requests(), _private_output()
    settings = msgspec.json.decode(next(requests), type=TrainerSettings)
    try:
        trainer, device = _open(settings)
    except AibenchError as error:
        _answer(answers, TrainerReady(device=None, problem=str(error)))
        return
    _answer(answers, TrainerReady(device=device))
    for line in requests:
        _answer(answers, train(trainer, msgspec.json.decode(line, type=TrialSpec)))


def train(trainer: Trainer, spec: TrialSpec) -> TrialTrained:
    """Train one trial to its end or its failure, whatever that is."""
    began_s = time.perf_counter()
    epochs: list[EpochResult] = []
    reason = ""
    try:
        epochs.extend(trainer.train(spec, Progress()))
    except TrialError as error:
        reason = str(error)
    except Exception as error:
        logger.exception("trial %d failed", spec.trial)
        reason = f"{type(error).__name__}: {error}"
    return TrialTrained(
        trial=spec.trial, epochs=tuple(epochs), train_s=time.perf_counter() - began_s, reason=reason
    )


def _open(settings: TrainerSettings) -> tuple[Trainer, Device]:
    workload_class = workload_type(settings.workload)
    options = msgspec.convert(settings.workload_options, workload_class.options_type)
    device, description = place_rank(take_inventory(), settings.device, settings.position)
    if device != CPU:
        torch.accelerator.set_device_index(torch.device(device).index)
    trainer = workload_class(options).open(Gang(rank=0, num_ranks=1, device=device))
    return trainer, description


def _requests() -> Iterator[bytes]:
    """Lines of standard input, read ahead: its end must be noticed while a trial runs."""
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            lines.put(line)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return iter(lines.get, None)


def _private_output() -> BinaryIO:
    """Standard output for the answers alone."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    return answers


def _answer(answers: BinaryIO, message: msgspec.Struct) -> None:
    answers.write(msgspec.json.encode(message) + b"\n")
    answers.flush()
