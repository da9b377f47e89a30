import re
from pathlib import Path

import pytest
from support.runs import RunBuilder

import aibench.score
from aibench.api.events import Outcome
from aibench.score.history import RunHistory
from aibench.score.html import render_html
from aibench.score.report import build_report


@pytest.mark.parametrize("outcome", Outcome)
def test_every_outcome_has_a_mark_and_a_colour_in_the_report(outcome: Outcome) -> None:
    builder = RunBuilder().start().join().barrier().claim(epochs=2, t_s=1.0).epoch(1, t_s=9.0)
    if outcome is Outcome.COMPLETED:
        builder.epoch(1, t_s=10.0)
    page = render_html(build_report(RunHistory.of(builder.close(1, outcome).end())))
    marks = re.findall(rf'<span class="pill {outcome}"><span aria-hidden="true">(.*?)</span>', page)
    assert marks
    assert all(len(mark) == 1 for mark in marks)
    style = Path(aibench.score.__file__).parent / "templates" / "report.css"
    assert f".pill.{outcome}" in style.read_text()
