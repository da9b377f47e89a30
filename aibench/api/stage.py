"""What is brought to the local disks of nodes before a run's clock starts: the data set, the environment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

MANIFEST_NAME = "manifest.json"
Say = Callable[[str], None]
"""Takes one line of progress."""


class Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One file of a parcel, a piece of its tar stream."""

    name: str
    size_bytes: int
    sha256: str


class Parcel(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A folder, packed as a tar stream in parts.

    Attributes:
        listing: SHA-256 over the paths, kinds, sizes and times of everything in the folder.
    """

    name: str
    listing: str
    parts: tuple[Part, ...]

    @property
    def size_bytes(self) -> int:
        """Of all parts together."""
        return sum(part.size_bytes for part in self.parts)

    @property
    def digest(self) -> str:
        """What names this content."""
        return hashlib.sha256(" ".join(part.sha256 for part in self.parts).encode()).hexdigest()


@dataclass(frozen=True, kw_only=True, slots=True)
class StageOrder:
    """A parcel to bring to nodes.

    Attributes:
        source: Folder with the manifest and all parts; every node sees it, but should not read it at once.
        directory: Folder on the nodes' local disks.
    """

    parcel: Parcel
    source: Path
    directory: Path

    @property
    def manifest(self) -> Path:
        """The parcel's description."""
        return self.source / MANIFEST_NAME

    @property
    def destination(self) -> Path:
        """Where the folder's content ends up on each node; its name changes with the content."""
        return self.directory / f"{self.parcel.name}-{self.parcel.digest[:16]}"

    @property
    def incoming(self) -> Path:
        """Where parts wait on a node until all are there."""
        return self.directory / f"{self.destination.name}.parts"


def staged_arguments(order: StageOrder) -> tuple[str, ...]:
    """What Python runs on a node to tell, as one line of JSON (`NodeReport`), what is there already."""
    return (*_arguments("staged", order), "--parts", str(order.incoming))


def unpack_arguments(order: StageOrder, parts: Path) -> tuple[str, ...]:
    """What Python runs on a node to unpack parts that lie in a folder it can read."""
    return (*_arguments("unpack", order), "--parts", str(parts))


def broadcast_arguments(order: StageOrder) -> tuple[str, ...]:
    """What Python runs once on each node of an MPI job to bring the parcel to all of them."""
    return (*_arguments("broadcast", order), "--parts", str(order.incoming))


class NodeReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one node has of a parcel.

    Attributes:
        missing: Parts that are neither unpacked nor waiting there intact.
    """

    host: str
    is_complete: bool
    missing: tuple[str, ...]


def _arguments(command: str, order: StageOrder) -> tuple[str, ...]:
    return (
        *("-m", "aibench", command, "--manifest", str(order.manifest)),
        *("--into", str(order.destination)),
    )
