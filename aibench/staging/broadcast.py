"""One process per node brings a parcel to all of them: MPI's own broadcast carries the parts."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from aibench.api.stage import Parcel, Part, Say
from aibench.errors import StageError
from aibench.staging.unpack import report, unpack

if TYPE_CHECKING:
    from mpi4py.MPI import Comm

BLOCK_BYTES = 16 * 1024**2
MIB = 1024**2


def broadcast(parcel: Parcel, source: Path, destination: Path, incoming: Path, say: Say) -> None:
    """Send the parts that any node misses from the first node's source, then unpack on every node.

    Called on all processes of an MPI job, one on each node.

    Raises:
        StageError: mpi4py is absent, a part cannot be read, or this node cannot take it.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise StageError(
            f"staging by MPI needs mpi4py in this Python ({error}); install aibench-suite[mpi]"
        ) from error
    world = MPI.COMM_WORLD
    mine = report(parcel, destination, incoming)
    wanted = np.array([part.name in mine.missing for part in parcel.parts], dtype=np.uint8)
    world.Allreduce(MPI.IN_PLACE, wanted, op=MPI.MAX)
    parts = [part for part, is_wanted in zip(parcel.parts, wanted, strict=True) if is_wanted]
    is_first = world.Get_rank() == 0
    if is_first and not parts:
        say(f"{parcel.name}: is on all {world.Get_size()} nodes already, or waits there to be unpacked")
    try:
        incoming.mkdir(parents=True, exist_ok=True)
        began_s, sent_bytes = MPI.Wtime(), 0
        for part in parts:
            _send(world, part, source / part.name, incoming / part.name)
            sent_bytes += part.size_bytes
            if is_first:
                rate = sent_bytes / MIB / max(MPI.Wtime() - began_s, 1e-3)
                sent = f"{sent_bytes / MIB:.0f} MiB sent to {world.Get_size()} nodes"
                say(f"{parcel.name}: {sent}, {rate:.0f} MiB/s each")
    except OSError as error:
        raise StageError(f"{parcel.name}: {error}") from error
    unpack(parcel, destination, incoming)


def _send(world: Comm, part: Part, source: Path, target: Path) -> None:
    """One part, block by block, into a file of every node; whole or not at all."""
    draft = target.with_name(f"{target.name}.{world.Get_rank()}.new")
    reader = source.open("rb") if world.Get_rank() == 0 else None
    with draft.open("wb") as file:
        for start in range(0, part.size_bytes, BLOCK_BYTES):
            size_bytes = min(BLOCK_BYTES, part.size_bytes - start)
            block = bytearray(reader.read(size_bytes) if reader else size_bytes)
            world.Bcast(block, root=0)
            file.write(block)
    if reader:
        reader.close()
    draft.replace(target)
