"""The one process that owns search, journal, clock and score of a run."""
