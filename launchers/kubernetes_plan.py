"""Which Jobs are missing for the workers of a run; pure."""

from __future__ import annotations

from collections.abc import Sequence

from aibench.api.launcher import WorkerSpec
from launchers.kubernetes_manifest import Manifest, Owner, gang_job, pool_job
from launchers.kubernetes_options import KubernetesOptions
from launchers.kubernetes_places import Observed, newest, number_of
from launchers.kubernetes_states import Job

NOTHING = Observed(pods=(), jobs=())


def missing_jobs(
    options: KubernetesOptions, workers: Sequence[WorkerSpec], observed: Observed, owner: Owner | None
) -> list[Manifest]:
    """Jobs for those workers, of all that shall live, whom the living Jobs do not place."""
    jobs = []
    singles = [worker for worker in workers if worker.num_nodes == 1]
    for pool in dict.fromkeys(worker.pool for worker in singles):
        members = [worker for worker in singles if worker.pool == pool]
        own = [job for job in observed.jobs if job.pool == pool]
        num_placed = sum(_capacity(job, observed) for job in own)
        if len(members) > num_placed:
            jobs.append(pool_job(options, members[num_placed:], _next_number(own), owner))
    for gang in workers:
        if gang.num_nodes > 1:
            own = [job for job in observed.jobs if job.worker == gang.worker]
            if not any(_is_whole(job, observed) for job in own):
                jobs.append(gang_job(options, gang, _next_number(own), owner))
    return jobs


def _capacity(job: Job, observed: Observed) -> int:
    """Pods that a Job has or will make."""
    pods = observed.of_job(job)
    if job.is_replacing and not any(pod.phase == "Succeeded" for pod in pods):
        return job.parallelism
    return sum(not pod.is_over for pod in pods)


def _is_whole(job: Job, observed: Observed) -> bool:
    return job.is_replacing and not any(pod.is_over for pod in observed.of_job(job))


def _next_number(jobs: Sequence[Job]) -> int:
    last = newest(jobs)
    return 0 if last is None else number_of(last.name) + 1
