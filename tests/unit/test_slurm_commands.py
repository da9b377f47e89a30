"""What SLURM prints, recorded from 22.05, and what it is asked in."""

from pathlib import Path

import pytest
from support.programs import program

from aibench.errors import LauncherError
from launchers import slurm_commands
from launchers.slurm_commands import Capacity, JobRecord, StepRecord
from launchers.slurm_options import SlurmOptions
from launchers.slurm_refusals import explained

RECORDED = Path(__file__).parents[1] / "data" / "slurm"


def recorded(name: str) -> str:
    return (RECORDED / name).read_text()


@pytest.fixture
def fake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first in PATH, for programs in the place of SLURM's."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.delenv("SLURM_CONF", raising=False)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def test_jobs_and_array_elements_are_read_with_how_they_ended() -> None:
    jobs = slurm_commands.parse_jobs(recorded("squeue-jobs.txt"))
    by_index = {job.index: job for job in jobs}
    assert len(jobs) == 22
    assert by_index[0] == JobRecord(job=112, index=0, word="FAILED", reason="NonZeroExitCode", exit_status=3)
    assert by_index[1].word == "COMPLETED"
    assert by_index[2].exit_status == 66
    assert by_index[19] == JobRecord(job=112, index=19, word="PENDING", reason="Resources", exit_status=0)
    assert by_index[None].reason == "PartitionTimeLimit"


def test_steps_are_read_with_their_nodes() -> None:
    assert slurm_commands.parse_steps(recorded("squeue-steps.txt")) == [
        StepRecord(number="133.0", name="contract.w1", nodes="n[1-2]"),
        StepRecord(number="133.1", name="contract.w0", nodes="n1"),
        StepRecord(number="133.batch", name="batch", nodes="n1"),
    ]


@pytest.mark.parametrize(
    ("code", "status"),
    [("0", 0), ("768", 3), ("9", 137), ("0:0", 0), ("3:0", 3), ("0:15", 143), ("143:0", 143)],
)
def test_exit_codes_of_squeue_and_sacct(code: str, status: int) -> None:
    assert slurm_commands.exit_status(code) == status


def test_what_an_allocation_and_a_partition_have(fake: Path) -> None:
    program(
        fake, "scontrol", f'[ "$3" = job ] && what=job || what=partitions; cat {RECORDED}/scontrol-$what.txt'
    )
    assert slurm_commands.allocation_capacity("133") == Capacity(nodes=2, cpus=8)
    assert slurm_commands.partition_capacity(None) == ("debug", Capacity(nodes=4, cpus=16))
    assert slurm_commands.partition_capacity("short") == ("short", Capacity(nodes=4, cpus=16))
    with pytest.raises(LauncherError, match=r"launcher.partition: 'gpu' is unknown .* known: debug, short"):
        slurm_commands.partition_capacity("gpu")


def test_the_address_of_a_node(fake: Path) -> None:
    program(fake, "scontrol", f"cat {RECORDED}/scontrol-node.txt")
    assert slurm_commands.node_address("n1") == "127.0.0.1"


def test_a_job_that_only_accounting_remembers(fake: Path) -> None:
    program(fake, "sacct", "echo '12_3|CANCELLED by 1000|0:15'")
    expected = JobRecord(job=12, index=3, word="CANCELLED by 1000", reason="", exit_status=143)
    assert slurm_commands.accounted("12_3") == expected


def test_without_accounting_nobody_remembers(fake: Path) -> None:
    program(fake, "sacct", "echo 'Slurm accounting storage is disabled' >&2; exit 1")
    program(fake, "squeue", "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1")
    assert slurm_commands.accounted("12") is None
    assert slurm_commands.job_record(12) is None


def test_a_program_that_is_absent_is_one_line(fake: Path) -> None:
    with pytest.raises(LauncherError, match=r"^nosuch is not in PATH; expected SLURM's programs here"):
        slurm_commands.ask("nosuch")


def test_a_cluster_that_does_not_answer_is_one_line(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    conf = fake / "slurm.conf"
    conf.touch()
    monkeypatch.setenv("SLURM_CONF", str(conf))
    program(fake, "squeue", "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1")
    with pytest.raises(LauncherError) as refused:
        slurm_commands.jobs_named("x")
    assert str(refused.value).startswith("SLURM does not answer (slurm_load_jobs error: Unable to contact")
    assert f"SLURM_CONF (here: {conf})" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_configuration_that_is_not_there_is_one_line(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_CONF", "/nowhere/slurm.conf")
    with pytest.raises(LauncherError, match=r"^SLURM_CONF is /nowhere/slurm.conf, which is not there"):
        slurm_commands.ask("squeue")


def test_a_program_that_hangs_is_given_up(fake: Path) -> None:
    program(fake, "squeue", "exec sleep 60")
    with pytest.raises(LauncherError, match=r"^squeue did not answer within 0.2 s$"):
        slurm_commands.ask("squeue", timeout_s=0.2)


def test_inherited_variables_do_not_reach_slurm(fake: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("SBATCH_PARTITION", "SLURM_CPUS_PER_TASK", "SQUEUE_FORMAT", "SLURM_JOB_ID"):
        monkeypatch.setenv(name, "from outside")
    monkeypatch.setenv("SLURM_CONF", str(fake))
    program(fake, "sbatch", "env")
    printed = slurm_commands.ask("sbatch")
    assert "from outside" not in printed
    assert f"SLURM_CONF={fake}" in printed


def test_the_number_of_a_job_on_a_named_cluster(fake: Path) -> None:
    program(fake, "sbatch", "cat > /dev/null; echo '42;alpha'")
    assert slurm_commands.submit("#!/bin/bash\n") == 42


@pytest.mark.parametrize(
    ("said", "options", "expected"),
    [
        (
            "Invalid account or account/partition combination specified",
            SlurmOptions(account="physics"),
            "launcher: account is 'physics'; user",
        ),
        (
            "Invalid account or account/partition combination specified",
            SlurmOptions(),
            "launcher: account is not given",
        ),
        ("Invalid qos specification", SlurmOptions(qos="gold"), "launcher: qos is 'gold'; expected a QOS"),
        (
            "Invalid feature specification",
            SlurmOptions(constraint="x"),
            "launcher: constraint is 'x'; expected",
        ),
        (
            "Requested reservation is invalid",
            SlurmOptions(reservation="r"),
            "launcher: reservation is 'r'; expected",
        ),
        (
            "Invalid generic resource (gres) specification",
            SlurmOptions(gres="npu"),
            "launcher: gres is 'npu'",
        ),
        (
            "Requested node configuration is not available",
            SlurmOptions(workers_per_node=9),
            "launcher: workers_per_node is 9; more than",
        ),
        ("Something new", SlurmOptions(), "sbatch: Something new"),
    ],
)
def test_refusals_name_the_key(said: str, options: SlurmOptions, expected: str) -> None:
    assert str(explained(LauncherError(f"sbatch: {said}"), options)).startswith(expected)
