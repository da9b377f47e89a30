import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.real_run import Run, aibench

# Small networks: more threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture
def make_run(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def make(**changes: Any) -> Run:
        runs.append(Run(tmp_path, **changes))
        return runs[-1]

    yield make
    for run in runs:
        run.clean_up()


@pytest.fixture(name="aibench")
def aibench_fixture() -> Callable[..., subprocess.CompletedProcess[str]]:
    return aibench
