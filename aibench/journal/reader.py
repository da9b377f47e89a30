"""Reading a journal back: every line is checked against its hash and its neighbour before it is believed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aibench.errors import JournalError, RunFolderError
from aibench.journal.record import GENESIS, Record, open_line


@dataclass(frozen=True, kw_only=True, slots=True)
class Journal:
    """What a journal file holds.

    Attributes:
        records: All intact records from the first on.
        intact_bytes: Length of their lines.
        damage: Why reading stopped before the end of the file, None when it did not.
        is_cut_off: The damage is one half-written last line, as a crash leaves it.
    """

    records: tuple[Record, ...]
    intact_bytes: int
    damage: JournalError | None
    is_cut_off: bool

    def require_intact(self) -> tuple[Record, ...]:
        """All records of an undamaged, non-empty journal.

        Raises:
            JournalError: It is damaged or empty.
        """
        if self.damage:
            raise self.damage
        if not self.records:
            raise JournalError("the journal is empty", line=1, recoverable=0)
        return self.records


def read_journal(path: Path) -> Journal:
    """Read and check a journal up to its first bad line.

    Raises:
        RunFolderError: The file cannot be opened.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise RunFolderError(f"{path}: not a readable journal ({error.strerror})") from error
    lines = data.split(b"\n")
    tail = lines.pop()
    records: list[Record] = []
    intact_bytes = 0
    for number, line in enumerate(lines, start=1):
        try:
            records.append(_next_record(records, line))
        except ValueError as error:
            damage = JournalError(str(error), line=number, recoverable=len(records))
            return Journal(records=tuple(records), intact_bytes=intact_bytes, damage=damage, is_cut_off=False)
        intact_bytes += len(line) + 1
    damage_at_end = (
        JournalError("cut off in the middle of a line", line=len(lines) + 1, recoverable=len(records))
        if tail
        else None
    )
    return Journal(
        records=tuple(records), intact_bytes=intact_bytes, damage=damage_at_end, is_cut_off=bool(tail)
    )


def _next_record(before: list[Record], line: bytes) -> Record:
    record = open_line(line)
    prev, last_s = (before[-1].hash, before[-1].t_s) if before else (GENESIS, 0.0)
    if record.seq != len(before) + 1:
        raise ValueError(f"record {record.seq} stands where {len(before) + 1} belongs")
    if record.prev != prev:
        raise ValueError("it does not follow the line before it")
    if record.t_s < last_s:
        raise ValueError(f"time goes back from {last_s} s to {record.t_s} s")
    return record
