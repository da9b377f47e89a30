"""Where the nodes of one gang meet: torchrun's rendezvous, which node 0 hosts.

The engine tells its address, in order: ``AIBENCH_RENDEZVOUS``; the node list of a SLURM step; else node 0
takes a free port and writes it into the worker's folder, which the nodes share.
"""

from __future__ import annotations

import logging
import re
import shlex
import shutil
import socket
import subprocess
import time
import urllib.parse
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
import psutil

from aibench.api.launcher import worker_folder
from aibench.api.network import source_address
from aibench.api.protocol import ControlAddress
from aibench.errors import LauncherError
from aibench.private_file import write_private
from aibench.worker.placement import SLURM, Place
from aibench.worker.settings import WorkerSettings

logger = logging.getLogger(__name__)

RENDEZVOUS_VARIABLE = "AIBENCH_RENDEZVOUS"
"""Set by an engine that knows where node 0 is: HOST:PORT."""
MEETING_VARIABLE = "AIBENCH_GANG_MEETING"
"""Where a rank finds its gang's rendezvous, to close it."""
PATIENCE_S = 300.0
RETRY_S = 0.2
PROBE_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 5
SCONTROL_TIMEOUT_S = 30.0
STEPS_APART = 101
"""Ports between the first steps of two jobs in a row."""
STEP_PORTS = range(20_000, 30_000)
"""Below the ports that Linux gives out by itself."""


class Appointment(msgspec.Struct, frozen=True, kw_only=True):
    """What the nodes must agree on.

    Attributes:
        id: Tells gangs apart that might meet at one address.
        life: The engine's name of this start of the nodes.
    """

    host: str
    port: int
    id: str
    life: str = ""

    @property
    def endpoint(self) -> str:
        """Host and port as torchrun reads them."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Meeting:
    """An appointment as one node keeps it.

    Attributes:
        address: This node's own for the others.
        interface: Name of the network interface that has it, if one does.
    """

    appointment: Appointment
    is_host: bool
    address: str
    interface: str | None


def arrange_meeting(settings: WorkerSettings, place: Place, environment: Mapping[str, str]) -> Meeting:
    """Agree with the other nodes; returns on node 0 at once, on the others when it can be reached.

    Args:
        place: This node's among those started together: the worker's nodes, or one after another those of
            all workers.

    Raises:
        LauncherError: Node 0 does not answer, or an address cannot be told.
        RunFolderError: The worker's folder cannot be written.
    """
    is_host = place.rank % settings.num_nodes == 0
    file = worker_folder(settings.control_file.parent, settings.worker) / "rendezvous.json"
    settled = _given(settings.worker, environment) or _of_step(place, settings.num_nodes, environment)
    if is_host:
        address = _address_towards_master(settings.control_file)
        appointment = settled or _publish(file, address, place.life)
    else:
        find = (lambda: settled) if settled else (lambda: _read(file, place.life))
        appointment, address = _await_host(settings.worker, find)
    return Meeting(appointment=appointment, is_host=is_host, address=address, interface=_interface(address))


def close_meeting(environment: Mapping[str, str]) -> None:
    """Tell the other nodes of this rank's gang, if it has any, not to start their ranks again.

    A node that merely ends is waited for instead, as its engine may replace it.
    """
    if MEETING_VARIABLE not in environment:
        return
    from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousParameters
    from torch.distributed.elastic.rendezvous.registry import get_rendezvous_handler

    num_nodes = int(environment["GROUP_WORLD_SIZE"])
    parameters = RendezvousParameters(
        backend="c10d",
        endpoint=environment[MEETING_VARIABLE],
        run_id=environment["TORCHELASTIC_RUN_ID"],
        min_nodes=num_nodes,
        max_nodes=num_nodes,
        is_host=False,
        read_timeout=CLOSE_TIMEOUT_S,
    )
    try:
        get_rendezvous_handler(parameters).shutdown()
    except RendezvousError as error:
        logger.warning("the gang's meeting could not be closed: %s", error)


def _given(worker: str, environment: Mapping[str, str]) -> Appointment | None:
    text = environment.get(RENDEZVOUS_VARIABLE)
    if text is None:
        return None
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise LauncherError(f"{RENDEZVOUS_VARIABLE}: got {text!r}; expected HOST:PORT")
    return Appointment(host=host.strip("[]"), port=int(port), id=worker)


def _of_step(place: Place, num_nodes: int, environment: Mapping[str, str]) -> Appointment | None:
    """What follows from the step that is this gang; None if it is none or cannot be looked up."""
    nodes = environment.get("SLURM_STEP_NODELIST")
    if place.engine != SLURM or place.size != num_nodes or not nodes or not shutil.which("scontrol"):
        return None
    first = _scontrol("hostnames", nodes).split()[0]
    address = re.search(r"\bNodeAddr=(\S+)", _scontrol("node", first))
    if address is None:
        raise LauncherError(f"scontrol show node {first}: says no NodeAddr")
    job, step = int(environment["SLURM_JOB_ID"]), int(environment["SLURM_STEP_ID"])
    port = STEP_PORTS[(job * STEPS_APART + step) % len(STEP_PORTS)]
    return Appointment(host=address[1], port=port, id=place.life, life=place.life)


def _scontrol(*what: str) -> str:
    command = ["scontrol", "show", *what]
    try:
        return subprocess.run(
            command, capture_output=True, text=True, timeout=SCONTROL_TIMEOUT_S, check=True
        ).stdout
    except subprocess.CalledProcessError as error:
        raise LauncherError(f"{shlex.join(command)}: {error.stderr.strip()}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LauncherError(f"{shlex.join(command)}: {error}") from error


def _publish(file: Path, address: str, life: str) -> Appointment:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as free:
        port = free.getsockname()[1]
    appointment = Appointment(host=address, port=port, id=uuid.uuid4().hex, life=life)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_private(file, msgspec.json.encode(appointment))
    return appointment


def _read(file: Path, life: str) -> Appointment | None:
    """What node 0 wrote, unless that was in an earlier life."""
    try:
        appointment = msgspec.json.decode(file.read_bytes(), type=Appointment)
    except (OSError, msgspec.MsgspecError):
        return None
    return appointment if appointment.life == life else None


def _await_host(worker: str, find: Callable[[], Appointment | None]) -> tuple[Appointment, str]:
    """The appointment at which node 0 answers, and this node's address on the way there.

    Where the engine does not tell lives apart, an address left behind by an earlier one is outwaited here.
    """
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if (appointment := find()) is not None and (address := _address_if_open(appointment)):
            return appointment, address
        time.sleep(RETRY_S)
    where = appointment.endpoint if appointment else "an address that it never told"
    raise LauncherError(f"worker {worker}: its node 0 did not answer within {PATIENCE_S:g} s at {where}")


def _address_if_open(appointment: Appointment) -> str | None:
    try:
        with socket.create_connection((appointment.host, appointment.port), PROBE_TIMEOUT_S) as probe:
            return str(probe.getsockname()[0])
    except OSError:
        return None


def _address_towards_master(control_file: Path) -> str:
    """What the master reaches this node by, the other workers' nodes do too."""
    try:
        url = msgspec.json.decode(control_file.read_bytes(), type=ControlAddress).url
        return source_address(urllib.parse.urlsplit(url).hostname or "")
    except (OSError, ValueError) as error:
        raise LauncherError(f"{control_file}: no way to the master's address ({error})") from error


def _interface(address: str) -> str | None:
    for name, addresses in psutil.net_if_addrs().items():
        if any(known.address.partition("%")[0] == address for known in addresses):
            return name
    return None
