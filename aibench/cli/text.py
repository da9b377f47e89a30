"""Text from elsewhere, made fit to print."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with every control character but the newline replaced: a journal may come from anybody."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def cell_text(text: str) -> str:
    """Foreign text for a rich cell: neither markup nor control characters act."""
    from rich import markup

    return markup.escape(printable(text))
