from pathlib import Path
from typing import Any

import pytest

from aibench.api.host import HostState, HostStatus
from aibench.cli import hosted
from aibench.errors import LauncherError
from aibench.master.layout import RunLayout
from aibench.master.submission import Submission, withdraw

SUBMISSION = Submission(launcher={"name": "fake"}, reference="7")


class DeafHost:
    """Takes the request to end only when it was asked often enough."""

    def __init__(self, num_deaf: int) -> None:
        self.num_deaf = num_deaf
        self.is_ended = False

    def cancel(self, reference: str) -> None:
        if self.num_deaf:
            self.num_deaf -= 1
            raise LauncherError("the engine does not answer")
        self.is_ended = True

    def status(self, reference: str) -> HostStatus:
        return HostStatus(state=HostState.ENDED if self.is_ended else HostState.RUNNING)


def test_a_request_to_end_that_got_no_answer_is_made_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hosted, "PAUSE_S", 0.0)
    host: Any = DeafHost(num_deaf=2)
    status = hosted._wait(host, SUBMISSION, tmp_path, [2], quiet=True)
    assert status.state is HostState.ENDED
    assert capsys.readouterr().err.count("the engine does not answer: asking again") == 2


def test_the_folder_of_a_run_that_never_began_is_taken_back(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "run")
    layout.create()
    layout.write_config("name: x\n")
    withdraw(layout, remove_folder=True)
    assert not layout.root.exists()


def test_the_folder_of_a_run_that_began_stays_as_it_is(tmp_path: Path) -> None:
    layout = RunLayout(tmp_path / "run")
    layout.create()
    layout.write_config("name: x\n")
    layout.journal.write_text("{}\n")
    layout.submission.write_text("{}")
    before = sorted(path.name for path in layout.root.iterdir())
    withdraw(layout, remove_folder=True)
    assert sorted(path.name for path in layout.root.iterdir()) == before
