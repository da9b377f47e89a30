import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.golden import check_golden

from aibench.api.host import MasterOrder
from aibench.api.launcher import WorkerSpec
from launchers.processes import PACKAGE_ROOT, rendered
from launchers.slurm_options import SlurmContainer, SlurmOptions
from launchers.slurm_script import array_script, job_shape, label, master_script, step_command

GOLDEN = Path(__file__).parents[1] / "data" / "slurm"
SITE = SlurmOptions(
    partition="gpu",
    account="bench",
    qos="high",
    constraint="[rack1|rack2]",
    reservation="maintenance_42",
    time_limit_s=3601,
    gres="gpu:h100",
    workers_per_node=2,
    spare_nodes=1,
    cpus_per_worker_node=16,
    extra_directives=("--mem=0", "--mail-type=END"),
    prologue=("module load cuda", "export NCCL_DEBUG=WARN"),
    python="/opt/venv/bin/python",
)
APPTAINER = SlurmContainer(
    runtime="apptainer", image="/images/a b.sif", mounts=("/data:/data",), options=("--nv",)
)
PYXIS = SlurmContainer(runtime="pyxis", image="site/aibench:1", mounts=("/data:/data",))


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)


def worker(number: int = 0, **changes: Any) -> WorkerSpec:
    folder = Path('/shared/it\'s a "run"')
    values: dict[str, Any] = {
        "run": "first-0a1b2c3d",
        "worker": f"w{number}",
        "pool": "p0",
        "num_ranks": 4,
        "device": "auto",
        "oversubscribe": False,
        "control_file": folder / "control.json",
        "log_dir": folder / "workers" / f"w{number}",
    }
    return WorkerSpec(**{**values, **changes})


def order(*workers: WorkerSpec, measured_time_s: float | None = 3600) -> MasterOrder:
    return MasterOrder(
        run="first-0a1b2c3d",
        run_dir=workers[0].control_file.parent,
        config="name: first\n",
        workers=workers,
        measured_time_s=measured_time_s,
    )


def require_golden(name: str, text: str) -> None:
    """Compare what leaves the process with its record."""
    text = text.replace(sys.executable, "PYTHON").replace(str(PACKAGE_ROOT), "CHECKOUT")
    check_golden(f"slurm/{name}", text)


def test_the_script_of_a_master_on_a_site() -> None:
    require_golden("master-site.sbatch", master_script(order(worker(0), worker(1), worker(2)), SITE))


def test_the_script_of_a_master_with_nothing_set() -> None:
    require_golden("master-plain.sbatch", master_script(order(worker(0, device="cpu")), SlurmOptions()))


def test_the_script_of_an_array() -> None:
    require_golden("array-site.sbatch", array_script([worker(3), worker(5)], [3, 5], SITE))


def test_the_script_of_an_array_of_workers_over_several_nodes() -> None:
    gang = worker(0, num_ranks=16, num_nodes=2)
    require_golden("array-nodes.sbatch", array_script([gang], [0], SlurmOptions(gres="npu")))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("step-plain.txt", SlurmOptions()),
        ("step-site.txt", SITE),
        ("step-apptainer.txt", SlurmOptions(container=APPTAINER)),
        ("step-pyxis.txt", SlurmOptions(container=PYXIS)),
    ],
)
def test_the_command_of_a_step(name: str, options: SlurmOptions) -> None:
    require_golden(name, rendered(worker(), step_command(worker(), options, "42")).text + "\n")


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.sbatch")), ids=lambda path: path.name)
def test_the_scripts_are_bash(path: Path) -> None:
    checked = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_awkward_paths_and_names_stand_once_and_whole_in_the_scripts() -> None:
    folder = Path("/shared/new\nline $HOME `id`")
    awkward = worker(control_file=folder / "control.json", log_dir=folder / "workers" / "w0")
    text = master_script(order(awkward), SlurmOptions())
    assert shlex.quote(str(folder)) in text
    directives = [line for line in text.splitlines() if line.startswith("#SBATCH")]
    assert not any("HOME" in line for line in directives)
    assert step_command(awkward, SlurmOptions(), "42").argv.count(str(folder / "control.json")) == 1


def test_labels_are_short_words_that_keep_what_is_different() -> None:
    assert label("aibench", "ünï cödé\n-1234abcd") == "aibench._n_c_d_-1234abcd"
    assert len(label("x" * 500 + "-1234abcd")) == 120
    assert label("x" * 500 + "-1234abcd").endswith("-1234abcd")


@pytest.mark.parametrize(
    ("workers", "options", "expected"),
    [
        ([worker(i) for i in range(4)], SlurmOptions(), (4, 5, None)),
        ([worker(i) for i in range(4)], SlurmOptions(workers_per_node=3), (2, 13, None)),
        ([worker(i) for i in range(4)], SlurmOptions(nodes=2, gres="gpu"), (2, 9, "gpu:8")),
        ([worker(i) for i in range(4)], SlurmOptions(spare_nodes=2, master_cores=0), (6, 4, None)),
        ([worker(num_ranks=8, num_nodes=2)], SlurmOptions(workers_per_node=4), (2, 17, None)),
        ([worker(device="cpu")], SlurmOptions(gres="gpu"), (1, 5, None)),
        ([worker(device="simulated")], SlurmOptions(gres="gpu"), (1, 2, None)),
        ([worker(), worker(1, num_ranks=16, num_nodes=2)], SlurmOptions(gres="npu"), (3, 9, "npu:8")),
    ],
)
def test_the_shape_of_a_job(workers: list[WorkerSpec], options: SlurmOptions, expected: object) -> None:
    shape = job_shape(workers, options)
    assert (shape.nodes, shape.cpus_per_node, shape.gres) == expected


def test_a_job_asks_for_the_measured_time_and_half_an_hour() -> None:
    assert "#SBATCH --time=90\n" in master_script(order(worker()), SlurmOptions())
    assert "--time" not in master_script(order(worker(), measured_time_s=None), SlurmOptions())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"partition": "a b"}, "partition is 'a b'; expected a name without spaces and quotes"),
        ({"gres": "gpu:8"}, "gres is 'gpu:8'; expected it without a count, which is the ranks per node"),
        (
            {"nodes": 2, "workers_per_node": 2},
            "nodes and workers_per_node are both given; expected one of them",
        ),
        ({"master_cores": -1}, "master_cores is -1; expected at least 0"),
        (
            {"extra_directives": ("mem=0",)},
            "extra_directives has 'mem=0'; expected one option, such as '--mem=0'",
        ),
        ({"extra_directives": ("--x=1\nid",)}, "extra_directives has '--x=1\\nid'"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match="expected") as refused:
        SlurmOptions(**options)
    assert str(refused.value).startswith(said)
