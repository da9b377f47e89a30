"""Recorded trainings on small data sets, for feature-guided searches."""

from __future__ import annotations

from importlib import resources

import msgspec

from aibench.api.features import ExperienceTable

TABLE = "table.json"


def load_experience() -> ExperienceTable:
    """The table that comes with the package."""
    text = (resources.files(__name__) / TABLE).read_bytes()
    return msgspec.json.decode(text, type=ExperienceTable)
