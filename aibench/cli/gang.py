"""What launchers, torchrun and the master call; people rarely do."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from aibench.worker.placement import Place

control_option = click.option(
    "--control",
    "control_file",
    type=click.Path(path_type=Path, dir_okay=False),
    required=True,
    help="File with the master's address and token.",
)
worker_option = click.option("--worker", required=True, help="Name of the worker.")
device_option = click.option(
    "--device", default="auto", show_default=True, help="cpu, auto, simulated, or a device type of torch."
)

first_device_option = click.option(
    "--first-device",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Accelerators of this node that other workers use before this one's.",
)


@click.command("worker", hidden=True)
@control_option
@click.option("--worker", help="Name of the worker.")
@click.option("--pool", help="Instead of a name: ask the master which worker of this pool to be.")
@click.option("--ranks", type=click.IntRange(min=1), default=1, show_default=True, help="Processes.")
@click.option(
    "--nodes",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Nodes that share the ranks; this is one of them.",
)
@device_option
@first_device_option
def worker_command(
    control_file: Path,
    worker: str | None,
    pool: str | None,
    ranks: int,
    nodes: int,
    device: str,
    first_device: int,
) -> None:
    """Start a worker's gang on this node; launchers call this.

    With neither --worker nor --pool, the rank that mpirun or srun gave this process says which worker it is:
    rank 0 is w0 or, with --nodes 2, ranks 0 and 1 are.

    \b
    Example:
      aibench worker --control runs/x/control.json --worker w0 --ranks 2 --device cpu
      aibench worker --control runs/x/control.json --worker w1 --ranks 8 --device simulated
      mpirun -np 8 aibench worker --control runs/x/control.json --ranks 4
    """
    from aibench.api.launcher import SIMULATED
    from aibench.worker.agent import become_gang
    from aibench.worker.meeting import arrange_meeting
    from aibench.worker.settings import WorkerSettings

    if ranks % nodes or (pool is not None and nodes > 1):
        raise click.UsageError(f"--nodes {nodes}: expected a divisor of --ranks {ranks}, and no --pool")
    place = _place(nodes, is_named=worker is not None) if pool is None else None
    if worker is None and place is not None:
        worker = f"w{place.rank // nodes}"
        first_device += (place.local_rank or 0) * (ranks // nodes)
    name = _worker_name(control_file, worker, pool)
    if name is None:
        return
    settings = WorkerSettings(
        control_file=control_file,
        worker=name,
        num_ranks=ranks,
        num_nodes=nodes,
        device=device,
        first_device=first_device,
    )
    if device == SIMULATED:
        from aibench.worker.simulated import run_simulated

        _log_to_stderr()
        run_simulated(settings)
    else:
        become_gang(settings, arrange_meeting(settings, place, os.environ) if place and nodes > 1 else None)


@click.command("rank", hidden=True)
@control_option
@worker_option
@device_option
@first_device_option
def rank_command(control_file: Path, worker: str, device: str, first_device: int) -> None:
    """Be one rank of a worker; torchrun calls this."""
    from aibench.worker.rank import RankSettings, run_rank

    _log_to_stderr()
    run_rank(RankSettings(control_file=control_file, worker=worker, device=device, first_device=first_device))


@click.command("trainer", hidden=True)
def trainer_command() -> None:
    """Train the trials that come as JSON lines on standard input; compare-search starts this."""
    from aibench.worker.trainer import run_trainer

    _log_to_stderr()
    run_trainer()


@click.command("proposer", hidden=True)
@control_option
@worker_option
@click.option("--incarnation", required=True, help="The life of the worker's gang that it belongs to.")
@click.option("--parent", type=int, required=True, help="Process id of the rank that it ends with.")
def proposer_command(control_file: Path, worker: str, incarnation: str, parent: int) -> None:
    """Search beside a worker's training, as standard input says; rank 0 calls this."""
    from aibench.worker.parent import end_with_parent

    end_with_parent(parent)

    import msgspec

    from aibench.api.protocol import SearchBrief
    from aibench.worker.proposer import Proposer

    _log_to_stderr()
    brief = msgspec.json.decode(sys.stdin.buffer.read(), type=SearchBrief)
    Proposer(control_file, brief, worker=worker, incarnation=incarnation).run()


@click.command("devices", hidden=True)
def devices_command() -> None:
    """Print this node's devices as JSON."""
    import msgspec

    from aibench.worker.inventory import take_inventory

    click.echo(msgspec.json.encode(take_inventory()).decode())


@click.command("network-features", hidden=True)
@click.argument("workload")
def network_features_command(workload: str) -> None:
    """Print features of WORKLOAD's initial network as JSON; its options come from standard input, as JSON."""
    import msgspec

    from aibench.api.features import NetworkFeatures
    from aibench.config.validate import to_section
    from aibench.registry import workload_type

    kind = workload_type(workload)
    try:
        given = msgspec.json.decode(sys.stdin.buffer.read())
    except msgspec.DecodeError as error:
        raise click.UsageError(f"standard input: not JSON ({error})") from error
    options = to_section(given, kind.options_type, path="workload")
    try:
        found = NetworkFeatures(features=dict(kind(options).network_features()))
    except ModuleNotFoundError as error:
        found = NetworkFeatures(features={}, absent=error.name)
    click.echo(msgspec.json.encode(found).decode())


def _worker_name(control_file: Path, worker: str | None, pool: str | None) -> str | None:
    """The name given or, by the master, found; None if the run is over."""
    if (worker is None) == (pool is None):
        raise click.UsageError("give either --worker or --pool")
    if pool is None:
        return worker
    from aibench.worker.enlist import enlist

    return enlist(control_file, pool)


def _place(num_nodes: int, *, is_named: bool) -> Place | None:
    """This process among its gang's nodes or, without a name, among the nodes of all workers."""
    from aibench.worker.placement import find_place, node_place

    if is_named:
        return node_place(os.environ, num_nodes) if num_nodes > 1 else None
    place = find_place(os.environ)
    if place is None:
        raise click.UsageError("give --worker or --pool; only a process of mpirun or srun can do without")
    return place


def _log_to_stderr() -> None:
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(name)s: %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
