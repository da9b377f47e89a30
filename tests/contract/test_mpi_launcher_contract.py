import pytest

from aibench.api.launcher import Launcher
from aibench.testing.launcher_contract import LauncherContract
from launchers.mpi import MpiLauncher, MpiOptions


@pytest.mark.mpi
class TestMpiLauncher(LauncherContract):
    def make_launcher(self) -> Launcher:
        return MpiLauncher(MpiOptions())
