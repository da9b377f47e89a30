"""Questions and orders to SLURM: each runs one of its programs."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from aibench.errors import LauncherError

TIMEOUT_S = 60.0

_STRIPPED = ("SBATCH_", "SALLOC_", "SRUN_", "SLURM_", "SQUEUE_", "SACCT_", "SCANCEL_", "SINFO_", "SCONTROL_")
_KEPT = frozenset({"SLURM_CONF", "SLURM_JWT"})
"""Where the cluster is and who asks: the only variables of SLURM's that may have an effect."""
_JOB_FIELDS = ("ArrayJobID:20", "ArrayTaskID:20", "State:30", "exit_code:20", "Reason:60")
_STEP_FIELDS = "StepID:40,StepName:200,Nodes:1000"
_UNREACHABLE = re.compile(
    r"Unable to contact slurm controller|Could not establish a configuration source|Connection refused|"
    r"Unable to process configuration file|cannot stat file|Protocol authentication error|Munge",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class JobRecord:
    """What SLURM says of one job or one element of a job array."""

    job: int
    index: int | None
    word: str
    reason: str
    exit_status: int


@dataclass(frozen=True, kw_only=True, slots=True)
class StepRecord:
    """What SLURM says of one step.

    Attributes:
        number: Such as ``12.3``.
        nodes: Such as ``n[1-3]``.
    """

    number: str
    name: str
    nodes: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What an allocation or a partition has."""

    nodes: int
    cpus: int


def clean_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without what would change the meaning of SLURM's programs."""
    return {
        name: value for name, value in environment.items() if name in _KEPT or not name.startswith(_STRIPPED)
    }


def ask(*argv: str, stdin: str = "", timeout_s: float = TIMEOUT_S) -> str:
    """Run one of SLURM's programs and return what it printed.

    Raises:
        LauncherError: It is not here, failed, or did not answer in time.
    """
    conf = os.environ.get("SLURM_CONF")
    if conf and not os.path.exists(conf):
        # Without this SLURM's programs look for it for a minute.
        raise LauncherError(f"SLURM_CONF is {conf}, which is not there; expected the cluster's slurm.conf")
    try:
        done = subprocess.run(
            argv,
            input=stdin,
            env=clean_environment(os.environ),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except FileNotFoundError as error:
        raise LauncherError(
            f"{argv[0]} is not in PATH; expected SLURM's programs here (module load slurm, or a login node)"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise LauncherError(f"{argv[0]} did not answer within {timeout_s:g} s") from error
    except (OSError, UnicodeDecodeError) as error:
        raise LauncherError(f"{argv[0]}: {error}") from error
    if done.returncode != 0:
        raise LauncherError(_failure(argv[0], done.stderr or f"exit status {done.returncode}"))
    return done.stdout


def _failure(program: str, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    said = "; ".join(
        dict.fromkeys(line.removeprefix(f"{program}: ").removeprefix("error: ") for line in lines)
    )
    if _UNREACHABLE.search(said):
        where = os.environ.get("SLURM_CONF", "not set")
        return (
            f"SLURM does not answer ({said}); is slurmctld up, and SLURM_CONF (here: {where}) its slurm.conf?"
        )
    return f"{program}: {said}"


def submit(script: str) -> int:
    """Submit a script; the job's number.

    Raises:
        LauncherError: SLURM refused it.
    """
    printed = ask("sbatch", "--parsable", stdin=script)
    try:
        return int(printed.strip().partition(";")[0])
    except ValueError as error:
        raise LauncherError(f"sbatch printed {printed.strip()!r}, expected the number of a job") from error


def jobs_named(name: str) -> list[JobRecord]:
    """This user's jobs and array elements of a name, the ended ones too while SLURM remembers them."""
    return parse_jobs(ask("squeue", *_JOB_QUERY, f"--user={os.getuid()}", f"--name={name}"))


def job_record(job: int) -> JobRecord | None:
    """One job, from SLURM's memory or its accounting; None where neither knows it."""
    try:
        found = parse_jobs(ask("squeue", *_JOB_QUERY, f"--jobs={job}"))
    except LauncherError as error:
        if "Invalid job id" not in str(error):
            raise
        found = []
    return found[0] if found else accounted(str(job))


_JOB_QUERY = ("--noheader", "--array", "--states=all", f"--Format={','.join(_JOB_FIELDS)}")


def parse_jobs(printed: str) -> list[JobRecord]:
    """Jobs out of squeue's columns."""
    return [_job(line) for line in printed.splitlines() if line.strip()]


def _job(line: str) -> JobRecord:
    columns, at = [], 0
    for field in _JOB_FIELDS:
        width = int(field.partition(":")[2])
        columns.append(line[at : at + width].strip())
        at += width
    job, index, word, exit_code, reason = columns
    return JobRecord(
        job=int(job),
        index=int(index) if index.isdigit() else None,
        word=word,
        reason=reason,
        exit_status=exit_status(exit_code),
    )


def exit_status(code: str) -> int:
    """As a shell has it: of sacct's ``status:signal``, or of the wait status that squeue prints."""
    status, colon, number = code.partition(":")
    if not colon:
        status, number = str(int(status) >> 8), str(int(status) & 0x7F)
    return 128 + int(number) if int(number) else int(status)


def accounted(job: str) -> JobRecord | None:
    """An ended job or array element (``12_3``) that only accounting remembers; None without accounting."""
    fields = "--format=JobID,State,ExitCode"
    try:
        printed = ask("sacct", "--noheader", "--parsable2", "--allocations", f"--jobs={job}", fields)
    except LauncherError:
        return None
    lines = printed.splitlines()
    if not lines:
        return None
    number, word, code = lines[-1].split("|")
    array, _, index = number.partition("_")
    return JobRecord(
        job=int(array),
        index=int(index) if index.isdigit() else None,
        word=word,
        reason="",
        exit_status=exit_status(code),
    )


def steps_of(job: str) -> list[StepRecord]:
    """A job's steps that SLURM has not seen end; those of lost nodes stay among them."""
    return parse_steps(ask("squeue", "--noheader", "--steps", f"--jobs={job}", f"--Format={_STEP_FIELDS}"))


def parse_steps(printed: str) -> list[StepRecord]:
    """Steps out of squeue's columns."""
    lines = (line for line in printed.splitlines() if line.strip())
    return [
        StepRecord(number=line[:40].strip(), name=line[40:240].strip(), nodes=line[240:].strip())
        for line in lines
    ]


def node_names(nodes: str) -> set[str]:
    """The names in a list such as ``n[1-3]``."""
    return set(ask("scontrol", "show", "hostnames", nodes).split())


def nodes_of(job: str) -> set[str]:
    """The nodes that a job has now: lost ones are no longer among them."""
    return node_names(ask("squeue", "--noheader", f"--jobs={job}", "--format=%N").strip())


def allocation_capacity(job: str) -> Capacity:
    """Nodes and CPUs that a running job has now.

    Raises:
        LauncherError: There is no such job, or it is not running.
    """
    record = ask("scontrol", "--oneliner", "show", "job", job)
    state = _value(record, "JobState")
    if state != "RUNNING":
        raise LauncherError(f"SLURM_JOB_ID is {job}, a job that is {state}; expected a running one")
    return Capacity(
        nodes=int(_value(record, "NumNodes").partition("-")[0]), cpus=int(_value(record, "NumCPUs"))
    )


def partition_capacity(partition: str | None) -> tuple[str, Capacity]:
    """A partition's name, the default one's if none is given, and what it has.

    Raises:
        LauncherError: There is none.
    """
    records = ask("scontrol", "--oneliner", "show", "partition").splitlines()
    known = {_value(record, "PartitionName"): record for record in records if record.strip()}
    default = next((name for name, record in known.items() if "Default=YES" in record), None)
    name = partition or default
    if name is None or name.partition(",")[0] not in known:
        raise LauncherError(
            f"launcher.partition: {name!r} is unknown to this SLURM; known: {', '.join(sorted(known))}"
        )
    parts = [known[part] for part in name.split(",") if part in known]
    return name, Capacity(
        nodes=max(int(_value(part, "TotalNodes")) for part in parts),
        cpus=max(int(_value(part, "TotalCPUs")) for part in parts),
    )


def node_address(node: str) -> str:
    """The address that a node is reached at."""
    return _value(ask("scontrol", "--oneliner", "show", "node", node), "NodeAddr")


def controller_address() -> str:
    """The address of slurmctld."""
    hosts = _value(ask("scontrol", "show", "config"), r"SlurmctldHost\[0\]\s*", separator=r"=\s*")
    return hosts.partition("(")[2].rstrip(")") or hosts


def _value(record: str, key: str, *, separator: str = "=") -> str:
    found = re.search(rf"(?:^|\s){key}{separator}(\S+)", record)
    if found is None:
        raise LauncherError(f"scontrol does not tell {key}; it printed {record.strip()[:200]!r}")
    return found[1]
