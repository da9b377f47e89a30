import socket
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from aibench.api.protocol import ControlAddress
from aibench.errors import LauncherError
from aibench.worker import meeting as meeting_module
from aibench.worker.meeting import Appointment, Meeting, arrange_meeting
from aibench.worker.placement import Place
from aibench.worker.settings import WorkerSettings

STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "3", "SLURM_STEP_NODELIST": "n[1-2]"}


@pytest.fixture
def settings(tmp_path: Path) -> WorkerSettings:
    control = tmp_path / "control.json"
    control.write_bytes(msgspec.json.encode(ControlAddress(url="http://127.0.0.1:9", token="secret")))
    return WorkerSettings(
        control_file=control, worker="w3", num_ranks=4, num_nodes=2, device="cpu", first_device=0
    )


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as made:
        yield made


def place(rank: int, life: str = "") -> Place:
    return Place(engine="Open MPI", rank=rank, size=2, life=life)


def file_of(settings: WorkerSettings) -> Path:
    return settings.control_file.parent / "workers" / "w3" / "rendezvous.json"


def leave_appointment(settings: WorkerSettings, appointment: Appointment) -> None:
    file_of(settings).parent.mkdir(parents=True, exist_ok=True)
    file_of(settings).write_bytes(msgspec.json.encode(appointment))


def meet_in_thread(settings: WorkerSettings, life: str) -> tuple[threading.Thread, list[Meeting]]:
    found: list[Meeting] = []
    thread = threading.Thread(target=lambda: found.append(arrange_meeting(settings, place(1, life), {})))
    thread.start()
    return thread, found


def test_node_0_tells_a_free_port_to_those_who_may_read_the_run_folder(settings: WorkerSettings) -> None:
    meeting = arrange_meeting(settings, place(0, "a life"), {})
    assert meeting.is_host
    assert (meeting.address, meeting.interface) == ("127.0.0.1", "lo")
    assert msgspec.json.decode(file_of(settings).read_bytes(), type=Appointment) == meeting.appointment
    assert (meeting.appointment.host, meeting.appointment.life) == ("127.0.0.1", "a life")
    assert stat.S_IMODE(file_of(settings).stat().st_mode) == 0o600
    with socket.create_server(("127.0.0.1", meeting.appointment.port)):
        pass


def test_every_start_of_node_0_makes_another_appointment(settings: WorkerSettings) -> None:
    first = arrange_meeting(settings, place(0), {}).appointment
    assert arrange_meeting(settings, place(0), {}).appointment.id != first.id


def test_the_other_nodes_keep_it_once_node_0_answers(
    settings: WorkerSettings, listener: socket.socket
) -> None:
    appointment = Appointment(host="127.0.0.1", port=listener.getsockname()[1], id="x", life="now")
    leave_appointment(settings, appointment)
    assert arrange_meeting(settings, place(1, "now"), {}) == Meeting(
        appointment=appointment, is_host=False, address="127.0.0.1", interface="lo"
    )


def test_what_an_earlier_life_left_behind_is_not_believed(
    settings: WorkerSettings, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    leave_appointment(settings, Appointment(host="127.0.0.1", port=port, id="old", life="before"))
    thread, found = meet_in_thread(settings, "now")
    thread.join(3 * meeting_module.RETRY_S)
    assert found == []
    leave_appointment(settings, Appointment(host="127.0.0.1", port=port, id="new", life="now"))
    thread.join(30)
    assert [meeting.appointment.id for meeting in found] == ["new"]


def test_where_lives_have_no_names_a_dead_address_is_outwaited(
    settings: WorkerSettings, listener: socket.socket
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        dead_port = closed.getsockname()[1]
    leave_appointment(settings, Appointment(host="127.0.0.1", port=dead_port, id="old"))
    thread, found = meet_in_thread(settings, "")
    thread.join(3 * meeting_module.RETRY_S)
    assert found == []
    port = listener.getsockname()[1]
    leave_appointment(settings, Appointment(host="127.0.0.1", port=port, id="new"))
    thread.join(30)
    assert [meeting.appointment.id for meeting in found] == ["new"]


@pytest.mark.parametrize("content", [None, b"", b"{}"])
def test_a_node_0_that_never_answers_is_given_up_in_one_line(
    settings: WorkerSettings, monkeypatch: pytest.MonkeyPatch, content: bytes | None
) -> None:
    monkeypatch.setattr(meeting_module, "PATIENCE_S", 0.1)
    file_of(settings).parent.mkdir(parents=True)
    if content is not None:
        file_of(settings).write_bytes(content)
    with pytest.raises(LauncherError) as refused:
        arrange_meeting(settings, place(1), {})
    assert str(refused.value) == (
        "worker w3: its node 0 did not answer within 0.1 s at an address that it never told"
    )


def test_an_address_that_the_engine_tells_is_taken_and_no_file_written(
    settings: WorkerSettings, listener: socket.socket
) -> None:
    port = listener.getsockname()[1]
    given = {"AIBENCH_RENDEZVOUS": f"localhost:{port}"}
    host, other = (arrange_meeting(settings, place(rank), given) for rank in (0, 1))
    assert host.appointment == other.appointment == Appointment(host="localhost", port=port, id="w3")
    assert (host.is_host, other.is_host) == (True, False)
    assert not file_of(settings).exists()


@pytest.mark.parametrize("text", ["", "host", "host:", ":80", "host:0", "host:65536", "host:x"])
def test_an_address_without_a_host_or_a_port_is_refused(settings: WorkerSettings, text: str) -> None:
    with pytest.raises(LauncherError) as refused:
        arrange_meeting(settings, place(0), {"AIBENCH_RENDEZVOUS": text})
    assert str(refused.value) == f"AIBENCH_RENDEZVOUS: got {text!r}; expected HOST:PORT"


def test_endpoints_of_the_sixth_version_are_bracketed() -> None:
    assert Appointment(host="fd00::2", port=80, id="x").endpoint == "[fd00::2]:80"
    assert Appointment(host="n1", port=80, id="x").endpoint == "n1:80"


def install_scontrol(folder: Path, monkeypatch: pytest.MonkeyPatch, node: str) -> None:
    """A program that answers as SLURM 22.05 does."""
    script = folder / "bin" / "scontrol"
    script.parent.mkdir()
    script.write_text(
        "#!/bin/sh\n"
        'case "$2 $3" in\n'
        '  "hostnames n[1-2]") printf "n1\\nn2\\n";;\n'
        f'  "node n1") {node};;\n'
        '  *) echo "unexpected: $*" >&2; exit 3;;\n'
        "esac\n"
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(script.parent), prepend=":")


def step_place(size: int = 2) -> Place:
    return Place(engine="SLURM", rank=0, size=size, life="7.3")


def test_a_step_meets_on_its_first_node_at_a_port_and_under_an_id_of_its_own(
    settings: WorkerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says = 'echo "NodeName=n1 Arch=x86_64"; echo "   NodeAddr=10.9.8.7 NodeHostName=n1 Version=22.05.8"'
    install_scontrol(tmp_path, monkeypatch, says)
    meeting = arrange_meeting(settings, step_place(), STEP)
    assert meeting.appointment == Appointment(host="10.9.8.7", port=20710, id="7.3", life="7.3")
    assert not file_of(settings).exists()


def test_a_step_of_several_workers_agrees_by_file(
    settings: WorkerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install_scontrol(tmp_path, monkeypatch, "exit 1")
    arrange_meeting(settings, step_place(size=4), STEP)
    assert file_of(settings).exists()


def test_without_scontrol_on_the_nodes_a_step_agrees_by_file(
    settings: WorkerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    arrange_meeting(settings, step_place(), STEP)
    assert file_of(settings).exists()


@pytest.mark.parametrize(
    ("node", "problem"),
    [
        ('echo "Node n1 not found" >&2; exit 1', "scontrol show node n1: Node n1 not found"),
        ('echo "NodeName=n1"', "scontrol show node n1: says no NodeAddr"),
    ],
)
def test_a_controller_that_does_not_tell_is_one_line(
    settings: WorkerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, node: str, problem: str
) -> None:
    install_scontrol(tmp_path, monkeypatch, node)
    with pytest.raises(LauncherError) as refused:
        arrange_meeting(settings, step_place(), STEP)
    assert str(refused.value) == problem


@pytest.mark.parametrize("content", [b"{}", b'{"url": "http://no.such.host.invalid:1", "token": "t"}'])
def test_a_master_that_cannot_be_found_is_one_line(settings: WorkerSettings, content: bytes) -> None:
    settings.control_file.write_bytes(content)
    with pytest.raises(LauncherError, match=r"control\.json: no way to the master's address"):
        arrange_meeting(settings, place(0), {})


def test_nodes_of_all_workers_are_numbered_one_after_another(settings: WorkerSettings) -> None:
    of_second_worker = Place(engine="Open MPI", rank=2, size=4)
    assert arrange_meeting(settings, of_second_worker, {}).is_host
