import base64
import hashlib
import re
from collections import Counter
from html.parser import HTMLParser

import msgspec
import pytest

from aibench.api.events import Device, Outcome
from aibench.api.workload import DatasetDescription, WorkloadDescription
from aibench.score.charts import BOX, bar, curve_charts, error_chart
from aibench.score.html import device_groups, render_html, stability_text, utc_text, verdict_text
from aibench.score.lineage import Network, TreeReport
from aibench.score.predictions import PredictionPair, PredictionSeries, PredictionsReport
from aibench.score.report import (
    CurvePoint,
    ErrorPoint,
    FindingReport,
    Report,
    ScoreReport,
    SharesReport,
    StabilityReport,
    TrialReport,
    TurnaroundReport,
    WorkerReport,
)

FAILED, LOST = 6, 13
VOID = {"meta", "link", "br", "img", "input", "hr"}
TOTAL = SharesReport(
    worker=None,
    fractions={
        "compute": 0.75,
        "data_wait": 0.0625,
        "communication": 0.0,
        "validation": 0.0625,
        "startup": 0.03125,
        "search_wait": 0.0,
        "unfinished": 0.03125,
        "lost": 0.03125,
        "idle": 0.03125,
    },
    communication_is_separate=False,
)


def make_trial(number: int, epochs: int = 15) -> TrialReport:
    outcome, reason, finished = "completed", "", epochs
    if number == FAILED:
        outcome, reason, finished = "failed", "loss is not finite in epoch 4: nan", 3
    elif number == LOST:
        outcome, reason, finished = "lost", "no heartbeat for 30 s", 7
    return TrialReport(
        trial=number,
        worker=f"worker-{number % 2}",
        round=(number + 1) // 2,
        outcome=outcome,
        reason=reason,
        epochs=epochs,
        finished_epochs=finished,
        error=None if outcome == "failed" else 0.6 - 0.4 * (number / (number + 5)),
        claimed_s=(number - 1) // 2 * 360.0,
        closed_s=(number - 1) // 2 * 360.0 + 355.0,
        parameters=25_557_032 + number * 65_536,
        train_ops=23_053_458_315 + number * 100_000_000,
        hyper_parameters={"batch_size": 256, "kernel": 3, "learning_rate": 0.1 / number, "optimizer": "sgd"},
        architecture_hash=f"{number:02x}c0ffee" + "0" * 56,
        origin="evolution" if number > 2 else "initial",
        parent=f"{number - 2:02x}c0ffee" + "0" * 56 if number > 2 else None,
        morphs=("deepen stage 2", "widen stage 3") if number > 2 else (),
    )


def make_errors(trials: tuple[TrialReport, ...]) -> tuple[ErrorPoint, ...]:
    found = sorted(
        (
            trial.claimed_s + 23.0 * (epoch + 1),
            trial.trial,
            trial.error + (0.95 - trial.error) * (1 - (epoch + 1) / trial.finished_epochs) ** 2,
        )
        for trial in trials
        if trial.error is not None
        for epoch in range(trial.finished_epochs)
    )
    best, points = 1.0, []
    for t_s, trial, error in found:
        best = min(best, error)
        points.append(ErrorPoint(t_s=t_s, trial=trial, error=error, best_error=best))
    return tuple(points)


def make_curve(num_samples: int = 31, step_s: float = 120.0) -> tuple[CurvePoint, ...]:
    points = []
    for place in range(num_samples):
        ops_per_s = 8.2e11 * (1 - 0.5 / (place + 1))
        normalized = ops_per_s * 1.3 * (1 - 0.4 / (place + 1))
        points.append(
            CurvePoint(
                t_s=step_s * (place + 1), ops_per_s=ops_per_s, error=0.25, normalized_ops_per_s=normalized
            )
        )
    return tuple(points)


def make_tree(trials: tuple[TrialReport, ...]) -> TreeReport:
    networks = tuple(
        Network(
            architecture_hash=trial.architecture_hash,
            trials=(trial.trial,),
            error=trial.error,
            is_completed=trial.outcome == "completed",
            origin=trial.origin,
            parent=trial.parent,
            untrained_parent=None,
            morphs=trial.morphs,
            generation=(trial.trial - 1) // 2,
            is_on_best_line=trial.trial % 2 == 0,
            claimed_s=trial.claimed_s,
            parameters=trial.parameters,
            train_ops=trial.train_ops,
            ops_ratio=trial.train_ops / trials[0].train_ops,
        )
        for trial in trials
    )
    return TreeReport(num_networks=len(networks), max_generation=networks[-1].generation, networks=networks)


def make_series(trials: tuple[TrialReport, ...]) -> PredictionSeries:
    pairs = tuple(
        PredictionPair(trial=t.trial, predicted_error=0.9 * t.error, achieved_error=t.error)
        for t in trials
        if t.error is not None
    )
    return PredictionSeries(
        num_pairs=len(pairs), mean_absolute_error=0.0321, rank_correlation=0.75, pairs=pairs
    )


NO_PREDICTIONS = PredictionSeries(num_pairs=0, mean_absolute_error=None, rank_correlation=None, pairs=())


def make_report(num_trials: int = 20) -> Report:
    trials = tuple(make_trial(number) for number in range(1, num_trials + 1))
    device = Device(kind="cuda", name="NVIDIA H200", memory_bytes=150_110_011_392)
    return Report(
        format="aibench-report/1",
        run="2026-02-03_resnet_h200-pair",
        aibench_version="0.1.0",
        rules_version="aiperf-v1",
        division="closed",
        verdict="invalid",
        end_detail="",
        end_reason="time_limit",
        started_utc="2026-02-03T14:05:06.123+00:00",
        score=ScoreReport(
            ops_per_s=812_345_678_901.25,
            normalized_ops_per_s=1_230_987_654_321.5,
            error=0.21974,
            is_error_floored=False,
            best_trial=num_trials,
            work_ops=3_021_113_579_246_912,
            elapsed_s=3719.0,
            num_epochs=287,
            unfinished_ops=12_345_678_901_234,
            failed_ops=4_567_890_123_456,
        ),
        stability=StabilityReport(slope_per_hour=0.036, drift=0.012, spread=0.034, is_converged=True),
        findings=(
            FindingReport(rule="sealed", passed=True, expected="sealed", actual="sealed", mend="resume it"),
            FindingReport(
                rule="search",
                passed=None,
                expected="enabled",
                actual="known when the run has ended",
                mend="wait",
            ),
            FindingReport(
                rule="reference-setting",
                passed=False,
                expected="the workload's own data, network and preprocessing",
                actual="data: 10 % of the classes",
                mend="use division: open",
            ),
        ),
        curve=make_curve(),
        errors=make_errors(trials),
        shares=(
            TOTAL,
            msgspec.structs.replace(TOTAL, worker="worker-0"),
            msgspec.structs.replace(TOTAL, worker="worker-1"),
        ),
        overhead=0.0625,
        turnaround=TurnaroundReport(count=17, median_s=1.84, max_s=4.2),
        trials=trials,
        tree=make_tree(trials),
        predictions=PredictionsReport(search=make_series(trials), curve=NO_PREDICTIONS),
        workers=(
            WorkerReport(
                worker="worker-0", host="node-07", backend="nccl", devices=(device,) * 8, is_lost=False
            ),
            WorkerReport(
                worker="worker-1", host="node-08", backend="nccl", devices=(device,) * 8, is_lost=True
            ),
        ),
        workload=WorkloadDescription(
            name="image_classification",
            dataset=DatasetDescription(
                name="imagenet-subset",
                train_images=128_116,
                validation_images=5_000,
                input_shape=(3, 224, 224),
                num_classes=100,
                is_synthetic=False,
                fingerprint="sha256:" + "ab" * 32,
            ),
            initial_architecture="resnet50",
            precision="bf16",
            departures=("data: 10 % of the classes",),
        ),
        seed=7,
        config={"name": "unit", "limits": {"measured_time_s": 3600.0}},
        num_records=379,
        seal="5e" * 32,
    )


class Page(HTMLParser):
    """What a browser would find; refuses unbalanced tags."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: Counter[str] = Counter()
        self.attributes: list[tuple[str, str, str]] = []
        self.text = ""
        self.scripts: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags[tag] += 1
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.text += data.replace("\N{NO-BREAK SPACE}", " ")

    def values(self, name: str) -> list[str]:
        return [value for _, found, value in self.attributes if found == name]


def read(report: Report) -> Page:
    page = Page(render_html(report))
    assert page.open == []
    return page


EMPTY = msgspec.structs.replace(
    make_report(),
    end_reason=None,
    score=None,
    stability=None,
    findings=(),
    curve=(),
    errors=(),
    shares=(),
    overhead=None,
    turnaround=None,
    trials=(),
    tree=TreeReport(num_networks=0, max_generation=0, networks=()),
    predictions=PredictionsReport(search=NO_PREDICTIONS, curve=NO_PREDICTIONS),
    workers=(),
    seal=None,
)


def test_page_leads_with_the_normalized_score() -> None:
    page = read(make_report())
    assert "1.23 TOPS" in page.text
    assert "= 812 GOPS × 1.515" in page.text
    assert "1,230,987,654,321.5 operations per second, normalized" in page.values("title")
    assert page.text.index("1.23 TOPS") < page.text.index("How to mend it") < page.text.index("All trials")


def test_key_figures_are_shown() -> None:
    text = read(make_report()).text
    for figure in (
        "21.97 %",
        "78.03 %",
        "1 h 02 min",
        "287",
        "2026-02-03 14:05:06 UTC",
        "2 workers, 16 devices",
    ):
        assert figure in text


def test_every_trial_has_its_row() -> None:
    page = read(make_report())
    assert [name for name in page.values("id") if name.startswith("trial-")] == [
        f"trial-{number}" for number in range(1, 21)
    ]
    assert "loss is not finite in epoch 4: nan" in page.text
    assert "18 completed" in page.text
    assert "evolution from 12c0ffee: deepen stage 2, widen stage 3" in page.text


def test_failed_findings_come_first_and_only_open_ones_are_mended() -> None:
    text = read(make_report()).text
    rules = [text.index(rule) for rule in ("reference-setting✗", "search…", "sealed✓")]
    assert rules == sorted(rules)
    assert "use division: open" in text
    assert "resume it" not in text


@pytest.mark.parametrize("outcome", [*Outcome, "running"])
def test_every_outcome_has_a_mark(outcome: str) -> None:
    trial = msgspec.structs.replace(make_trial(1), outcome=str(outcome))
    page = read(msgspec.structs.replace(make_report(), trials=(trial, *make_report().trials[1:])))
    assert re.search(rf"\S {outcome}", page.text)


def test_untrusted_text_is_escaped() -> None:
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    report = make_report()
    evil_trial = msgspec.structs.replace(
        report.trials[0],
        worker=attack,
        reason=attack,
        origin=attack,
        morphs=(attack,),
        hyper_parameters={attack: attack},
    )
    evil_worker = msgspec.structs.replace(report.workers[0], worker=attack, host=attack, backend=attack)
    evil_shares = msgspec.structs.replace(TOTAL, worker=attack)
    page = read(
        msgspec.structs.replace(
            report,
            run=attack,
            started_utc=attack,
            trials=(evil_trial, *report.trials[1:]),
            workers=(evil_worker,),
            shares=(TOTAL, evil_shares),
        )
    )
    assert (page.tags["script"], page.tags["img"]) == (1, 0)
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    assert page.text.count(attack) >= 10


def test_page_loads_nothing() -> None:
    page = read(make_report())
    assert {value[0] for value in page.values("href")} == {"#"}
    assert page.values("src") == []
    assert page.tags["link"] == page.tags["iframe"] == page.tags["img"] == 0
    text = render_html(make_report())
    assert "http://" not in text
    assert "https://" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_links_within_the_page_lead_somewhere() -> None:
    page = read(make_report())
    assert {value[1:] for value in page.values("href")} <= set(page.values("id"))
    assert len(set(page.values("id"))) == len(page.values("id"))


def test_only_the_page_s_own_script_may_run() -> None:
    page = read(make_report())
    (script,) = page.scripts
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [value for value in page.values("content") if "default-src" in value]
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"


def test_page_is_accessible() -> None:
    page = read(make_report())
    assert ("html", "lang", "en") in page.attributes
    assert page.tags["main"] == page.tags["h1"] == page.tags["header"] == page.tags["footer"] == 1
    assert page.tags["th"] == len(
        [value for tag, name, value in page.attributes if (tag, name) == ("th", "scope")]
    )
    drawn = [value for tag, name, value in page.attributes if (tag, name) == ("svg", "role")]
    assert drawn == ["img"] * 9


def test_communication_within_compute_is_noted() -> None:
    separate = msgspec.structs.replace(TOTAL, communication_is_separate=True)
    note = "part of compute"
    assert note in read(make_report()).text
    assert note not in read(msgspec.structs.replace(make_report(), shares=(separate,))).text


def test_run_without_score_renders() -> None:
    page = read(EMPTY)
    assert "No score" in page.text
    assert "not sealed" in page.text
    assert "not ended" in page.text
    assert page.tags["circle"] == 0


def test_perfect_and_hopeless_errors_render_finite_figures() -> None:
    report = make_report()
    assert report.score is not None
    hopeless = msgspec.structs.replace(report.score, error=1.0, normalized_ops_per_s=-0.0)
    flat = tuple(msgspec.structs.replace(point, normalized_ops_per_s=-0.0) for point in report.curve)
    text = read(msgspec.structs.replace(report, score=hopeless, stability=None, curve=flat)).text
    assert "= 812 GOPS × 0.000" in text
    assert "The normalized score is 0, so its steadiness cannot be stated." in text
    perfect = msgspec.structs.replace(report.score, error=0.0002, is_error_floored=True)
    assert "stands at its floor" in read(msgspec.structs.replace(report, score=perfect)).text


@pytest.mark.parametrize("num_samples", [1, 2, 31])
def test_everything_is_drawn_inside_the_view_box(num_samples: int) -> None:
    report = msgspec.structs.replace(make_report(), curve=make_curve(num_samples))
    places = 0
    for chart in (*curve_charts(report), error_chart(report)):
        assert chart is not None
        for path in (chart.line, chart.area, *(dots.path for dots in chart.dots)):
            for x, y in re.findall(r"[ML](\S+?) ([^MLHVhZ]+)", path):
                places += 1
                assert BOX.left <= float(x) <= BOX.right
                assert BOX.top <= float(y) <= BOX.bottom
        for mark in chart.marks:
            assert BOX.left <= float(mark.x) <= BOX.right
            assert BOX.top <= float(mark.y) <= BOX.bottom
    assert places > 2 * num_samples + 250
    for _, name, value in read(report).attributes:
        if name in {"x", "y", "x1", "x2", "y1", "y2", "cx", "cy", "width", "height"}:
            assert 0 <= float(value) <= BOX.bar_width


def test_curve_marks_carry_the_value_and_the_time() -> None:
    normalized, score = curve_charts(make_report())
    assert score.marks[0].text == "410 GOPS at 2 min 00 s"
    assert len(normalized.marks) == 31
    assert normalized.y.unit == "TOPS"
    assert normalized.band_from == pytest.approx(BOX.left + (BOX.right - BOX.left) * 2 / 3)


def test_stretch_of_stability_is_marked_only_where_stability_is_known() -> None:
    charts = curve_charts(msgspec.structs.replace(make_report(), stability=None))
    assert [chart.band_from for chart in charts] == [None, None]


def test_error_chart_shows_each_epoch_once_and_steps_down_with_the_best() -> None:
    errors = (
        ErrorPoint(t_s=10.0, trial=1, error=0.8, best_error=0.8),
        ErrorPoint(t_s=20.0, trial=2, error=0.9, best_error=0.8),
        ErrorPoint(t_s=40.0, trial=2, error=0.4, best_error=0.4),
        ErrorPoint(t_s=50.0, trial=1, error=0.6, best_error=0.4),
    )
    chart = error_chart(msgspec.structs.replace(make_report(), errors=errors))
    assert chart is not None
    assert chart.line == "M140 75.2H416V157.6H508V157.6"
    assert [mark.text for mark in chart.marks] == [
        "new best: 80.00 %, trial 1 at 10.0 s",
        "new best: 40.00 %, trial 2 at 40.0 s",
    ]
    assert [(dots.text, dots.path, dots.is_best) for dots in chart.dots] == [
        ("trial 1: 2 epochs, best 60.00 %", "M140 75.2h0M508 116.4h0", False),
        ("trial 2: 2 epochs, best 40.00 %", "M232 54.6h0M416 157.6h0", True),
    ]


@pytest.mark.parametrize(
    ("division", "label"), [("closed", "limit 30 %"), ("smoke", "limit 30 %"), ("open", None)]
)
def test_error_limit_is_that_of_the_division(division: str, label: str | None) -> None:
    chart = error_chart(msgspec.structs.replace(make_report(), division=division))
    assert chart is not None
    assert (chart.limit[1] if chart.limit else None) == label


def test_bar_leaves_out_empty_shares_and_adds_up() -> None:
    segments = bar(TOTAL)
    assert [(part.share, part.x, part.width) for part in segments[:3]] == [
        ("compute", "0", "750"),
        ("data_wait", "750", "62.5"),
        ("validation", "812.5", "62.5"),
    ]
    assert segments[0].text == "compute: 75.0 %"
    assert {part.share for part in segments}.isdisjoint({"communication", "search_wait"})
    assert float(segments[-1].x) + float(segments[-1].width) == pytest.approx(1000, abs=0.1)


def test_large_run_stays_within_a_few_megabytes() -> None:
    trials = tuple(make_trial(number, epochs=30) for number in range(1, 2001))
    report = msgspec.structs.replace(
        make_report(), trials=trials, errors=make_errors(trials), tree=make_tree(trials)
    )
    assert len(report.errors) > 59_000
    assert len(render_html(report)) < 5_000_000


@pytest.mark.parametrize(
    ("verdict", "text"),
    [
        ("closed", "Valid in the closed division: every rule passed."),
        ("open", "Valid in the open division: every rule passed. Departures are listed under Workload."),
        ("smoke", "Smoke test passed: the installation works. A smoke run is never ranked."),
        ("invalid", "Invalid in the closed division: 1 rule (reference-setting) failed."),
        ("undecided", "Undecided: 1 rule (search) cannot be judged before the run has ended."),
    ],
)
def test_verdict_is_a_sentence(verdict: str, text: str) -> None:
    assert verdict_text(msgspec.structs.replace(make_report(), verdict=verdict)) == text


def test_stability_is_a_sentence() -> None:
    report = make_report()
    assert stability_text(report).replace("\N{NO-BREAK SPACE}", " ") == (
        "Over the last third the normalized score drifted +1.2 % and spread 3.4 %: converged "
        "(converged means a drift within ±5 % and a spread of at most 5 %)."
    )
    unsteady = StabilityReport(slope_per_hour=0.3, drift=-0.1, spread=0.2, is_converged=False)
    assert (
        "drifted -10.0\N{NO-BREAK SPACE}% and spread 20.0\N{NO-BREAK SPACE}%: not converged"
        in stability_text(msgspec.structs.replace(report, stability=unsteady))
    )
    assert "too few samples" in stability_text(msgspec.structs.replace(report, stability=None))
    assert stability_text(EMPTY) == "There is no score yet, so nothing to say about its steadiness."


def test_equal_devices_are_counted_together() -> None:
    gpu = Device(kind="cuda", name="NVIDIA H200", memory_bytes=150_110_011_392)
    cpu = Device(kind="cpu", name="EPYC", memory_bytes=None)
    worker = WorkerReport(worker="w", host="h", backend="gloo", devices=(gpu, cpu, gpu), is_lost=False)
    assert device_groups(worker) == ["2 × NVIDIA H200 (cuda, 140 GiB)", "1 × EPYC (cpu)"]


def test_instants_are_told_in_utc() -> None:
    assert utc_text("2026-02-03T14:05:06.123+02:00") == "2026-02-03 12:05:06 UTC"
    assert utc_text("2026-02-03T14:05:06") == "2026-02-03T14:05:06"
    assert utc_text("yesterday") == "yesterday"
