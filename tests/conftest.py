import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.real_run import Run, aibench

# Small networks: more threads only get in each other's way.
os.environ.setdefault("OMP_NUM_THREADS", "1")

DEFAULT_KILLS = 20
DEFAULT_SEED = 4


def pytest_addoption(parser: pytest.Parser) -> None:
    # Here, not beside the tests that use them: pytest knows the options of this file whatever it collects.
    chaos = parser.getgroup("chaos", "kills at random moments, selected with -m chaos")
    chaos.addoption(
        "--kills", type=int, default=DEFAULT_KILLS, help="Kills of the run [default: %(default)s]."
    )
    chaos.addoption(
        "--seed", type=int, default=DEFAULT_SEED, help="Seed of the kills' schedule [default: %(default)s]."
    )


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
