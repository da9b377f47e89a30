from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from aibench.errors import RunFolderError
from aibench.master.layout import RunLayout, write_private

LOCK_AND_WAIT = """
import sys
from pathlib import Path
from aibench.master.layout import RunLayout
with RunLayout(Path(sys.argv[1])).locked():
    print("locked", flush=True)
    sys.stdin.read()
"""


def test_every_name_lies_in_the_run_folder(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    names = [layout.config, layout.journal, layout.control, layout.lock, layout.report_json]
    names += [layout.report_html, layout.weights_dir, layout.worker_dir("w3")]
    assert [str(name.relative_to(tmp_path)) for name in names] == [
        "config.yaml",
        "journal.jsonl",
        "control.json",
        "master.lock",
        "report.json",
        "report.html",
        "weights",
        "workers/w3",
    ]


def test_a_folder_is_made_with_those_above_it(tmp_path: Path) -> None:
    RunLayout(tmp_path / "a" / "b").create()
    assert (tmp_path / "a" / "b").is_dir()


def test_an_empty_folder_will_do(tmp_path: Path) -> None:
    RunLayout(tmp_path).create()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["journal.jsonl", ".hidden"])
def test_a_folder_with_anything_in_it_is_refused_and_left_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("precious")
    with pytest.raises(RunFolderError) as refusal:
        RunLayout(tmp_path).create()
    assert str(refusal.value) == f"{tmp_path}: is not empty; expected a new or empty folder"
    assert (tmp_path / name).read_text() == "precious"


@pytest.mark.parametrize(("name", "problem"), [("file/run", "Not a directory"), ("file", "File exists")])
def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path, name: str, problem: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError) as refusal:
        RunLayout(tmp_path / name).create()
    assert str(refusal.value) == f"{tmp_path}/{name}: cannot be made a run folder ({problem})"


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A root user may write anywhere, so the system's answer is given for it.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(RunFolderError) as refusal:
        RunLayout(tmp_path).create()
    assert str(refusal.value) == f"{tmp_path}: cannot be written"


def test_a_run_folder_has_a_journal(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    with pytest.raises(RunFolderError) as refusal:
        layout.require_run()
    assert str(refusal.value) == f"{tmp_path}: is no run folder (it has no journal.jsonl)"
    layout.journal.touch()
    layout.require_run()


def test_a_folder_named_like_the_journal_is_none(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    layout.journal.mkdir()
    with pytest.raises(RunFolderError, match="is no run folder"):
        layout.require_run()


def test_a_second_master_is_kept_out_until_the_first_ends(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    command = [sys.executable, "-c", LOCK_AND_WAIT, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as master:
        assert master.stdout is not None
        assert master.stdout.readline() == b"locked\n"
        with pytest.raises(RunFolderError) as refusal, layout.locked():
            pytest.fail("two masters")
        assert str(refusal.value) == f"{tmp_path}: another master is running on this folder"
        master.kill()
    with layout.locked():
        assert layout.lock.exists()


def test_a_lock_ends_with_its_block(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path)
    with layout.locked(), pytest.raises(RunFolderError), layout.locked():
        pytest.fail("two masters")
    with pytest.raises(KeyError), layout.locked():
        raise KeyError
    with layout.locked():
        pass


def test_a_folder_that_cannot_be_locked_is_not_mistaken_for_a_busy_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(RunFolderError) as refusal, RunLayout(tmp_path / "gone").locked():
        pytest.fail("nothing to lock")
    assert str(refusal.value) == f"{tmp_path}/gone/master.lock: cannot be locked (No such file or directory)"

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(RunFolderError) as refusal, RunLayout(tmp_path).locked():
        pytest.fail("the file system locks nothing")
    assert str(refusal.value) == f"{tmp_path}/master.lock: cannot be locked (No locks available)"


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_private_file_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        write_private(tmp_path / "secret", b"token")
    finally:
        os.umask(before)
    assert (tmp_path / "secret").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "secret").read_bytes() == b"token"


def test_a_private_file_replaces_a_public_one_whole(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("an older and longer text")
    path.chmod(0o644)
    with path.open() as reader:
        write_private(path, b"token")
        assert reader.read() == "an older and longer text"
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.read_bytes() == b"token"
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_left_behind_is_neither_kept_nor_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("untouched")
    (tmp_path / "secret.new").symlink_to(tmp_path / "elsewhere")
    write_private(tmp_path / "secret", b"token")
    assert (tmp_path / "elsewhere").read_text() == "untouched"
    assert not (tmp_path / "secret").is_symlink()
    assert not (tmp_path / "secret.new").exists()
