"""What a run must be to count: one set of rules for the projection before it and the verdict after it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from aibench.api.events import Division
from aibench.api.launcher import SIMULATED
from aibench.counting import RULES_VERSION, count
from aibench.errors import ArchitectureError
from aibench.score.history import RunHistory
from aibench.score.score import Score
from aibench.score.shares import TimeShares
from aibench.score.units import percent

MIN_MEASURED_TIME_S = 3600.0
MAX_CLOSED_ERROR = 0.30
MAX_SMOKE_ERROR = 0.30
ALLOWED_PRECISIONS = ("fp32", "bf16", "fp16")
MAX_OVERBOOKED_SHARE = 0.01
MAX_NAMED_TRIALS = 10


class Verdict(StrEnum):
    """What a run is worth."""

    CLOSED = "closed"
    OPEN = "open"
    SMOKE = "smoke"
    INVALID = "invalid"
    UNDECIDED = "undecided"


@dataclass(frozen=True, kw_only=True, slots=True)
class Facts:
    """What the rules look at; None where it is not known yet."""

    division: Division
    rules_version: str
    precision: str
    departures: tuple[str, ...]
    is_synthetic: bool
    search_enabled: bool
    search_departures: tuple[str, ...] = ()
    measured_time_s: float | None = None
    best_error: float | None = None
    num_epochs: int | None = None
    is_sealed: bool | None = None
    miscounted_trials: tuple[int, ...] | None = None
    trials_with_odd_images: tuple[int, ...] | None = None
    overbooked_share: float | None = None
    clock_sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """One rule applied.

    Attributes:
        passed: None while the run has not shown it yet.
        mend: What to do about it.
    """

    rule: str
    passed: bool | None
    expected: str
    actual: str
    mend: str


def check(facts: Facts) -> tuple[Finding, ...]:
    """Apply every rule of the run's division."""
    return tuple(_findings(facts))


def verdict(facts: Facts, findings: tuple[Finding, ...]) -> Verdict:
    """The division the run asked for if every rule passed, else invalid, or undecided while one is open."""
    if any(finding.passed is False for finding in findings):
        return Verdict.INVALID
    if any(finding.passed is None for finding in findings):
        return Verdict.UNDECIDED
    return Verdict(facts.division.value)


def facts_of(history: RunHistory, score: Score | None, shares: Mapping[str, TimeShares]) -> Facts:
    """What a run's records show; operations are counted again from every architecture.

    Args:
        shares: Time shares of every worker.
    """
    header = history.header
    return Facts(
        division=header.division,
        rules_version=header.rules_version,
        precision=header.workload.precision,
        departures=header.workload.departures,
        is_synthetic=header.workload.dataset.is_synthetic or _is_simulated(history),
        search_enabled=header.search_enabled,
        search_departures=header.search_departures,
        measured_time_s=score.final.elapsed_s if score else 0.0,
        best_error=score.final.best_error if score else 1.0,
        num_epochs=score.num_epochs if score else 0,
        is_sealed=history.ended is not None,
        miscounted_trials=tuple(_miscounted(history)),
        trials_with_odd_images=tuple(_trials_with_odd_images(history)),
        overbooked_share=max(map(_overbooked_share, shares.values()), default=0.0),
        clock_sources=tuple(sorted({resume.clock for resume in history.resumes})),
    )


def _findings(facts: Facts) -> Iterator[Finding]:
    yield _rule(
        "rules-version", facts.rules_version == RULES_VERSION, RULES_VERSION, facts.rules_version,
        "score it with the release that wrote it",
    )  # fmt: skip
    yield _rule(
        "sealed", facts.is_sealed, "the run ended and sealed its journal",
        _when_known(facts.is_sealed, "sealed" if facts.is_sealed else "not sealed"),
        "finish it with aibench resume",
    )  # fmt: skip
    yield _rule(
        "work-done", None if facts.num_epochs is None else facts.num_epochs > 0,
        "at least one finished epoch",
        _when_known(facts.num_epochs, f"{facts.num_epochs}"),
        "run longer, or look at the reasons of the failed trials",
    )  # fmt: skip
    yield _rule(
        "operations", None if facts.miscounted_trials is None else not facts.miscounted_trials,
        "recorded operations equal a recount of every architecture",
        _when_known(facts.miscounted_trials, _trials_or(facts.miscounted_trials, "equal")),
        "do not edit the journal",
    )  # fmt: skip
    yield _rule(
        "images", None if facts.trials_with_odd_images is None else not facts.trials_with_odd_images,
        "an epoch trains at most the whole training set and validates the whole validation set",
        _when_known(facts.trials_with_odd_images, _trials_or(facts.trials_with_odd_images, "all do")),
        "check the workload's trainer; do not edit the journal",
    )  # fmt: skip
    yield _rule(
        "time-books",
        None if facts.overbooked_share is None else facts.overbooked_share <= MAX_OVERBOOKED_SHARE,
        f"the ranks of a worker book at most {percent(MAX_OVERBOOKED_SHARE, digits=0)} more time than passed",
        _when_known(facts.overbooked_share, f"{percent(facts.overbooked_share or 0.0, digits=2)} more"),
        "check the clocks of the nodes",
    )  # fmt: skip
    if facts.division is Division.SMOKE:
        yield _rule(
            "smoke-error", None if facts.best_error is None else facts.best_error < MAX_SMOKE_ERROR,
            f"best error under {percent(MAX_SMOKE_ERROR, digits=0)}", _percent(facts.best_error),
            "look at the reasons of the failed trials, or give slow machines more measured time",
        )  # fmt: skip
    else:
        yield _rule(
            "real-data", not facts.is_synthetic, "real data",
            "synthetic" if facts.is_synthetic else "real", "use real data, or division: smoke",
        )  # fmt: skip
    if facts.division is Division.CLOSED:
        yield from _closed_findings(facts)


def _closed_findings(facts: Facts) -> Iterator[Finding]:
    yield _rule(
        "measured-time",
        None if facts.measured_time_s is None else facts.measured_time_s >= MIN_MEASURED_TIME_S,
        f"at least {MIN_MEASURED_TIME_S:.0f} s from the first trial's start to the last finished epoch",
        _when_known(facts.measured_time_s, f"{facts.measured_time_s or 0.0:.0f} s"),
        "raise limits.measured_time_s",
    )  # fmt: skip
    yield _rule(
        "precision", facts.precision in ALLOWED_PRECISIONS, f"one of {', '.join(ALLOWED_PRECISIONS)}",
        facts.precision, "set workload.precision",
    )  # fmt: skip
    yield _rule(
        "accuracy", None if facts.best_error is None else facts.best_error < MAX_CLOSED_ERROR,
        f"best error under {percent(MAX_CLOSED_ERROR, digits=0)}", _percent(facts.best_error),
        "train longer: raise limits.measured_time_s or epochs",
    )  # fmt: skip
    yield _rule(
        "reference-setting", not facts.departures, "the workload's own data, network and preprocessing",
        "; ".join(facts.departures) or "as the reference", "use division: open",
    )  # fmt: skip
    yield _rule(
        "search", facts.search_enabled, "architecture search enabled",
        "enabled" if facts.search_enabled else "disabled", "set search.architecture",
    )  # fmt: skip
    yield _rule(
        "whole-trials", not facts.search_departures, "every trial trains from scratch to its last epoch",
        "; ".join(facts.search_departures) or "they do", "use division: open",
    )  # fmt: skip
    yield _rule(
        "one-clock", "wall" not in facts.clock_sources, "a resumed run goes on with the same boot's clock",
        "placed by wall time" if "wall" in facts.clock_sources else "one monotonic clock",
        "resume on the node where the run started, before it reboots",
    )  # fmt: skip


def _rule(rule: str, passed: bool | None, expected: str, actual: str, mend: str) -> Finding:
    return Finding(rule=rule, passed=passed, expected=expected, actual=actual, mend=mend)


def _when_known(value: object, text: str) -> str:
    return "known when the run has ended" if value is None else text


def _percent(error: float | None) -> str:
    return _when_known(error, percent(error or 0.0, digits=2))


def _trials_or(numbers: tuple[int, ...] | None, otherwise: str) -> str:
    if not numbers:
        return otherwise
    more = f" and {len(numbers) - MAX_NAMED_TRIALS} more" if len(numbers) > MAX_NAMED_TRIALS else ""
    return f"not so in trials {', '.join(map(str, numbers[:MAX_NAMED_TRIALS]))}{more}"


def _overbooked_share(shares: TimeShares) -> float:
    total_s = sum(shares.seconds.values())
    return shares.overbooked_s / total_s if total_s else 0.0


def _is_simulated(history: RunHistory) -> bool:
    """Whether a worker had devices that train nothing, whatever its data was."""
    devices = (device for worker in history.workers.values() for device in worker.joined.devices)
    return any(device.kind == SIMULATED for device in devices)


def _trials_with_odd_images(history: RunHistory) -> Iterator[int]:
    dataset = history.header.workload.dataset
    for trial in history.trials.values():
        results = [timed.finished.result for timed in trial.epochs]
        if any(
            result.train_images > dataset.train_images
            or result.validation_images != dataset.validation_images
            for result in results
        ):
            yield trial.number


def _miscounted(history: RunHistory) -> Iterator[int]:
    known: dict[str, tuple[int, int, int]] = {}
    for trial in history.trials.values():
        claimed = trial.claimed
        try:
            architecture = claimed.spec.architecture.to_architecture()
            digest = architecture.content_hash
            if digest not in known:
                counts = count(architecture)
                known[digest] = (counts.parameters, counts.aiperf_ops.train, counts.aiperf_ops.forward)
        except ArchitectureError:
            yield trial.number
            continue
        recorded = (claimed.parameters, claimed.train_ops, claimed.evaluation_ops)
        if digest != claimed.architecture_hash or recorded != known[digest]:
            yield trial.number
