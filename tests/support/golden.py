"""Comparing a text with a file of ``tests/data``."""

from __future__ import annotations

import os
from pathlib import Path

DATA = Path(__file__).parents[1] / "data"
WRITE_VARIABLE = "WRITE_GOLDEN"


def check_golden(name: str, text: str) -> None:
    """Compare a text with the golden file of that name or, if asked to, write it.

    Raises:
        AssertionError: They differ; the message has the command that writes the file.
    """
    path = DATA / name
    if os.environ.get(WRITE_VARIABLE):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    test = os.environ["PYTEST_CURRENT_TEST"].split(" ")[0]
    known = path.read_text() if path.exists() else ""
    assert text == known, (
        f"tests/data/{name} differs; if it should: {WRITE_VARIABLE}=1 python -m pytest '{test}'"
    )
