"""``python -m aibench``: the same as the command, for environments without scripts on the path."""

from aibench.cli import main

main()
