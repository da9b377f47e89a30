"""The state of a folder as one digest, without reading its files."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path

MARKER_NAME = ".aibench-stage.json"


def walk(folder: Path) -> Iterator[Path]:
    """Everything in a folder in a fixed order, folders before what is in them; links are not followed."""
    for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
        path = Path(entry.path)
        if path.name == MARKER_NAME:
            continue
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from walk(path)


def listing_of(folder: Path) -> str:
    """SHA-256 over path, kind, size and time of everything in the folder; sizes and times of files only.

    Raises:
        OSError: It cannot be read.
    """
    digest = hashlib.sha256()
    for path in walk(folder):
        digest.update(_line(path, path.relative_to(folder)))
    return digest.hexdigest()


def _line(path: Path, name: Path) -> bytes:
    found = path.lstat()
    facts = [os.fsencode(name), str(stat.S_IFMT(found.st_mode)).encode()]
    if stat.S_ISREG(found.st_mode):
        facts += [str(found.st_size).encode(), str(int(found.st_mtime)).encode()]
    if stat.S_ISLNK(found.st_mode):
        facts.append(os.fsencode(os.readlink(path)))
    return b"\0".join(facts) + b"\n"
