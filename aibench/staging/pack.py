"""Packing a folder into a parcel: a tar stream in parts of bounded size, each with its checksum."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tarfile
import time
from pathlib import Path

import msgspec

from aibench.api.stage import MANIFEST_NAME, Parcel, Part, Say
from aibench.errors import StageError
from aibench.score.units import binary
from aibench.staging.listing import listing_of, walk

PART_BYTES = 256 * 1024**2
SAY_EVERY_S = 5.0


def pack(source: Path, folder: Path, *, name: str, say: Say, part_bytes: int = PART_BYTES) -> Parcel:
    """Pack ``source`` into ``folder``, unless it lies there already and has not changed since.

    Raises:
        StageError: The source cannot be read or the folder not written.
    """
    try:
        listing = listing_of(source)
        packed = _packed_before(folder, listing)
        if packed is not None:
            say(f"{name}: packed before, unchanged since ({binary(packed.size_bytes)})")
            return packed
        folder.mkdir(parents=True, exist_ok=True)
        parts = _pack(source, folder, name, part_bytes, say)
        parcel = Parcel(name=name, listing=listing, parts=parts)
        if listing_of(source) != listing:
            raise StageError(f"{source}: changed while it was packed")
        (folder / MANIFEST_NAME).write_bytes(msgspec.json.encode(parcel))
    except (OSError, tarfile.TarError) as error:
        raise StageError(f"{source}: cannot be packed into {folder} ({error})") from error
    return parcel


def read_parcel(manifest: Path) -> Parcel:
    """The parcel that a manifest describes.

    Raises:
        StageError: It cannot be read.
    """
    try:
        return msgspec.json.decode(manifest.read_bytes(), type=Parcel)
    except (OSError, msgspec.MsgspecError) as error:
        raise StageError(f"{manifest}: is no manifest of a parcel ({error})") from error


def _packed_before(folder: Path, listing: str) -> Parcel | None:
    with contextlib.suppress(StageError, OSError):
        parcel = read_parcel(folder / MANIFEST_NAME)
        sizes = [(folder / part.name).stat().st_size for part in parcel.parts]
        if parcel.listing == listing and sizes == [part.size_bytes for part in parcel.parts]:
            return parcel
    return None


def _pack(source: Path, folder: Path, name: str, part_bytes: int, say: Say) -> tuple[Part, ...]:
    (folder / MANIFEST_NAME).unlink(missing_ok=True)
    began_s = said_s = time.monotonic()
    with _Splitter(folder, part_bytes) as splitter:
        with tarfile.open(fileobj=splitter, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            for path in walk(source):
                archive.add(path, arcname=str(path.relative_to(source)), recursive=False, filter=_anonymous)
                if time.monotonic() - said_s > SAY_EVERY_S:
                    said_s = time.monotonic()
                    say(f"{name}: {rate_text(splitter.size_bytes, said_s - began_s)} packed")
        splitter.finish()
    say(f"{name}: {rate_text(splitter.size_bytes, time.monotonic() - began_s)} packed, all")
    return tuple(splitter.parts)


def rate_text(size_bytes: int, elapsed_s: float) -> str:
    """How much in how long, for people."""
    return f"{binary(size_bytes)} in {elapsed_s:.1f} s ({binary(int(size_bytes / max(elapsed_s, 1e-3)))}/s)"


def _anonymous(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owners of one machine mean nothing on another."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


class _Splitter(io.RawIOBase):
    """A stream that becomes part files."""

    def __init__(self, folder: Path, part_bytes: int) -> None:
        self.parts: list[Part] = []
        self.size_bytes = 0
        self._folder = folder
        self._part_bytes = part_bytes
        self._open_part()

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        view = memoryview(data)
        while view:
            piece = view[: self._part_bytes - self._filled]
            self._file.write(piece)
            self._hash.update(piece)
            self._filled += len(piece)
            view = view[len(piece) :]
            if self._filled == self._part_bytes:
                self._close_part()
                self._open_part()
        self.size_bytes += len(data)
        return len(data)

    def finish(self) -> None:
        """End the last part."""
        if self._filled:
            self._close_part()

    def close(self) -> None:
        self._file.close()
        super().close()

    def _open_part(self) -> None:
        self._filled, self._hash = 0, hashlib.sha256()
        self._file = (self._folder / self._name).open("wb")

    @property
    def _name(self) -> str:
        return f"part-{len(self.parts):05d}"

    def _close_part(self) -> None:
        self._file.close()
        self.parts.append(Part(name=self._name, size_bytes=self._filled, sha256=self._hash.hexdigest()))
