"""A real SLURM cluster for tests: what it has, what it runs, how to lose and get back a node."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

WAIT_S = 120.0
HOLD = "#!/bin/bash\nsleep 1000 & trap 'kill $!' TERM; wait\n"


def slurm(*argv: str, stdin: str = "") -> str:
    """Run one of SLURM's programs."""
    done = subprocess.run(argv, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout.strip()


def eventually(condition: Callable[[], bool], what: str, *, wait_s: float = WAIT_S) -> None:
    """Wait for the cluster."""
    deadline = time.monotonic() + wait_s
    while not condition():
        assert time.monotonic() < deadline, f"not within {wait_s:g} s: {what}"
        time.sleep(0.3)


@dataclass(frozen=True, slots=True)
class Allocation:
    """A running job that holds nodes and does nothing."""

    job: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """The dev cluster, known by its configuration file."""

    conf: Path
    nodes: tuple[str, ...]
    has_accounting: bool

    @classmethod
    def found(cls) -> Cluster:
        """The running cluster.

        Raises:
            AssertionError: There is none.
        """
        assert "SLURM_CONF" in os.environ, 'no SLURM: eval "$(slurm/dev-cluster/up 4 | tail -1)"'
        nodes = slurm("sinfo", "--noheader", "--Node", "--partition=debug", "--format=%N").split()
        config = slurm("scontrol", "show", "config")
        accounting = re.search(r"AccountingStorageType\s*=\s*(\S+)", config)
        assert accounting is not None
        return cls(
            conf=Path(os.environ["SLURM_CONF"]),
            nodes=tuple(sorted(set(nodes))),
            has_accounting=accounting[1] not in ("accounting_storage/none", "(null)"),
        )

    @contextlib.contextmanager
    def allocated(self, folder: Path, *, nodes: int | None = None) -> Iterator[Allocation]:
        """A job that holds nodes while the block runs; nothing of it is left afterwards."""
        num_nodes = len(self.nodes) if nodes is None else nodes
        options = ("--no-kill", "--exclusive", f"--nodes={num_nodes}", f"--output={folder}/allocation.log")
        job = slurm("sbatch", "--parsable", "--job-name=held", *options, stdin=HOLD)
        try:
            eventually(lambda: self.state(job) == "RUNNING", "the allocation")
            yield Allocation(job)
        finally:
            slurm("scancel", job)
            eventually(lambda: job not in self.jobs(), "the end of the allocation")

    def state(self, job: str) -> str:
        """SLURM's word for a job."""
        return slurm("squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T")

    def jobs(self) -> list[str]:
        """Numbers of the jobs that wait, run or end."""
        return slurm("squeue", "--noheader", "--format=%A").split()

    def steps(self, job: str) -> dict[str, str]:
        """Node of every step of a worker, by the step's name."""
        listed = slurm("squeue", "--noheader", "--steps", f"--jobs={job}", "--format=%j %N").splitlines()
        found = dict(line.split() for line in listed)
        return {name: node for name, node in found.items() if name not in ("batch", "extern")}

    def lose(self, node: str) -> None:
        """End a node's slurmd and everything that runs below it, as a power cut would."""
        daemon = psutil.Process(self._daemon(node))
        victims = [daemon, *self._processes_of(node)]
        for process in victims:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(signal.SIGKILL)

    def bring_back(self, node: str) -> None:
        """Start a lost node's slurmd, and wait until it takes work."""
        with contextlib.suppress(AssertionError, psutil.NoSuchProcess):
            assert psutil.Process(self._daemon(node)).name() == "slurmd"
            return
        slurm("slurmd", "-N", node)
        eventually(lambda: self.is_up(node), f"{node} back")

    def is_up(self, node: str) -> bool:
        """Whether a node takes work."""
        word = slurm("sinfo", "--noheader", f"--nodes={node}", "--partition=debug", "--format=%T")
        return word in ("idle", "mixed", "allocated")

    def _daemon(self, node: str) -> int:
        return int((self.conf.parent / f"slurmd.{node}.pid").read_text())

    def _processes_of(self, node: str) -> list[psutil.Process]:
        """Job processes of one emulated node: they carry its name in their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                is_here = environment.get("SLURM_CONF") == str(self.conf)
                if is_here and environment.get("SLURMD_NODENAME") == node:
                    found += [process, *_step_managers(process)]
        return found


def _step_managers(process: psutil.Process) -> list[psutil.Process]:
    return [parent for parent in process.parents() if parent.name() == "slurmstepd"]
