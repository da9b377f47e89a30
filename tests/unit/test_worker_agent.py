import os
import re
import sys
from pathlib import Path
from typing import NoReturn

import pytest

from aibench.worker.agent import WorkerSettings, become_gang, gang_argv, gang_environment

SETTINGS = WorkerSettings(
    control_file=Path('/runs/it\'s a "run"\n/control.json'),
    worker="w7",
    num_ranks=4,
    device="cuda",
    first_device=8,
)


def test_the_gang_is_torchrun_with_one_rank_process_per_device() -> None:
    argv = gang_argv(SETTINGS)
    rendezvous = argv.pop(4)
    assert argv == [
        *(sys.executable, "-m", "torch.distributed.run", "--rdzv-backend=c10d"),
        *("--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"),
        *("--nproc-per-node=4", "--max-restarts=3", "--monitor-interval=0.2"),
        *("-m", "aibench", "rank"),
        *("--control", '/runs/it\'s a "run"\n/control.json', "--worker", "w7", "--device", "cuda"),
        *("--first-device", "8"),
    ]
    assert re.fullmatch("--rdzv-id=[0-9a-f]{32}", rendezvous)


def test_every_gang_meets_under_an_id_of_its_own() -> None:
    assert gang_argv(SETTINGS)[4] != gang_argv(SETTINGS)[4]


def test_the_environment_is_kept_and_restarts_do_not_share_the_rendezvous_store() -> None:
    environment = {"PATH": "/bin", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "0"}
    assert gang_environment(environment) == {
        "PATH": "/bin",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "AIBENCH_GANG_PID": str(os.getpid()),
    }
    assert environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "0"


def test_the_worker_process_itself_becomes_the_gang(monkeypatch: pytest.MonkeyPatch) -> None:
    class ReplacedError(Exception):
        pass

    def execve(program: str, argv: list[str], environment: dict[str, str]) -> NoReturn:
        raise ReplacedError(program, argv, environment)

    monkeypatch.setattr(os, "execve", execve)
    monkeypatch.setenv("MINE", "kept")
    with pytest.raises(ReplacedError) as replaced:
        become_gang(SETTINGS)
    program, argv, environment = replaced.value.args
    assert program == sys.executable
    assert argv[:4] == gang_argv(SETTINGS)[:4]
    assert argv[5:] == gang_argv(SETTINGS)[5:]
    assert environment["MINE"] == "kept"
    assert environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "1"
