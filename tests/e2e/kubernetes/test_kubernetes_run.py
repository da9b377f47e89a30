import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.kubernetes


def test_a_run_from_outside_is_followed_brings_its_results_home_and_leaves_nothing(
    make_run: Callable[..., Any],
) -> None:
    run = make_run()
    run.start()
    status, output = run.finish()
    assert status == 0, output
    assert "normalized score" in output
    run.check()
    assert {event["worker"] for event in run.events("worker_joined")} == {"w0", "w1"}
    assert (run.root / "report.html").exists()
    assert (run.root / "workers" / "w0" / "output.log").read_text()
    assert run.left() == []
