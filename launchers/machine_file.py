"""Hosts and their slots, as MPI's machine files list them, and workers shared out among them."""

from __future__ import annotations

import os
import re
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from aibench.api.launcher import WorkerSpec
from aibench.errors import LauncherError

LOCALHOST = "localhost"

_LINE = re.compile(
    r"(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+)"
    r"(?::(?P<mpich>\d+))?"
    r"(?:\s+slots\s*=\s*(?P<slots>\d+))?(?:\s+max[-_]slots\s*=\s*\d+)?"
)


@dataclass(frozen=True, slots=True)
class Seat:
    """A worker's place on one host: its first device comes after those of the workers before it."""

    host: str
    first_device: int


def read_machines(path: Path) -> Mapping[str, int]:
    """Slots of every host, in order; a host that is listed again has more of them.

    Both habits are understood: ``host slots=8`` of Open MPI and ``host:8`` of MPICH; without a number, one.

    Raises:
        LauncherError: The file cannot be read, lists no host, or a line is none of these.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise LauncherError(f"launcher.machine_file: {path} cannot be read ({error})") from error
    machines: dict[str, int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        match = _LINE.fullmatch(text)
        slots = int(match["slots"] or match["mpich"] or 1) if match else 0
        if match is None or slots < 1 or (match["slots"] and match["mpich"]):
            raise LauncherError(
                f"launcher.machine_file: {path} line {number}: got {text!r}; "
                "expected HOST, HOST slots=N or HOST:N, N from 1 on"
            )
        machines[match["host"]] = machines.get(match["host"], 0) + slots
    if not machines:
        raise LauncherError(f"launcher.machine_file: {path}: lists no host")
    return machines


def this_machine() -> Mapping[str, int]:
    """This machine alone, with a slot for every core."""
    return {LOCALHOST: len(os.sched_getaffinity(0))}


def share_out(workers: Sequence[WorkerSpec], machines: Mapping[str, int]) -> dict[str, list[Seat]]:
    """Seats of every worker, each on hosts of its own choice among the first that have room.

    Raises:
        LauncherError: Too few slots, where sharing them was not allowed.
    """
    used = dict.fromkeys(machines, 0)
    seats = {}
    for worker in workers:
        room = {host: machines[host] - used[host] for host in machines}
        hosts = [host for host in machines if room[host] >= worker.ranks_per_node]
        if len(hosts) < worker.num_nodes and worker.oversubscribe:
            hosts = sorted(machines, key=lambda host: -room[host])
        if len(hosts) < worker.num_nodes:
            raise LauncherError(_too_few(worker, machines, used))
        chosen = hosts[: worker.num_nodes]
        seats[worker.worker] = [Seat(host, used[host]) for host in chosen]
        for host in chosen:
            used[host] += worker.ranks_per_node
    return seats


def _too_few(worker: WorkerSpec, machines: Mapping[str, int], used: Mapping[str, int]) -> str:
    hint = "" if len(machines) < worker.num_nodes else " (or oversubscribe: true)"
    return (
        f"worker {worker.worker}: {worker.num_ranks} ranks need {worker.ranks_per_node} free slots on each "
        f"of {worker.num_nodes} hosts; the workers before it use {sum(used.values())} of the "
        f"{sum(machines.values())} slots on {len(machines)} hosts{hint}"
    )


def is_here(host: str) -> bool:
    """Whether a name or an address is this machine's."""
    if host in (LOCALHOST, socket.gethostname()):
        return True
    known = {address.address for addresses in psutil.net_if_addrs().values() for address in addresses}
    try:
        found = socket.getaddrinfo(host.strip("[]"), None)
    except OSError:
        return False  # known to ssh only
    return any(str(entry[4][0]) in known for entry in found)
