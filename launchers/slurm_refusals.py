"""Why SLURM would not take a job, in words of the configuration."""

from __future__ import annotations

import getpass
from collections.abc import Sequence

from aibench.errors import LauncherError
from launchers.slurm_commands import ask, submit
from launchers.slurm_options import SlurmOptions

_KEYS: Sequence[tuple[str, tuple[str, ...], str]] = (
    ("Invalid partition name", ("partition",), "expected one that `sinfo` lists"),
    (
        "Invalid account or account/partition combination",
        ("account", "partition"),
        "user {user} has no such association (`sacctmgr show assoc user={user}` lists those there are; "
        "an administrator adds one by `sacctmgr add user {user} account=NAME`)",
    ),
    ("Invalid qos", ("qos",), "expected a QOS of `sacctmgr show assoc user={user} format=account,qos`"),
    ("Invalid feature specification", ("constraint",), "expected features of `sinfo -o %f`"),
    ("eservation", ("reservation",), "expected one of `scontrol show reservation` that {user} may use"),
    (
        "time limit",
        ("time_limit_s",),
        "expected at most the partition's MaxTime of `scontrol show partition`",
    ),
    ("generic resource", ("gres",), "expected one of `sinfo -o %G`, with enough of it on each node"),
    ("access the partition", ("partition",), "user {user} may not use it"),
    (
        "node configuration is not available",
        ("nodes", "workers_per_node", "cpus_per_worker_node", "constraint", "gres"),
        "more than the partition's nodes have",
    ),
    ("Node count specification invalid", ("nodes",), "more nodes than the partition may give"),
    ("More processors requested", ("cpus_per_worker_node", "workers_per_node"), "more than its nodes have"),
    ("accounting/QOS policy", ("account", "qos"), "over a limit of the association or QOS of {user}"),
)
"""What sbatch says, the keys under ``launcher`` that it is about, and what to do."""


def require_acceptable(script: str, options: SlurmOptions) -> None:
    """Pass a script that SLURM would take.

    Raises:
        LauncherError: It would not; the line names the key.
    """
    try:
        ask("sbatch", "--test-only", stdin=script)
    except LauncherError as error:
        raise explained(error, options) from error


def submit_acceptable(script: str, options: SlurmOptions) -> int:
    """Submit a script.

    Raises:
        LauncherError: SLURM refused; the line names the key.
    """
    try:
        return submit(script)
    except LauncherError as error:
        raise explained(error, options) from error


def explained(error: LauncherError, options: SlurmOptions) -> LauncherError:
    """The refusal in words of the configuration, or as it was."""
    said = str(error)
    for words, keys, advice in _KEYS:
        if words in said:
            given = {key: getattr(options, key) for key in keys}
            values = ", ".join(f"{key} is {value!r}" for key, value in given.items() if value is not None)
            about = values or f"{keys[0]} is not given"
            return LauncherError(f"launcher: {about}; {advice.format(user=getpass.getuser())} ({said})")
    return error
