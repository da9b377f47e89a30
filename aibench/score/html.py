"""report.html: a whole run on one page that asks nothing of the network."""

from __future__ import annotations

import math
from collections import Counter
from datetime import UTC, datetime

import yaml

from aibench.score import charts, prediction_chart, tree_chart
from aibench.score.page import counted, render_page, unbroken
from aibench.score.report import FindingReport, Report, WorkerReport
from aibench.score.rules import Verdict
from aibench.score.search_view import search_view
from aibench.score.shares import Share
from aibench.score.statistics import MAX_CONVERGED_DRIFT, MAX_CONVERGED_SPREAD
from aibench.score.units import binary, percent

SHARE_MEANINGS = {
    Share.COMPUTE: "forward, backward and update of training",
    Share.DATA_WAIT: "waiting for input data",
    Share.COMMUNICATION: "gradient exchange between ranks",
    Share.VALIDATION: "validation after each epoch",
    Share.STARTUP: "building and warming up networks",
    Share.SEARCH_WAIT: "waiting for the next trial",
    Share.UNFINISHED: "epochs that the end of the run cut off",
    Share.LOST: "failed trials and absent workers",
    Share.IDLE: "everything else",
}
_FINDING_ORDER = (False, None, True)


def render_html(report: Report) -> str:
    """One self-contained HTML document; every text of the run in it is escaped."""
    return render_page(
        "report.html.j2",
        aibench_version=report.aibench_version,
        report=report,
        verdict_text=verdict_text(report),
        stability_text=stability_text(report),
        factor=0.0 - math.log(report.score.error) if report.score else None,
        findings=sorted(report.findings, key=lambda finding: _FINDING_ORDER.index(finding.passed)),
        box=charts.BOX,
        curves=charts.curve_charts(report),
        errors=charts.error_chart(report),
        search=search_view(report),
        tree_box=tree_chart.BOX,
        prediction_box=prediction_chart.BOX,
        bars=[(shares, charts.bar(shares)) for shares in report.shares],
        share_meanings={share.value: meaning for share, meaning in SHARE_MEANINGS.items()},
        outcomes=Counter(trial.outcome for trial in report.trials),
        trials_of=Counter(trial.worker for trial in report.trials),
        config_yaml=yaml.safe_dump(report.config, allow_unicode=True),
        num_devices=sum(len(worker.devices) for worker in report.workers),
        device_groups=device_groups,
        share_label=charts.share_label,
        utc=utc_text,
    )


def verdict_text(report: Report) -> str:
    """The verdict as a sentence."""
    match report.verdict:
        case Verdict.INVALID:
            return f"Invalid in the {report.division} division: {_rules(report.findings, False)} failed."
        case Verdict.UNDECIDED:
            return f"Undecided: {_rules(report.findings, None)} cannot be judged before the run has ended."
        case Verdict.SMOKE:
            return "Smoke test passed: the installation works. A smoke run is never ranked."
        case Verdict.OPEN:
            return "Valid in the open division: every rule passed. Departures are listed under Workload."
        case _:
            return f"Valid in the {report.division} division: every rule passed."


def stability_text(report: Report) -> str:
    """How steady the normalized score was, as a sentence."""
    if report.score is None:
        return "There is no score yet, so nothing to say about its steadiness."
    if report.score.normalized_ops_per_s == 0:
        return "The normalized score is 0, so its steadiness cannot be stated."
    found = report.stability
    if found is None:
        return "The last third of the run has too few samples to say how steady the normalized score was."
    verdict = "converged" if found.is_converged else "not converged"
    percentage = unbroken(percent)
    return (
        f"Over the last third the normalized score drifted {percentage(found.drift, signed=True)} "
        f"and spread {percentage(found.spread)}: {verdict} "
        f"(converged means a drift within ±{percentage(MAX_CONVERGED_DRIFT, digits=0)} "
        f"and a spread of at most {percentage(MAX_CONVERGED_SPREAD, digits=0)})."
    )


def device_groups(worker: WorkerReport) -> list[str]:
    """Equal devices of a worker counted together, such as ``8 × NVIDIA H200 (cuda, 139 GiB)``."""
    groups = Counter(
        f"{device.name} ({device.kind})"
        if device.memory_bytes is None
        else f"{device.name} ({device.kind}, {binary(device.memory_bytes)})"
        for device in worker.devices
    )
    return [f"{number} × {text}" for text, number in groups.items()]


def utc_text(instant: str) -> str:
    """An ISO 8601 instant to the second in UTC; anything else as it is."""
    try:
        parsed = datetime.fromisoformat(instant)
    except ValueError:
        return instant
    return f"{parsed.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC" if parsed.tzinfo else instant


def _rules(findings: tuple[FindingReport, ...], passed: bool | None) -> str:
    names = [finding.rule for finding in findings if finding.passed is passed]
    return f"{counted(len(names), 'rule')} ({', '.join(names)})"
