"""What `slurm/` gives to administrators is usable as it stands."""

import re
import subprocess
from pathlib import Path

import pytest

from aibench.config import load_config, resolve_launcher
from launchers.slurm_options import SlurmContainer, SlurmOptions

FOLDER = Path(__file__).parents[2] / "slurm"
SCRIPTS = [*FOLDER.glob("examples/*.sbatch"), *FOLDER.glob("dev-cluster/*")]


@pytest.mark.parametrize("path", sorted(FOLDER.glob("examples/*.yaml")), ids=lambda path: path.name)
def test_the_configurations_are_accepted(path: Path) -> None:
    assert resolve_launcher(load_config(str(path)).launcher).name == "slurm"
    assert path.with_suffix(".sbatch").is_file()


@pytest.mark.parametrize("path", sorted(SCRIPTS), ids=lambda path: path.name)
def test_the_scripts_are_bash(path: Path) -> None:
    checked = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr


def test_the_readme_names_every_key_and_no_other() -> None:
    table = (FOLDER / "README.md").read_text().partition("## Keys of `launcher`")[2].partition("\n## ")[0]
    first_cells = [line.split("|")[1] for line in table.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(\w+)`", "".join(first_cells)))
    assert named == set(SlurmOptions.__struct_fields__)
    assert all(f"{field}:" in table for field in SlurmContainer.__struct_fields__)
