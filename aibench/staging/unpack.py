"""A node's side: what of a parcel is here, and unpacking it, checked, whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import shutil
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

from aibench.api.stage import NodeReport, Parcel, Part
from aibench.errors import StageError
from aibench.staging.listing import MARKER_NAME, listing_of

BLOCK_BYTES = 1024**2


def is_unpacked(parcel: Parcel, destination: Path) -> bool:
    """Whether the folder is there with this content and nothing of it was added, removed or replaced."""
    try:
        marker = (destination / MARKER_NAME).read_text()
        return marker == parcel.digest and listing_of(destination) == parcel.listing
    except OSError:
        return False


def report(parcel: Parcel, destination: Path, parts: Path) -> NodeReport:
    """What this node has."""
    is_complete = is_unpacked(parcel, destination)
    missing = () if is_complete else tuple(p.name for p in parcel.parts if not _is_intact(parts, p))
    return NodeReport(host=socket.gethostname(), is_complete=is_complete, missing=missing)


def unpack(parcel: Parcel, destination: Path, parts: Path) -> bool:
    """Unpack the parts, unless that was done; one at a time on each disk.

    Returns:
        Whether anything was unpacked.

    Raises:
        StageError: A part is absent or damaged, or the disk cannot be written; nothing is left of the try.
    """
    try:
        destination.parent.mkdir(parents=True, exist_ok=True)
        with _alone(destination):
            if is_unpacked(parcel, destination):
                return False
            _unpack(parcel, destination, parts)
            return True
    except (OSError, tarfile.TarError) as error:
        raise StageError(f"{socket.gethostname()}: {destination}: cannot be unpacked ({error})") from error


def _unpack(parcel: Parcel, destination: Path, parts: Path) -> None:
    draft = destination.with_name(destination.name + ".new")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir()
        with (
            io.BufferedReader(_Joiner(parcel, parts), BLOCK_BYTES) as stream,
            tarfile.open(fileobj=stream, mode="r|") as archive,
        ):
            # The parcel is ours, checked by its digests; links out of it, as an environment has, are meant.
            archive.extraction_filter = getattr(tarfile, "tar_filter", None)
            archive.extractall(draft)  # noqa: S202
            while stream.read(BLOCK_BYTES):
                pass
        (draft / MARKER_NAME).write_text(parcel.digest)
        shutil.rmtree(destination, ignore_errors=True)
        draft.rename(destination)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    if not is_unpacked(parcel, destination):
        raise StageError(f"{socket.gethostname()}: {destination}: is not what was packed")


@contextlib.contextmanager
def _alone(destination: Path) -> Iterator[None]:
    """Several workers of a node, or nodes that share a disk, wait for the first."""
    with destination.with_name(destination.name + ".lock").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _is_intact(folder: Path, part: Part) -> bool:
    digest = hashlib.sha256()
    try:
        with (folder / part.name).open("rb") as file:
            while block := file.read(BLOCK_BYTES):
                digest.update(block)
    except OSError:
        return False
    return digest.hexdigest() == part.sha256


class _Joiner(io.RawIOBase):
    """The parts as one stream; each is checked when its end is reached."""

    def __init__(self, parcel: Parcel, folder: Path) -> None:
        self._folder = folder
        self._blocks = self._read_all(parcel)
        self._rest = b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if not self._rest:
            self._rest = next(self._blocks, b"")
        length = min(len(buffer), len(self._rest))
        buffer[:length], self._rest = self._rest[:length], self._rest[length:]
        return length

    def _read_all(self, parcel: Parcel) -> Iterator[bytes]:
        for part in parcel.parts:
            digest = hashlib.sha256()
            with (self._folder / part.name).open("rb") as file:
                while block := file.read(BLOCK_BYTES):
                    digest.update(block)
                    yield block
            if digest.hexdigest() != part.sha256:
                raise StageError(
                    f"{os.uname().nodename}: {self._folder / part.name}: SHA-256 {digest.hexdigest()[:16]}, "
                    f"expected {part.sha256[:16]}"
                )
