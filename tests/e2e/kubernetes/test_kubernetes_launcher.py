import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from support.kubernetes import IMAGE, host_mounts, names

from aibench.api.launcher import Launcher
from aibench.testing.launcher_contract import LauncherContract, Stage
from launchers.kubernetes import KubernetesLauncher
from launchers.kubernetes_options import KubernetesOptions
from launchers.kubernetes_patch import merged

pytestmark = pytest.mark.kubernetes


class TestKubernetes(LauncherContract):
    patience_s: ClassVar[float] = 120.0
    checks_capacity: ClassVar[bool] = False
    replaces_by_itself: ClassVar[bool] = True
    passes_paths: ClassVar[bool] = False

    @pytest.fixture(autouse=True)
    def _place(self, namespace: str, shared: Path) -> Iterator[None]:
        self._namespace, self._shared = namespace, shared
        before = os.umask(0)
        yield
        os.umask(before)

    def make_launcher(self) -> Launcher:
        quick = {"spec": {"terminationGracePeriodSeconds": 1}}
        return KubernetesLauncher(
            KubernetesOptions(
                image=IMAGE,
                namespace=self._namespace,
                python=sys.executable,
                pod_patch=merged(host_mounts(self._shared), quick),
                schedule_timeout_s=5,
                master="here",
            )
        )

    def shared_folder(self, tmp_path: Path) -> Path:
        return self._shared

    def test_stopping_leaves_no_object(self, stage: Stage) -> None:
        before = names("all,secrets,configmaps", self._namespace)
        launcher, worker = stage.launcher(), stage.worker()
        stage.begin(launcher, worker)
        assert names("secrets", self._namespace, "app.kubernetes.io/name=aibench")
        launcher.stop()
        assert names("all,secrets,configmaps", self._namespace) == before
