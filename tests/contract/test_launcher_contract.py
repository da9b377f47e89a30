import os
from pathlib import Path

import psutil

from aibench.api.launcher import Launcher
from aibench.testing.launcher_contract import LauncherContract, Stage
from launchers.local import LocalLauncher, LocalOptions


class TestLocalLauncher(LauncherContract):
    def make_launcher(self) -> Launcher:
        return LocalLauncher(LocalOptions())

    def test_workers_are_out_of_reach_of_a_signal_to_the_masters_group(self, stage: Stage) -> None:
        stage.begin(stage.launcher(), stage.worker())
        groups = {
            os.getpgid(process.pid)
            for process in psutil.process_iter(["cmdline"])
            if str(stage.folder) in " ".join(process.info["cmdline"] or [])
        }
        assert groups
        assert os.getpgid(0) not in groups

    def test_output_of_a_stopped_worker_says_that_it_was_stopped(self, stage: Stage, tmp_path: Path) -> None:
        launcher, worker = stage.launcher(), stage.worker()
        stage.begin(launcher, worker)
        launcher.stop()
        assert "stopped by its master" in (worker.log_dir / "output.log").read_text()
