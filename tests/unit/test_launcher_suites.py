from pathlib import Path

from aibench import registry
from aibench.registry import LAUNCHERS

ROOT = Path(__file__).parents[1]
SUITES = {
    "local": "contract/test_launcher_contract.py",
    "slurm": "e2e/slurm/test_slurm_contract.py",
    "kubernetes": "e2e/kubernetes/test_kubernetes_launcher.py",
    "mpi": "contract/test_mpi_launcher_contract.py",
}


def test_every_built_in_launcher_passes_the_suite() -> None:
    assert SUITES.keys() == registry._BUILTIN[LAUNCHERS].keys()
    for name, file in SUITES.items():
        module = registry._BUILTIN[LAUNCHERS][name].partition(":")[2]
        text = (ROOT / file).read_text()
        assert "(LauncherContract)" in text
        assert module in text
