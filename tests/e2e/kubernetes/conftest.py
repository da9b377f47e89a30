import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.kubernetes import REPOSITORY, kubectl


@pytest.fixture(scope="session", autouse=True)
def cluster() -> None:
    try:
        nodes = subprocess.run(
            ["kubectl", "get", "nodes", "--output", "name"], capture_output=True, text=True, timeout=30, check=True
        ).stdout
    except (OSError, subprocess.SubprocessError) as error:
        nodes = str(error)
    if "node/" not in nodes:
        up = REPOSITORY / "k8s" / "dev-cluster" / "up"
        pytest.fail(f'no Kubernetes answers here ({nodes.strip()}); start one: eval "$({up})"', pytrace=False)


@pytest.fixture
def namespace(cluster: None) -> Iterator[str]:
    name = f"test-{uuid.uuid4().hex[:8]}"
    kubectl("create", "namespace", name)
    yield name
    kubectl("delete", "namespace", name, "--wait=false")


@pytest.fixture
def shared() -> Iterator[Path]:
    """A folder that the users of all pods may write, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="aibench-test-", dir="/var/tmp") as folder:
        Path(folder).chmod(0o777)
        yield Path(folder)
