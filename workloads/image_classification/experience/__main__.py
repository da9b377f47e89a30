"""``python -m workloads.image_classification.experience FILE`` records anew what comes with the package.

It takes twenty minutes on one core. With ``--keep-errors`` the trainings of an existing file stay, and only
the features are measured again.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

import torch

from workloads.image_classification.experience.recording import record


def main() -> None:
    """Record to the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--keep-errors", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    record(arguments.file, keep_errors=arguments.keep_errors)


main()
