from pathlib import Path
from typing import Any

import msgspec
import pytest
from support.runs import RunBuilder, write_journal

from aibench.config import ResolvedRun, load_config, resolve
from aibench.errors import DataError, RunFolderError
from aibench.master.run import resolve_for_resume, resume_run


@pytest.fixture(scope="module")
def resolved() -> ResolvedRun:
    return resolve(load_config("smoke", ["workers.0.device=cpu", "workers.1.device=cpu"]))


def interrupted(root: Path, resolved: ResolvedRun, **changes: Any) -> Path:
    root.mkdir()
    builder = RunBuilder().start(workload=resolved.description, config=resolved.document, **changes)
    write_journal(root / "journal.jsonl", builder.records)
    return root


def test_data_that_changed_since_the_start_is_refused(tmp_path: Path, resolved: ResolvedRun) -> None:
    other = msgspec.structs.replace(resolved.description.dataset, fingerprint="0123456789abcdef0123")
    recorded = msgspec.structs.replace(resolved.description, dataset=other)
    root = interrupted(tmp_path / "run", resolved)
    write_journal(root / "journal.jsonl", RunBuilder().start(workload=recorded).records)
    with pytest.raises(DataError, match=r"dataset changed .*expected 0123456789abcdef"):
        resume_run(resolved, root, lambda _: None)


def test_a_run_of_other_rules_is_refused(tmp_path: Path, resolved: ResolvedRun) -> None:
    root = interrupted(tmp_path / "run", resolved, rules_version="aiperf-v0")
    with pytest.raises(DataError, match="started by rules aiperf-v0, this release has aiperf-v1"):
        resume_run(resolved, root, lambda _: None)


def test_a_sealed_run_is_not_resumed(tmp_path: Path, resolved: ResolvedRun) -> None:
    root = interrupted(tmp_path / "run", resolved)
    write_journal(root / "journal.jsonl", RunBuilder().start(config=resolved.document).end())
    with pytest.raises(
        RunFolderError, match=r"the run ended already \(time_limit\); look at it with aibench"
    ):
        resolve_for_resume(root)


def test_the_configuration_comes_back_from_the_journal(tmp_path: Path, resolved: ResolvedRun) -> None:
    again = resolve_for_resume(interrupted(tmp_path / "run", resolved))
    assert again.document == resolved.document
    assert again.description == resolved.description
