"""The configuration of a run: YAML in, one frozen, validated tree out."""

from aibench.config.load import load_config, ready_made
from aibench.config.model import RunConfig, WorkerGroup
from aibench.config.resolve import ResolvedRun, resolve, resolve_launcher

__all__ = [
    "ResolvedRun",
    "RunConfig",
    "WorkerGroup",
    "load_config",
    "ready_made",
    "resolve",
    "resolve_launcher",
]
