"""Riding a run through a schedule of kills, with copies of its journal from every one."""

from __future__ import annotations

import contextlib
import json
import shutil
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from support.kill_schedule import KILLED, MASTER, MASTER_STARTED, Ending, Kill, Moment, Target, Victim
from support.real_run import WAIT_S, Run, aibench

POLL_S = 0.01


class JournalTail:
    """The complete lines of a growing journal, each parsed once.

    Attributes:
        num_events: All that were read.
        recent: Those read since `forget`, of each kind: of all workers under None, and of each worker.
    """

    def __init__(self, path: Path) -> None:
        self.num_events = 0
        self.recent: Counter[tuple[str, str | None]] = Counter()
        self._path = path
        self._offset = 0
        self._workers: dict[int, str] = {}

    def read(self) -> None:
        """Take in what was written since the last call."""
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            complete = file.read().rpartition(b"\n")[0]
        if complete:
            self._offset += len(complete) + 1
            for line in complete.split(b"\n"):
                self._count(json.loads(line)["event"])

    def forget(self) -> None:
        """Count anew from here."""
        self.read()
        self.recent.clear()

    def _count(self, event: dict[str, Any]) -> None:
        self.num_events += 1
        kind = event["event"]
        if kind == "trial_claimed":
            self._workers[event["spec"]["trial"]] = event["worker"]
        self.recent[kind, None] += 1
        worker = event.get("worker") or self._workers.get(event.get("trial", 0))
        if worker is not None:
            self.recent[kind, worker] += 1


class Storm:
    """One run and what is done to it.

    Attributes:
        snapshots: The journal's bytes after every kill.
        log: What was done, line by line.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.tail = JournalTail(run.root / "journal.jsonl")
        self.snapshots: list[bytes] = []
        self.log: list[str] = []
        self._began_s = self._master_began_s = self._killed_s = time.monotonic()

    def ride(self, schedule: tuple[Kill, ...]) -> None:
        """Start the run and execute the schedule."""
        self.run.start()
        self._master_began_s = time.monotonic()
        for number, kill in enumerate(schedule, start=1):
            self._wait_for(kill.moment)
            self._note(f"kill {number}: {kill}")
            self._strike(kill)

    def recover(self, workers: tuple[str, ...]) -> None:
        """Wait until each of the workers has finished an epoch since the last kill."""
        self._wait_for(Moment("epoch_finished", 1, 0.0, workers))

    def end(self, ending: Ending) -> tuple[int, str]:
        """End the run; a master that is gone before it would be killed is not resumed."""
        if ending.victim is not None:
            self._execute((ending.victim,))
        self.run.signal_master(signal.SIGTERM)
        if ending.seal_delay_s is not None:
            self._wait_for(Moment("run_ended", 1, ending.seal_delay_s))
            if self._master().poll() is None:
                self._note("killed the master after the seal")
                self.run.kill_master()
                self.run.resume()
        return self.run.finish()

    def _strike(self, kill: Kill) -> None:
        self._execute(kill.victims)
        self._killed_s = time.monotonic()
        if kill.meanwhile:
            time.sleep(kill.pause_s / 2)
            self._execute(kill.meanwhile)
            time.sleep(kill.pause_s / 2)
        elif kill.hits_master:
            time.sleep(kill.pause_s)
        self.snapshots.append(self._bytes())
        self.tail.forget()
        if kill.hits_master:
            self._go_on()

    def _go_on(self) -> None:
        if not self.tail.num_events:
            self._begin_again()
        else:
            self.run.resume()
            self._note("  resumed")
        self._master_began_s = time.monotonic()

    def _begin_again(self) -> None:
        """A master that died before its first record has started no worker and left nothing to resume."""
        assert self.run.left_over_processes() == []
        if self.run.root.exists():
            refused = aibench("resume", self.run.root)
            assert refused.returncode == 2, refused.stdout
            assert refused.stderr.startswith("aibench: ")
            assert refused.stderr.count("\n") == 1, refused.stderr
            shutil.rmtree(self.run.root)
        self.run.start()
        self._note("  started again")

    def _bytes(self) -> bytes:
        path = self.run.root / "journal.jsonl"
        return path.read_bytes() if path.exists() else b""

    def _execute(self, victims: tuple[Victim, ...]) -> None:
        doomed = [(victim, self._await_processes(victim)) for victim in victims]
        for victim, processes in doomed:
            if victim == MASTER:
                self.run.kill_master()
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        pids = [process.pid for _, processes in doomed for process in processes]
        self._note(f"  killed {', '.join(map(str, pids)) or 'the master only'}")

    def _await_processes(self, victim: Victim) -> list[psutil.Process]:
        """The victim's processes, as soon as there are any: it may just be starting."""
        if victim == MASTER:
            return []
        found: list[psutil.Process] = []
        deadline_s = time.monotonic() + WAIT_S
        while not found:
            assert time.monotonic() < deadline_s, f"no {victim} in time:\n{self.run.worker_logs()}"
            found = list(_processes(self.run, victim))
            time.sleep(POLL_S)
        return found

    def _wait_for(self, moment: Moment) -> None:
        deadline_s = time.monotonic() + WAIT_S
        while not self._has_come(moment):
            assert time.monotonic() < deadline_s, f"no {moment} in time:\n{self.run.worker_logs()}"
            self._check_master(moment)
            time.sleep(POLL_S)
        origin_s = {MASTER_STARTED: self._master_began_s, KILLED: self._killed_s}
        came_s = origin_s.get(moment.event, time.monotonic())
        time.sleep(max(0.0, came_s + moment.delay_s - time.monotonic()))

    def _has_come(self, moment: Moment) -> bool:
        if not moment.is_recorded:
            return True
        self.tail.read()
        return all(
            self.tail.recent[moment.event, worker] >= moment.count for worker in moment.workers or (None,)
        )

    def _check_master(self, moment: Moment) -> None:
        if self._master().poll() is not None and moment.event != "run_ended":
            raise AssertionError(f"the master ended by itself: {self.run.finish()}")

    def _master(self) -> subprocess.Popen[str]:
        assert self.run.process is not None
        return self.run.process

    def _note(self, text: str) -> None:
        self.log.append(
            f"{time.monotonic() - self._began_s:8.3f} s, {self.tail.num_events:5d} events: {text}"
        )


def _processes(run: Run, victim: Victim) -> Iterator[psutil.Process]:
    """By their command lines, as the process table shows them."""
    for process in psutil.process_iter(["cmdline"]):
        argv: list[str] = process.info["cmdline"] or []
        if str(run.root / "control.json") not in argv or victim.worker not in argv:
            continue
        role = _role(argv)
        if victim.target is Target.WORKER:
            is_meant = role in (Target.GANG, Target.RANK)
        elif victim.target is Target.ALL_RANKS:
            is_meant = role is Target.RANK
        else:
            is_meant = role is victim.target
        if is_meant and (victim.rank is None or _rank(process) == victim.rank):
            yield process


def _role(argv: list[str]) -> Target:
    if "proposer" in argv:
        return Target.PROPOSER
    return Target.GANG if "torch.distributed.run" in argv or "worker" in argv else Target.RANK


def _rank(process: psutil.Process) -> int | None:
    with contextlib.suppress(psutil.Error):
        return int(process.environ().get("RANK", "-1"))
    return None
