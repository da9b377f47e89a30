"""Everything a person or a program wants to know of a run, as one value: the source of report.json, the
terminal table and report.html."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from aibench.api.events import Device
from aibench.api.workload import HyperParameters, WorkloadDescription
from aibench.score.history import RunHistory, TrialHistory
from aibench.score.lineage import TreeReport, build_tree
from aibench.score.predictions import PredictionsReport, build_predictions
from aibench.score.rules import Verdict, check, facts_of, verdict
from aibench.score.score import Sample, Score, compute_score
from aibench.score.shares import TimeShares, total_shares, worker_shares
from aibench.score.statistics import stability
from aibench.score.turnaround import turnarounds_s

FORMAT = "aibench-report/1"
VALID = (Verdict.CLOSED, Verdict.OPEN, Verdict.SMOKE)
_MAY_DIFFER = ("name", "seed", "control", "launcher")


class _Part(msgspec.Struct, frozen=True, kw_only=True):
    pass


class CurvePoint(_Part, frozen=True):
    """The score at one time; seconds since the first trial's start."""

    t_s: float
    ops_per_s: float
    error: float
    normalized_ops_per_s: float


class ErrorPoint(_Part, frozen=True):
    """Validation error of one finished epoch; seconds since the first trial's start."""

    t_s: float
    trial: int
    error: float
    best_error: float


class ScoreReport(_Part, frozen=True):
    """The result."""

    ops_per_s: float
    normalized_ops_per_s: float
    error: float
    is_error_floored: bool
    best_trial: int
    work_ops: int
    elapsed_s: float
    num_epochs: int
    unfinished_ops: int
    failed_ops: int


class StabilityReport(_Part, frozen=True):
    """Steadiness of the normalized score over the last third."""

    slope_per_hour: float
    drift: float
    spread: float
    is_converged: bool


class FindingReport(_Part, frozen=True):
    """One rule applied."""

    rule: str
    passed: bool | None
    expected: str
    actual: str
    mend: str


class SharesReport(_Part, frozen=True):
    """Time shares, fractions of 1; ``worker`` is None for all together."""

    worker: str | None
    fractions: dict[str, float]
    communication_is_separate: bool


class TrialReport(_Part, frozen=True):
    """One trial. ``outcome`` is ``running`` while its lease is open; times as in `CurvePoint`."""

    trial: int
    worker: str
    round: int
    outcome: str
    reason: str
    epochs: int
    finished_epochs: int
    error: float | None
    claimed_s: float
    closed_s: float | None
    parameters: int
    train_ops: int
    hyper_parameters: HyperParameters
    architecture_hash: str
    origin: str
    parent: str | None
    morphs: tuple[str, ...]


class WorkerReport(_Part, frozen=True):
    """One worker as it last joined."""

    worker: str
    host: str
    backend: str
    devices: tuple[Device, ...]
    is_lost: bool


class TurnaroundReport(_Part, frozen=True):
    """Seconds from a trial's end to the first training step of the next on the same worker."""

    count: int
    median_s: float
    max_s: float


class Report(_Part, frozen=True):
    """A whole run."""

    format: str
    run: str
    aibench_version: str
    rules_version: str
    division: str
    verdict: str
    end_reason: str | None
    end_detail: str
    started_utc: str
    score: ScoreReport | None
    stability: StabilityReport | None
    findings: tuple[FindingReport, ...]
    curve: tuple[CurvePoint, ...]
    errors: tuple[ErrorPoint, ...]
    shares: tuple[SharesReport, ...]
    overhead: float | None
    turnaround: TurnaroundReport | None
    trials: tuple[TrialReport, ...]
    tree: TreeReport
    predictions: PredictionsReport
    workers: tuple[WorkerReport, ...]
    workload: WorkloadDescription
    seed: int
    config: dict[str, Any]
    num_records: int
    seal: str | None


def build_report(history: RunHistory) -> Report:
    """Compute everything from a run's records."""
    score = compute_score(history)
    by_worker = worker_shares(history)
    total = total_shares(by_worker) if by_worker else None
    facts = facts_of(history, score, by_worker)
    findings = check(facts)
    header = history.header
    start_s = history.start_s or 0.0
    assert history.last is not None
    return Report(
        format=FORMAT,
        run=header.run,
        aibench_version=header.aibench_version,
        rules_version=header.rules_version,
        division=header.division.value,
        verdict=verdict(facts, findings).value,
        end_reason=history.ended.reason.value if history.ended else None,
        end_detail=history.ended.detail if history.ended else "",
        started_utc=header.anchor.utc,
        score=_score_part(score) if score else None,
        stability=_stability_part(score) if score else None,
        findings=tuple(msgspec.convert(finding, FindingReport, from_attributes=True) for finding in findings),
        curve=tuple(map(_curve_point, score.curve)) if score else (),
        errors=tuple(_error_points(history, start_s)),
        shares=tuple(_shares_parts(by_worker, total)),
        overhead=total.overhead if total else None,
        turnaround=_turnaround(history),
        trials=tuple(_trial_part(trial, start_s) for trial in history.trials.values()),
        tree=build_tree(history, score.best_trial if score else None),
        predictions=build_predictions(history),
        workers=tuple(_worker_parts(history)),
        workload=header.workload,
        seed=header.seed,
        config=header.config,
        num_records=history.last.seq,
        seal=history.last.hash if history.ended else None,
    )


def why_incomparable(reports: Sequence[Report]) -> str | None:
    """Why several runs have no common mean; None if they are runs of one thing, all valid."""
    for report in reports:
        if report.score is None:
            return f"{report.run} has no finished epoch"
        if report.verdict not in VALID:
            return f"{report.run} is {report.verdict}"
    seals = [report.seal for report in reports]
    for place, report in enumerate(reports):
        if report.seal in seals[:place]:
            return f"{report.run} is given twice"
    first = reports[0]
    for other in reports[1:]:
        ours, theirs = _comparable(first), _comparable(other)
        different = sorted(key for key in ours | theirs if ours.get(key) != theirs.get(key))
        if different:
            return f"{first.run} and {other.run} differ in {', '.join(different)}"
    return None


def _comparable(report: Report) -> dict[str, Any]:
    """What runs of one configuration on one kind of system have in common."""
    config = {key: value for key, value in report.config.items() if key not in _MAY_DIFFER}
    workload = msgspec.to_builtins(report.workload)
    return {**config, "rules_version": report.rules_version, "workload": workload}


def _score_part(score: Score) -> ScoreReport:
    final = score.final
    return ScoreReport(
        ops_per_s=final.ops_per_s,
        normalized_ops_per_s=final.normalized_ops_per_s,
        error=final.best_error,
        is_error_floored=final.is_error_floored,
        best_trial=score.best_trial,
        work_ops=final.work_ops,
        elapsed_s=final.elapsed_s,
        num_epochs=score.num_epochs,
        unfinished_ops=score.unfinished_ops,
        failed_ops=score.failed_ops,
    )


def _stability_part(score: Score) -> StabilityReport | None:
    found = stability(score.curve)
    return msgspec.convert(found, StabilityReport, from_attributes=True) if found else None


def _curve_point(sample: Sample) -> CurvePoint:
    return CurvePoint(
        t_s=sample.t_s,
        ops_per_s=sample.ops_per_s,
        error=sample.best_error,
        normalized_ops_per_s=sample.normalized_ops_per_s,
    )


def _error_points(history: RunHistory, start_s: float) -> Iterator[ErrorPoint]:
    finished = [
        (timed.t_s, trial.number, timed.finished.result.error)
        for trial in history.trials.values()
        if trial.scores
        for timed in trial.epochs
    ]
    best = 1.0
    for t_s, number, error in sorted(finished):
        best = min(best, error)
        yield ErrorPoint(t_s=t_s - start_s, trial=number, error=error, best_error=best)


def _shares_parts(by_worker: dict[str, TimeShares], total: TimeShares | None) -> Iterator[SharesReport]:
    for worker, shares in [(None, total), *sorted(by_worker.items(), key=_natural)]:
        if shares is not None:
            yield SharesReport(
                worker=worker,
                fractions={share.value: part for share, part in shares.fractions.items()},
                communication_is_separate=shares.communication_is_separate,
            )


def _trial_part(trial: TrialHistory, start_s: float) -> TrialReport:
    claimed, closed = trial.claimed, trial.closed
    return TrialReport(
        trial=trial.number,
        worker=claimed.worker,
        round=claimed.spec.round,
        outcome=closed.outcome.value if closed else "running",
        reason=closed.reason if closed else "",
        epochs=claimed.spec.epochs,
        finished_epochs=len(trial.epochs),
        error=trial.error,
        claimed_s=trial.claimed_s - start_s,
        closed_s=None if trial.closed_s is None else trial.closed_s - start_s,
        parameters=claimed.parameters,
        train_ops=claimed.train_ops,
        hyper_parameters=claimed.spec.hyper_parameters,
        architecture_hash=claimed.architecture_hash,
        origin=claimed.lineage.origin,
        parent=claimed.lineage.parent,
        morphs=claimed.lineage.morphs,
    )


def _worker_parts(history: RunHistory) -> Iterator[WorkerReport]:
    for _, worker in sorted(history.workers.items(), key=_natural):
        joined = worker.joined
        yield WorkerReport(
            worker=joined.worker,
            host=joined.host,
            backend=joined.backend,
            devices=joined.devices,
            is_lost=worker.lost_s is not None,
        )


def _natural(item: tuple[str, object]) -> tuple[int, str]:
    """w2 before w10."""
    return len(item[0]), item[0]


def _turnaround(history: RunHistory) -> TurnaroundReport | None:
    spans_s = list(turnarounds_s(history))
    if not spans_s:
        return None
    return TurnaroundReport(count=len(spans_s), median_s=statistics.median(spans_s), max_s=max(spans_s))
