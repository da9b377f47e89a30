import pytest
from support.slurm import Allocation

from aibench.api.launcher import Launcher
from aibench.testing.launcher_contract import LauncherContract
from launchers.slurm import SlurmLauncher
from launchers.slurm_options import SlurmOptions

pytestmark = pytest.mark.slurm


class TestSlurmSteps(LauncherContract):
    """Inside an allocation: workers are its steps."""

    @pytest.fixture(autouse=True)
    def _inside(self, allocation: Allocation) -> None:
        pass

    def make_launcher(self) -> Launcher:
        return SlurmLauncher(SlurmOptions())


class TestSlurmJobs(LauncherContract):
    """Outside: workers are elements of job arrays."""

    @pytest.fixture(autouse=True)
    def _outside(self, cluster: object, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SLURM_JOB_ID", raising=False)

    def make_launcher(self) -> Launcher:
        return SlurmLauncher(SlurmOptions(master="here"))
