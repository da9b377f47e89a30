import io
import re
from pathlib import Path

import msgspec
import pytest
from rich.console import Console
from support.runs import RunBuilder

from aibench.api.events import Lineage, Outcome
from aibench.cli import tables
from aibench.cli.search_tables import pedigree_table, search_rows
from aibench.score.history import RunHistory
from aibench.score.html import render_html
from aibench.score.report import Report, build_report
from aibench.score.search_view import search_sentence

ATTACK = "<script>alert(1)</script>\"'[red]"


def chain(length: int, *, morph: str = "widen@3:x2") -> RunBuilder:
    """Trial n morphs trial n-1's network, has n % accuracy, is expected at 50 % and halfway at 40 % error."""
    builder = RunBuilder().start().join().barrier()
    for trial in range(1, length + 1):
        lineage = Lineage(
            origin="evolution" if trial > 1 else "initial",
            parent=f"{trial - 1}" if trial > 1 else None,
            morphs=(morph,) if trial > 1 else (),
            predicted_error=0.5,
        )
        builder.claim(
            architecture_hash=f"{trial}", lineage=lineage, epochs=2, train_ops=100 * trial, t_s=10.0 * trial
        )
        builder.epoch(trial, correct=trial, predicted_error=0.4)
        builder.epoch(trial, correct=trial, t_s=10.0 * trial + 5).close(trial)
    return builder


def report_of(builder: RunBuilder) -> Report:
    return build_report(RunHistory.of(builder.records))


def section(report: Report) -> str:
    """The text of the search section."""
    html = render_html(report)
    found = re.search(r'<section id="search".*?</section>', html, re.DOTALL)
    assert found is not None
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", found[0]).replace("\N{NO-BREAK SPACE}", " "))


def test_the_section_tells_the_search() -> None:
    text = section(report_of(chain(6)))
    assert "6 trials trained 6 different networks in 6 generations." in text
    assert (
        "The best one is 5 steps from its root, trial 1: along its line the error went from "
        "99.00 % to 94.00 %." in text
    )
    assert "trial 1 99.00 % the initial network initial 1.00" in text
    assert "trial 6 94.00 % -1.00 % widened ×2 at node 3 evolution 6.00" in text
    assert "evolution (5)" in text
    assert "46.50 percentage points off on average, rank correlation undefined (6 completed trials)" in text


def test_every_dot_of_the_tree_has_a_tooltip() -> None:
    html = render_html(report_of(chain(6)))
    assert len(re.findall(r"<circle class=\"(?:initial|evolution) best\"[^>]*><title>trial \d", html)) == 6


@pytest.mark.parametrize(
    ("length", "trained", "best"),
    [
        (
            1,
            "1 trial trained 1 different network in 1 generation.",
            "The best one, of trial 1, is a root itself.",
        ),
        (
            2,
            "2 trials trained 2 different networks in 2 generations.",
            "The best one is 1 step from its root, trial 1: along its line the error went from 99.00 % to "
            "98.00 %.",
        ),
    ],
)
def test_a_search_of_one_or_two_networks_is_told(length: int, trained: str, best: str) -> None:
    report = report_of(chain(length))
    assert search_sentence(report) == f"{trained} {best}"
    assert "too few to judge" in section(report)


def test_a_run_without_epochs_has_no_tree() -> None:
    text = section(report_of(RunBuilder().start().join().barrier().claim(t_s=1.0)))
    assert "No tree before the first finished epoch that counts." in text
    assert "Nothing was predicted of a trial that completed." in text


def test_a_run_of_failures_has_no_tree_and_its_report_says_why() -> None:
    builder = RunBuilder().start().join().barrier()
    for trial in (1, 2):
        builder.claim(epochs=2, t_s=10.0 * trial).epoch(trial, t_s=10.0 * trial + 5)
        builder.close(trial, Outcome.FAILED, reason=ATTACK)
    report = report_of(builder)
    assert "No tree before the first finished epoch that counts." in section(report)
    html = render_html(report)
    assert html.count("<script") == 1
    assert html.count("&lt;script&gt;") >= 2


def test_hostile_morphs_and_origins_are_escaped() -> None:
    builder = chain(3, morph=ATTACK)
    lineage = Lineage(origin=ATTACK, parent=ATTACK, morphs=(ATTACK,))
    builder.claim(architecture_hash="z" + ATTACK, lineage=lineage).epoch(4, correct=90, t_s=100.0).close(4)
    html = render_html(report_of(builder))
    assert html.count("<script") == 1
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;&#34;&#39;[red]") > 10


def test_two_thousand_networks_stay_within_a_few_megabytes() -> None:
    report = report_of(chain(50))
    first = report.tree.networks[0]
    networks = tuple(
        msgspec.structs.replace(
            first,
            architecture_hash=f"{n:064x}",
            trials=(n,),
            parent=f"{n // 2:064x}" if n > 1 else None,
            morphs=("deepen@123:block", "widen@123:x2", "skip@12-345:concat"),
            error=0.5 / n,
            generation=n.bit_length() - 1,
            claimed_s=n / 5,
            is_on_best_line=n in (1, 3, 7, 15, 31),
        )
        for n in range(1, 2001)
    )
    tree = msgspec.structs.replace(report.tree, networks=networks, num_networks=9000)
    html = render_html(msgspec.structs.replace(report, tree=tree))
    assert len(html) < 1_500_000
    assert html.count('<circle class="initial') >= 2000
    assert html.count("└") < 300
    assert "the best 300 of 9,000 networks" in html.replace("\N{NO-BREAK SPACE}", " ")
    assert "7,000 networks are not drawn" in html
    assert len(msgspec.json.encode(tree)) < 1_500_000


# Terminal ---------------------------------------------------------------------------------------------


def printed(report: Report, monkeypatch: pytest.MonkeyPatch) -> str:
    out = io.StringIO()
    monkeypatch.setattr(tables, "_console", lambda: Console(file=out, width=150, highlight=False))
    tables.print_report(report, Path("root"))
    return out.getvalue()


def test_the_summary_says_what_was_searched_and_predicted() -> None:
    assert list(search_rows(report_of(chain(6)))) == [
        ("search", "6 networks in 6 generations, line of the best: trial 1 → 2 → 3 → 4 → 5 → 6"),
        (
            "search predicted",
            "46.50 percentage points off on average, rank correlation undefined (6 completed trials)",
        ),
        (
            "curves predicted",
            "56.50 percentage points off on average, rank correlation undefined (6 completed trials)",
        ),
    ]


def test_a_run_of_one_network_without_predictions_has_no_rows_of_a_search() -> None:
    builder = RunBuilder().start().join().barrier().claim(t_s=0.0).epoch(t_s=1.0).close()
    assert list(search_rows(report_of(builder))) == []
    assert pedigree_table(report_of(builder)) is None


def test_a_long_pedigree_leaves_its_middle_out() -> None:
    table = pedigree_table(report_of(chain(20)))
    assert table is not None
    assert list(table.columns[0].cells) == ["1", "2", "3", "13 more", "17", "18", "19", "20"]
    rows = dict(search_rows(report_of(chain(20))))
    assert rows["search"].endswith("trial 1 → 2 → 3 → … → 17 → 18 → 19 → 20")
    whole = pedigree_table(report_of(chain(8)))
    assert whole is not None
    assert list(whole.columns[0].cells) == ["1", "2", "3", "4", "5", "6", "7", "8"]


def test_the_pedigree_is_printed_with_hostile_text_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    text = printed(report_of(chain(3, morph="[red]\x1b[2Jx")), monkeypatch)
    assert "Where the best network comes from" in text
    assert "[red]\N{REPLACEMENT CHARACTER}[2Jx" in text
    assert "\x1b" not in text
