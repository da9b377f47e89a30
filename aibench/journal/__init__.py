"""The append-only, hash-chained event log of a run: its only truth."""

from aibench.journal.reader import Journal, read_journal
from aibench.journal.record import GENESIS, Record
from aibench.journal.writer import JournalWriter

__all__ = ["GENESIS", "Journal", "JournalWriter", "Record", "read_journal"]
