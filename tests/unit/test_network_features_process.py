"""The process that measures an initial network for the master."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from aibench.cli import main
from aibench.config import guided
from aibench.errors import ConfigError

DIGITS = {"data": "digits", "initial": "resnet18", "width": 4}


def test_a_process_of_its_own_answers() -> None:
    found = guided.measure_network("image_classification", DIGITS)
    assert found.absent is None
    assert "inverse_gradient_noise_scale" in found.features


def test_what_it_says_last_is_the_problem() -> None:
    with pytest.raises(ConfigError) as refused:
        guided.measure_network("image_classification", {**DIGITS, "data": "mnist"})
    assert str(refused.value).startswith(
        "search.feature_guided: cannot measure the initial network: aibench: workload.data: got 'mnist'; "
    )


def test_a_process_that_says_nothing_is_a_problem_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(ConfigError, match="cannot measure the initial network: it wrote nothing"):
        guided.measure_network("image_classification", DIGITS)


def test_without_torch_the_features_are_absent(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['torch'] = None\n")
    environment = {"PYTHONPATH": f"{tmp_path}:{':'.join(path for path in sys.path if path)}"}
    done = subprocess.run(
        [sys.executable, "-m", "aibench", "network-features", "image_classification"],
        input=json.dumps(DIGITS).encode(),
        capture_output=True,
        env=environment,
        check=True,
    )
    assert msgspec.json.decode(done.stdout) == {"features": {}, "absent": "torch"}


@pytest.mark.parametrize("text", ["", "{", "[1]", "{}"])
def test_options_that_are_none_get_one_line(text: str) -> None:
    done = CliRunner().invoke(main, ["network-features", "image_classification"], input=text)
    assert done.exit_code == 2
    assert done.stderr.startswith("aibench: ")
    assert done.stderr.count("\n") == 1
