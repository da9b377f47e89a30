import os
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import pytest

from aibench.worker.agent import become_gang, gang_argv, gang_environment
from aibench.worker.meeting import Appointment, Meeting
from aibench.worker.settings import WorkerSettings

MEETING = Meeting(
    appointment=Appointment(host="10.0.0.1", port=29500, id="the-gang"),
    is_host=False,
    address="10.0.0.2",
    interface="ib0",
)
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
        "GLOO_SOCKET_IFNAME": "lo",
        "PATH": "/bin",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "AIBENCH_GANG_PID": str(os.getpid()),
    }
    assert environment["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] == "0"


def test_a_gang_on_several_nodes_meets_at_node_0_with_its_share_of_the_ranks_on_each() -> None:
    settings = replace(SETTINGS, num_nodes=2)
    assert gang_argv(settings, MEETING)[1:] == [
        *("-m", "torch.distributed.run", "--rdzv-backend=c10d", "--rdzv-id=the-gang"),
        *("--rdzv-endpoint=10.0.0.1:29500", "--local-addr=10.0.0.2", "--rdzv-conf=is_host=0"),
        *("--nnodes=2", "--nproc-per-node=2", "--max-restarts=3", "--monitor-interval=0.2"),
        *gang_argv(SETTINGS)[10:],
    ]
    assert "--rdzv-conf=is_host=1" in gang_argv(settings, replace(MEETING, is_host=True))


def test_ranks_on_several_nodes_talk_over_the_interface_that_the_others_reach() -> None:
    assert gang_environment({}, MEETING) == {
        "GLOO_SOCKET_IFNAME": "ib0",
        "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1",
        "AIBENCH_GANG_PID": str(os.getpid()),
        "AIBENCH_GANG_MEETING": "10.0.0.1:29500",
    }
    assert "GLOO_SOCKET_IFNAME" not in gang_environment({}, replace(MEETING, interface=None))
    assert gang_environment({"GLOO_SOCKET_IFNAME": "mine"}, MEETING)["GLOO_SOCKET_IFNAME"] == "mine"


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
