import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Any]:
    import subprocess
    import sys

    folder = tmp_path_factory.mktemp("smoke")
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "aibench",
            "smoke",
            "--out",
            folder / "run",
            "--junit",
            folder / "smoke.xml",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, json.loads(done.stdout)


def test_smoke_passes_with_two_workers_one_of_them_with_two_ranks(smoke: tuple[Path, Any]) -> None:
    _, result = smoke
    report = result["report"]
    assert result["passed"] is True
    assert sorted(len(worker["devices"]) for worker in report["workers"]) == [1, 2]
    assert len({trial["worker"] for trial in report["trials"] if trial["finished_epochs"]}) == 2
    assert report["score"]["error"] < 0.30
    assert report["score"]["normalized_ops_per_s"] > 0
    assert report["verdict"] == "smoke"


def test_smoke_searches(smoke: tuple[Path, Any]) -> None:
    _, result = smoke
    trials = result["report"]["trials"]
    assert len(trials) >= 4
    assert len({trial["architecture_hash"] for trial in trials}) >= 3
    assert any(trial["morphs"] for trial in trials)


def test_smoke_shares_add_up(smoke: tuple[Path, Any]) -> None:
    _, result = smoke
    for shares in result["report"]["shares"]:
        assert sum(shares["fractions"].values()) == pytest.approx(1.0)
        assert shares["fractions"]["compute"] > 0.3


def test_smoke_writes_junit(smoke: tuple[Path, Any]) -> None:
    folder, result = smoke
    suite = ET.parse(folder / "smoke.xml").getroot().find("testsuite")
    assert suite is not None
    assert int(suite.attrib["tests"]) == len(result["checks"]) >= 8
    assert suite.attrib["failures"] == "0"


def test_score_report_and_verify_agree_with_the_run(
    smoke: tuple[Path, Any], aibench: Callable[..., Any]
) -> None:
    folder, result = smoke
    root = folder / "run"
    scored = aibench("score", root, "--json")
    assert json.loads(scored.stdout)["runs"][0]["score"] == result["report"]["score"]
    assert aibench("verify", root).returncode == 0
    html = (root / "report.html").read_text()
    assert "<svg" in html
    assert "://" not in html.replace("http://www.w3.org/2000/svg", "")
    (root / "report.html").unlink()
    reported = aibench("report", root)
    assert reported.returncode == 0
    assert (root / "report.html").read_text() == html


def test_an_edited_epoch_is_found(
    smoke: tuple[Path, Any], tmp_path: Path, aibench: Callable[..., Any]
) -> None:
    folder, _ = smoke
    copy = tmp_path / "run"
    copy.mkdir()
    lines = (folder / "run" / "journal.jsonl").read_text().splitlines(keepends=True)
    target = next(n for n, line in enumerate(lines) if '"epoch_finished"' in line)
    event = json.loads(lines[target])["event"]["result"]["validation_correct"]
    lines[target] = lines[target].replace(
        f'"validation_correct":{event}', f'"validation_correct":{event + 1}', 1
    )
    (copy / "journal.jsonl").write_text("".join(lines))
    checked = aibench("verify", copy)
    assert checked.returncode == 2
    assert checked.stderr == (
        f"aibench: journal line {target + 1}: its hash does not match its content; "
        f"the {target} record(s) before it are intact\n"
    )


def test_the_run_folder_keeps_its_token_from_others_and_drops_it_at_the_end(smoke: tuple[Path, Any]) -> None:
    folder, _ = smoke
    assert not (folder / "run" / "control.json").exists()
