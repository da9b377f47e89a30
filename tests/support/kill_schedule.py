"""What to kill and when: a pure function of a seed.

Moments are counted in events of the journal, with a small delay behind them, so that a schedule meets a run
in nearly the same state again, however fast the machine is.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

MASTER_STARTED = "the master's start"
KILLED = "the kill before"
"""Moments that are no events of the journal."""
MAX_DELAY_S = 0.5
MAX_STARTUP_S = 2.0
"""Covers the imports and the replay of a master, or of a gang up to its rendezvous."""
MAX_NOTICE_S = 1.5
"""Covers the time until a master has seen a dead worker and started another."""
MAX_PAUSE_S = 3.0
MAX_SEAL_DELAY_S = 1.0
"""Covers a master's way from the seal to its own end."""


class Target(StrEnum):
    """What can be killed; all but the master belong to a worker."""

    MASTER = "master"
    GANG = "gang process"
    RANK = "rank"
    ALL_RANKS = "all ranks"
    PROPOSER = "proposer"
    WORKER = "gang process and all ranks"


@dataclass(frozen=True, slots=True)
class Victim:
    """One thing to kill; ``rank`` is told for `Target.RANK` only."""

    target: Target
    worker: str | None = None
    rank: int | None = None

    def __str__(self) -> str:
        name = f"{self.target} {self.rank}" if self.rank is not None else str(self.target)
        return f"{name} of {self.worker}" if self.worker else name


MASTER = Victim(Target.MASTER)


@dataclass(frozen=True, slots=True)
class Moment:
    """``delay_s`` after ``count`` further events of a kind, of each of ``workers`` if any are named."""

    event: str
    count: int
    delay_s: float
    workers: tuple[str, ...] = ()

    @property
    def is_recorded(self) -> bool:
        """Whether it is told by the journal."""
        return self.event not in (MASTER_STARTED, KILLED)

    def __str__(self) -> str:
        whose = f" of {' and '.join(self.workers)} each" if self.workers else ""
        what = f"{self.count} × {self.event}{whose}" if self.is_recorded else self.event
        return f"{self.delay_s:.3f} s after {what}"


@dataclass(frozen=True, slots=True)
class Kill:
    """Victims that die together.

    Attributes:
        pause_s: If the master is among them, time without a master.
        meanwhile: Who dies in the middle of that time.
    """

    moment: Moment
    victims: tuple[Victim, ...]
    pause_s: float = 0.0
    meanwhile: tuple[Victim, ...] = ()

    @property
    def hits_master(self) -> bool:
        """Whether the run must be resumed."""
        return MASTER in self.victims

    def __str__(self) -> str:
        text = f"{self.moment}: {' and '.join(map(str, self.victims))}"
        if self.meanwhile:
            text += f"; meanwhile {' and '.join(map(str, self.meanwhile))}"
        return text + (f"; resume after {self.pause_s:.3f} s" if self.hits_master else "")


@dataclass(frozen=True, slots=True)
class Ending:
    """What happens while a run is told to end.

    Attributes:
        victim: What is killed just before.
        seal_delay_s: When its master is killed, after the journal is sealed; None for not at all.
    """

    victim: Victim | None
    seal_delay_s: float | None

    def __str__(self) -> str:
        first = f"{self.victim}, then SIGTERM" if self.victim else "SIGTERM"
        if self.seal_delay_s is None:
            return first
        return f"{first}; {self.seal_delay_s:.3f} s after the seal: master; resume"


def draw_schedule(seed: int, num_kills: int, ranks: Mapping[str, int]) -> tuple[Kill, ...]:
    """The kills of a run in their order.

    Workers are given time for an epoch between most kills: the master gives up a worker that keeps ending
    without one.

    Args:
        ranks: Number of ranks of every worker.
    """
    draw = _Draw(random.Random(seed), ranks)
    kills: list[Kill] = [draw.start_up()]
    while len(kills) < num_kills:
        kills += draw.scene()
    return tuple(kills[:num_kills])


def draw_ending(seed: int, ranks: Mapping[str, int]) -> Ending:
    """How the run of that seed ends, whatever its number of kills."""
    rng = random.Random(f"end of {seed}")
    targets = [Target.GANG, Target.RANK, Target.WORKER]
    worker = rng.choice(list(ranks))
    target = rng.choice(targets)
    rank = rng.randrange(ranks[worker]) if target is Target.RANK else None
    return Ending(
        victim=rng.choice([None, Victim(target, worker, rank)]),
        seal_delay_s=rng.choice([None, rng.uniform(0.0, MAX_SEAL_DELAY_S)]),
    )


class _Draw:
    def __init__(self, rng: random.Random, ranks: Mapping[str, int]) -> None:
        self._rng = rng
        self._ranks = ranks
        self._without_proposer: set[str] = set()

    def start_up(self) -> Kill:
        """Before the start barrier: one of the first moments of a run."""
        if self._rng.random() < 1 / 3:
            moment = Moment(MASTER_STARTED, 1, self._rng.uniform(0.0, MAX_STARTUP_S))
            return Kill(moment, (MASTER,), pause_s=self._pause_s())
        event = self._rng.choice(["run_started", "worker_joined"])
        moment = Moment(event, 1, self._rng.uniform(0.0, MAX_DELAY_S))
        victim = self._rng.choice([MASTER, Victim(Target.GANG, self._worker())])
        return Kill(moment, (victim,), pause_s=self._pause_s())

    def scene(self) -> Iterator[Kill]:
        """One kill, or several that belong together."""
        scenes = {
            self._master: 3,
            self._master_twice: 2,
            self._worker_alone: 5,
            self._worker_twice: 2,
            self._worker_starting: 2,
            self._worker_then_master: 2,
            self._master_and_worker: 2,
            self._worker_without_master: 2,
            self._all_workers: 1,
        }
        (scene,) = self._rng.choices(list(scenes), weights=list(scenes.values()))
        return scene()

    def _master(self) -> Iterator[Kill]:
        event = self._rng.choice(["epoch_finished", "trial_claimed", "trial_closed"])
        moment = Moment(event, self._rng.randint(1, 6), self._delay_s())
        yield Kill(moment, (MASTER,), pause_s=self._pause_s())

    def _master_twice(self) -> Iterator[Kill]:
        yield from self._master()
        again = self._rng.choice(
            [
                Moment(MASTER_STARTED, 1, self._rng.uniform(0.0, MAX_STARTUP_S)),
                Moment("run_resumed", 1, self._delay_s()),
            ]
        )
        yield Kill(again, (MASTER,), pause_s=self._pause_s())

    def _worker_alone(self) -> Iterator[Kill]:
        worker = self._worker()
        yield Kill(self._after_epochs(worker), (self._victim(worker),))

    def _worker_twice(self) -> Iterator[Kill]:
        worker = self._worker()
        yield Kill(self._after_epochs(worker), (self._victim(worker, proposer=False),))
        moment = Moment("worker_joined", 1, self._delay_s(), (worker,))
        yield Kill(moment, (self._victim(worker, proposer=False),))

    def _worker_starting(self) -> Iterator[Kill]:
        worker = self._worker()
        yield Kill(self._after_epochs(worker), (Victim(Target.WORKER, worker),))
        moment = Moment(KILLED, 1, self._rng.uniform(0.0, MAX_NOTICE_S + MAX_STARTUP_S))
        yield Kill(moment, (Victim(Target.GANG, worker),))
        self._without_proposer.discard(worker)

    def _worker_then_master(self) -> Iterator[Kill]:
        worker = self._worker()
        yield Kill(self._after_epochs(worker), (self._victim(worker),))
        moment = Moment(KILLED, 1, self._rng.uniform(0.0, MAX_NOTICE_S))
        yield Kill(moment, (MASTER,), pause_s=self._pause_s())

    def _master_and_worker(self) -> Iterator[Kill]:
        worker = self._worker()
        victims = [MASTER, self._victim(worker)]
        self._rng.shuffle(victims)
        yield Kill(self._after_epochs(worker), tuple(victims), pause_s=self._pause_s())

    def _worker_without_master(self) -> Iterator[Kill]:
        worker = self._worker()
        pause_s, victim = self._pause_s(), self._victim(worker)
        yield Kill(self._after_epochs(worker), (MASTER,), pause_s=pause_s, meanwhile=(victim,))

    def _all_workers(self) -> Iterator[Kill]:
        victims = tuple(self._victim(worker) for worker in self._ranks)
        yield Kill(self._after_epochs(*self._ranks), victims)

    def _after_epochs(self, *workers: str) -> Moment:
        return Moment("epoch_finished", self._rng.randint(1, 4), self._delay_s(), workers)

    def _victim(self, worker: str, *, proposer: bool = True) -> Victim:
        targets = [Target.GANG, Target.RANK, Target.WORKER]
        if self._ranks[worker] > 1:
            targets.append(Target.ALL_RANKS)
        if proposer and worker not in self._without_proposer:
            targets.append(Target.PROPOSER)
        target = self._rng.choice(targets)
        # It comes back with its gang only.
        (self._without_proposer.add if target is Target.PROPOSER else self._without_proposer.discard)(worker)
        rank = self._rng.randrange(self._ranks[worker]) if target is Target.RANK else None
        return Victim(target, worker, rank)

    def _worker(self) -> str:
        return self._rng.choice(list(self._ranks))

    def _delay_s(self) -> float:
        """Small ones are as likely as at all possible: that is where an event's consequences happen."""
        return self._rng.choice([0.0, self._rng.uniform(0.0, 0.05), self._rng.uniform(0.0, MAX_DELAY_S)])

    def _pause_s(self) -> float:
        return self._rng.choice([0.0, self._rng.uniform(0.0, MAX_PAUSE_S)])
