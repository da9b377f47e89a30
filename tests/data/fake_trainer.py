"""Stands for `aibench trainer`: answers with what the workload options say, without torch.

The option ``plan`` gives one word per trial: ``well``, ``fails``, ``miscounts``, ``dies`` or ``hangs``.
"""

import json
import os
import sys
import time

import msgspec

from aibench.api.workload import TrialSpec
from aibench.counting import count


def answer(message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()


settings = json.loads(sys.stdin.readline())
options = settings["workload_options"]
if options.get("problem"):
    answer({"device": None, "problem": options["problem"]})
    sys.exit(0)
answer({"device": {"kind": "cpu", "name": os.environ["OMP_NUM_THREADS"], "memory_bytes": None}})
for line, word in zip(sys.stdin, ["well", *options["plan"].split()], strict=False):
    spec = msgspec.json.decode(line, type=TrialSpec)
    parameters = count(spec.architecture.to_architecture()).parameters
    if word == "dies":
        sys.stderr.write("out of luck\n")
        sys.stderr.flush()
        os._exit(9)
    if word == "hangs":
        time.sleep(600)
    epoch = {
        "epoch": 1,
        "parameters": parameters + (word == "miscounts"),
        "train_images": 8,
        "validation_images": 100,
        "validation_correct": spec.seed,
        "train_loss": 1.0,
        "ranks": [],
    }
    epochs = [] if word == "fails" else [{**epoch, "epoch": n + 1} for n in range(spec.epochs)]
    reason = "no luck" if word == "fails" else ""
    answer({"trial": spec.trial, "epochs": epochs, "train_s": 0.5, "reason": reason})
