"""The command really trains a few tiny trials."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml
from support.waiting import eventually

from aibench.config import load_config, resolve
from aibench.counting import count
from aibench.search.evaluator import TrialWork

CONFIG: dict[str, Any] = {
    "name": "tiny",
    "division": "smoke",
    "workload": {"name": "image_classification", "data": "digits", "initial": "resnet18", "width": 2},
    "workers": [{"count": 1, "device": "cpu"}],
    "limits": {"trials": 1},
    "epochs": {"warmup": [], "full": 1},
    "search": {"hyper_parameters": "random", "space": {"kernel_size": {"choices": [3]}}},
}
TIMEOUT_S = 240.0


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("config") / "tiny.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    return path


def command(config: Path, out: Path, *, trials: float, **options: Any) -> list[str]:
    resolved = resolve(load_config(str(config)))
    dataset = resolved.description.dataset
    work = TrialWork(train_images=dataset.train_images, validation_images=dataset.validation_images, epochs=1)
    budget_ops = int(trials * work.ops(count(resolved.initial)))
    arguments = {
        "--on": "workload",
        "--seeds": 2,
        "--jobs": 2,
        "--budget": budget_ops,
        "--out": out,
        **options,
    }
    extra = [str(part) for pair in arguments.items() for part in pair]
    return [sys.executable, "-m", "aibench", "compare-search", str(config), "--algorithms", "none", *extra]


def compare(config: Path, out: Path, *, trials: float) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(config, out, trials=trials), capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )


def trials_of(out: Path) -> dict[tuple[int, int], Any]:
    lines = (out / "trials.jsonl").read_text().splitlines()
    return {(trial["seed"], trial["trial"]): trial for trial in map(json.loads, lines)}


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_trials_are_trained_and_the_same_again_with_the_same_seeds(config: Path, tmp_path: Path) -> None:
    first = compare(config, tmp_path / "first", trials=1.5)
    assert first.returncode == 0, first.stderr
    trials = trials_of(tmp_path / "first")
    assert set(trials) == {(1, 1), (1, 2), (2, 1), (2, 2)}
    for trial in trials.values():
        assert trial["reason"] == ""
        assert 0.0 <= trial["error"] < 1.0
        assert trial["train_s"] > 0
        assert 0 < trial["processed_ops"] <= trial["ops"]
    document = json.loads((tmp_path / "first" / "comparison.json").read_bytes())
    assert document["conditions"]["on"] == "workload"
    assert document["conditions"]["least_error"] == 1 / 360
    sentence = document["conditions"]["evaluator"]
    assert "1,437 training and 360 validation images" in sentence
    assert "says nothing about larger data" in sentence
    assert sentence in " ".join(first.stdout.split())
    trained = {
        (course["seed"], trial["trial"]) for course in document["courses"] for trial in course["trained"]
    }
    assert trained
    assert trained <= set(trials)
    assert "% done" in first.stderr
    assert "left" in first.stderr

    compare(config, tmp_path / "second", trials=1.5)
    again = trials_of(tmp_path / "second")
    assert {key: trial["error"] for key, trial in again.items()} == {
        key: trial["error"] for key, trial in trials.items()
    }


def test_an_interruption_leaves_the_trained_trials_and_no_process(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(config, out, trials=1000.0), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    trials = out / "trials.jsonl"
    eventually(lambda: trials.exists() and trials.stat().st_size > 0)
    trainers = psutil.Process(process.pid).children()
    assert len(trainers) == 2
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 130, stderr
    assert stdout == ""
    assert "Traceback" not in stderr
    num_trials = len(trials_of(out))
    noun = "trial" if num_trials == 1 else "trials"
    assert f"aibench: interrupted after {num_trials} trained {noun}, in {trials}" in stderr.splitlines()
    assert not any(map(is_alive, trainers))
    assert not (out / "comparison.json").exists()


def test_a_killed_command_leaves_no_process(config: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = subprocess.Popen(
        command(config, out, trials=1000.0), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    trials = out / "trials.jsonl"
    eventually(lambda: trials.exists() and trials.stat().st_size > 0)
    trainers = psutil.Process(process.pid).children()
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    eventually(lambda: not any(map(is_alive, trainers)))
