"""A real SLURM cluster for tests: what it has, what it runs, how to lose and get back a node."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
from support.journal_checks import missing_acknowledged, problems
from support.real_run import Run

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

    def steps(self, job: str) -> list[tuple[str, str, str]]:
        """Number, name and node of every step of a worker, in the order of their start."""
        listed = slurm("squeue", "--noheader", "--steps", f"--jobs={job}", "--format=%i %j %N").splitlines()
        found = [(number, name, node) for number, name, node in map(str.split, listed) if "." in name]
        return sorted(found, key=lambda step: int(step[0].partition(".")[2]))

    def step_of(self, job: str, worker: str) -> tuple[str, str]:
        """Number and node of a worker's latest step."""
        return [(number, node) for number, name, node in self.steps(job) if name.endswith(f".{worker}")][-1]

    def array_nodes(self) -> dict[str, str]:
        """Node of every running element of a job array, by its index."""
        listed = slurm("squeue", "--noheader", "--array", "--states=RUNNING", "--format=%K %N").splitlines()
        return {line.split()[0]: line.split()[1] for line in listed}

    def clean_up(self) -> None:
        """End all jobs and bring all nodes back."""
        if jobs := self.jobs():
            slurm("scancel", *jobs)
        for node in self.nodes:
            self.bring_back(node)
        eventually(lambda: not self.jobs(), "the end of all jobs")

    def lose(self, node: str) -> None:
        """End a node's slurmd and everything that runs below it, as a power cut would."""
        for process in (psutil.Process(self._daemon(node)), *self.processes_of(node)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()

    def bring_back(self, node: str, *before: str) -> None:
        """Start a lost node's slurmd, and wait until it takes work.

        Args:
            before: What the command line of slurmd follows.
        """
        if not self._is_daemon_alive(node):
            slurm(*before, "slurmd", "-N", node)
        if self._is_drained(node):
            slurm("scontrol", "update", f"NodeName={node}", "State=RESUME")
        eventually(lambda: self.is_up(node), f"{node} back")

    def is_up(self, node: str) -> bool:
        """Whether a node takes work."""
        word = slurm("sinfo", "--noheader", f"--nodes={node}", "--partition=debug", "--format=%T")
        return word in ("idle", "mixed", "allocated")

    def processes_of(self, node: str) -> list[psutil.Process]:
        """Processes of jobs on one emulated node, which carry its name in their environment."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                environment = process.environ()
                is_here = environment.get("SLURM_CONF") == str(self.conf)
                if is_here and environment.get("SLURMD_NODENAME") == node:
                    found += [process, *_step_managers(process)]
        return found

    def _daemon(self, node: str) -> int:
        return int((self.conf.parent / f"slurmd.{node}.pid").read_text())

    def _is_daemon_alive(self, node: str) -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self._daemon(node)).name() == "slurmd"
        return False

    def _is_drained(self, node: str) -> bool:
        return "drain" in slurm("sinfo", "--noheader", f"--nodes={node}", "--partition=debug", "--format=%T")


def _step_managers(process: psutil.Process) -> list[psutil.Process]:
    return [parent for parent in process.parents() if parent.name() == "slurmstepd"]


class ClusterRun:
    """A run of the real command line whose workers are on the cluster."""

    def __init__(self, run: Run, cluster: Cluster) -> None:
        self.run = run
        self._cluster = cluster

    @property
    def job(self) -> str:
        """The job of the submitted master."""
        return str(json.loads((self.run.root / "submission.json").read_text())["reference"])

    def is_over(self) -> bool:
        """Whether the master has sealed its run and nothing of it is left in SLURM."""
        return bool(self.run.events("run_ended")) and self.job not in self._cluster.jobs()

    def wait_for_epochs(self, count: int, *, worker: str | None = None) -> None:
        """Wait for so many finished epochs, or so many of one worker."""
        eventually(lambda: self.num_epochs(worker) >= count, f"{count} epochs {self.output()}")

    def num_epochs(self, worker: str | None = None) -> int:
        """Finished epochs so far."""
        trials = {
            event["spec"]["trial"]
            for event in self.run.events("trial_claimed")
            if worker in (None, event["worker"])
        }
        return sum(event["trial"] in trials for event in self.run.events("epoch_finished"))

    def output(self) -> str:
        """What master and workers have printed."""
        logs = [self.run.root / "master.log", *sorted(self.run.root.glob("workers/*/*.log"))]
        return "\n".join(path.read_text() for path in logs if path.exists())

    def require_sound(self) -> None:
        """Check that the journal is whole and sealed, that no acknowledged epoch is missing and none there
        twice, and that nothing is left of the run."""
        journal = (self.run.root / "journal.jsonl").read_bytes()
        assert problems(journal, []) == []
        assert missing_acknowledged(journal, self.run.root / "workers") == []
        assert (self.run.root / "report.json").is_file()
        assert self.run.left_over_processes() == []
        assert self._cluster.jobs() == []
