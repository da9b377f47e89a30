"""Which pod is which worker: pods of a pool are alike until they join, and come and go by themselves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aibench.api.launcher import WorkerSpec, WorkerState, WorkerStatus
from launchers.kubernetes_states import MEANINGS, Job, Meaning, Patience, Pod

NO_POD = "NoPod"
GONE = "Gone"


@dataclass(frozen=True, slots=True)
class Observed:
    """One answer of the cluster about a run's workers."""

    pods: Sequence[Pod]
    jobs: Sequence[Job]

    def of_job(self, job: Job) -> list[Pod]:
        """The pods of a Job."""
        return [pod for pod in self.pods if pod.job == job.name]


@dataclass(frozen=True, slots=True)
class _Ended:
    """How a worker ended, and in what: a pod or, for a gang, a Job."""

    place: str
    status: WorkerStatus


class Places:
    """Tells for every worker how its pod is.

    A worker is in the pod that it joined from. Those that have not joined, or whose pod was replaced, are
    taken to be in the remaining pods of their pool, in order. The end of a pod is told of its worker until
    the worker is renewed, and of no other.

    Args:
        patience_s: How long a pod may stay as it is, for each kind of patience that ends.
    """

    def __init__(
        self, patience_s: Mapping[Patience, float], now_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._patience_s = patience_s
        self._now_s = now_s
        self._workers: dict[str, WorkerSpec] = {}
        self._ended: dict[str, _Ended] = {}
        self._told: dict[str, str] = {}
        self._settled: set[str] = set()
        self._since_s: dict[tuple[str, Patience], float] = {}
        self._seen: dict[str, str] = {}

    @property
    def workers(self) -> Sequence[WorkerSpec]:
        """All workers that were ever expected."""
        return list(self._workers.values())

    @property
    def wanted(self) -> Sequence[WorkerSpec]:
        """Those of them that have not ended."""
        return [worker for name, worker in self._workers.items() if name not in self._ended]

    @property
    def workers_of_pods(self) -> Mapping[str, str]:
        """The worker of every pod that was seen as one's."""
        return self._seen

    def settle(self, observed: Observed) -> None:
        """Leave out pods that ended before this launcher was made, but for workers that joined from them."""
        self._settled |= {pod.name for pod in observed.pods if pod.is_over}

    def renew(self, worker: WorkerSpec) -> bool:
        """Expect a worker, anew if it has ended; whether it had."""
        self._workers[worker.worker] = worker
        ended = self._ended.pop(worker.worker, None)
        if ended is not None:
            self._told[worker.worker] = ended.place
            self._settled.add(ended.place)
        return ended is not None

    def clear(self) -> None:
        """Expect nobody any more."""
        self._workers.clear()
        self._ended.clear()

    def statuses(self, observed: Observed, hosts: Mapping[str, str]) -> dict[str, WorkerStatus]:
        """Status of every worker.

        Args:
            hosts: Name of the pod that each worker last joined from.
        """
        found: dict[str, WorkerStatus] = {}
        for pool in dict.fromkeys(worker.pool for worker in self.workers):
            wanted = [worker for worker in self.wanted if worker.pool == pool]
            singles = [worker.worker for worker in wanted if worker.num_nodes == 1]
            seeking = [name for name in singles if not self._is_found(name, observed, hosts, found)]
            podless = self._deal(seeking, self._free(pool, observed, hosts), found)
            self._blame_jobs(pool, observed, podless)
            for worker in wanted:
                if worker.num_nodes > 1:
                    self._see_gang(worker, observed, found)
        found.update({worker: ended.status for worker, ended in self._ended.items()})
        return {worker: found[worker] for worker in self._workers}

    def _is_found(
        self, worker: str, observed: Observed, hosts: Mapping[str, str], found: dict[str, WorkerStatus]
    ) -> bool:
        """Look at the pod that a worker joined from, if its end was not told yet."""
        name = hosts.get(worker)
        if name is None or name == self._told.get(worker):
            return False
        pod = next((pod for pod in observed.pods if pod.name == name), None)
        if pod is None:
            self._end(worker, name, WorkerStatus(state=MEANINGS[GONE].state, detail="its pod is gone"))
        else:
            self._see(worker, pod, found)
        return True

    def _free(self, pool: str, observed: Observed, hosts: Mapping[str, str]) -> list[Pod]:
        """Pods that nobody joined from, oldest first, without those whose end is known."""
        taken = self._settled | set(hosts.values()) | {ended.place for ended in self._ended.values()}
        return [pod for pod in observed.pods if pod.pool == pool and pod.name not in taken]

    def _deal(
        self, seeking: Sequence[str], free: Sequence[Pod], found: dict[str, WorkerStatus]
    ) -> Sequence[str]:
        """Look at the free pods as those of the seeking workers; the workers for whom none was left."""
        for worker, pod in zip(seeking, free, strict=False):
            self._see(worker, pod, found)
        podless = seeking[len(free) :]
        for worker in podless:
            found[worker] = self._patient(worker, MEANINGS[NO_POD], "no pod yet")
        return podless

    def _blame_jobs(self, pool: str, observed: Observed, podless: Sequence[str]) -> None:
        """Workers without a pod for whom no Job will make one have ended."""
        jobs = [job for job in observed.jobs if job.pool == pool]
        if any(job.is_replacing for job in jobs):
            return
        reasons = [job.failure for job in jobs if job.failure]
        for worker in podless:
            self._end(worker, self._told.get(worker, ""), _no_job(*reasons))

    def _see_gang(self, worker: WorkerSpec, observed: Observed, found: dict[str, WorkerStatus]) -> None:
        """Look at the pods of a worker's newest Job: they stand and fall together, so the worst one tells."""
        name = worker.worker
        job = newest([job for job in observed.jobs if job.worker == name])
        if job is None or job.name == self._told.get(name):
            self._end(name, self._told.get(name, ""), _no_job())
            return
        pods = observed.of_job(job)
        over = [pod for pod in pods if pod.is_over]
        if over:
            self._end(name, job.name, WorkerStatus(state=over[0].meaning.state, detail=over[0].detail))
        elif job.failure:
            self._end(name, job.name, _no_job(job.failure))
        elif len(pods) < worker.num_nodes:
            found[name] = self._patient(name, MEANINGS[NO_POD], "not all of its pods exist yet")
        else:
            self._see(name, min(pods, key=lambda pod: pod.meaning.state is WorkerState.RUNNING), found)

    def _see(self, worker: str, pod: Pod, found: dict[str, WorkerStatus]) -> None:
        self._seen[pod.name] = worker
        if pod.is_over:
            self._end(worker, pod.name, WorkerStatus(state=pod.meaning.state, detail=pod.detail))
        else:
            found[worker] = self._patient(pod.name, pod.meaning, pod.detail)

    def _end(self, worker: str, place: str, status: WorkerStatus) -> None:
        self._ended[worker] = _Ended(place, status)

    def _patient(self, key: str, meaning: Meaning, detail: str) -> WorkerStatus:
        """The meaning, or REFUSED once it has lasted for too long."""
        limit_s = self._patience_s.get(meaning.patience)
        if limit_s is None:
            return WorkerStatus(state=meaning.state, detail=detail)
        now_s = self._now_s()
        is_over = now_s - self._since_s.setdefault((key, meaning.patience), now_s) >= limit_s
        return WorkerStatus(state=WorkerState.REFUSED if is_over else meaning.state, detail=detail)


def newest(jobs: Sequence[Job]) -> Job | None:
    """The Job that was made last of some that replace each other."""
    return max(jobs, key=lambda job: number_of(job.name), default=None)


def number_of(name: str) -> int:
    """The number that a Job's name ends in."""
    return int(name.rpartition("-")[2])


def _no_job(*reasons: str) -> WorkerStatus:
    detail = reasons[-1] if reasons else "no Job makes pods for it"
    return WorkerStatus(state=WorkerState.FAILED, detail=detail)
