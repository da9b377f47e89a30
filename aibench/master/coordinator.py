"""The rules of the run: who may claim, what is believed, when a lease ends. No I/O, no waiting.

Every change of state is an event given to ``record``, which appends it to the journal and applies it to the
history. What is not in the history (last signs of life, images of unfinished epochs) may be lost with the
master without harm.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from aibench.api.events import (
    EndReason,
    EpochFinished,
    Event,
    Outcome,
    RunEnded,
    StartBarrierOpened,
    TrialClaimed,
    TrialClosed,
    WorkerJoined,
    WorkerLost,
)
from aibench.api.protocol import (
    Acknowledgement,
    ClaimReply,
    ClaimRequest,
    EnlistReply,
    EnlistRequest,
    EpochRequest,
    FinishRequest,
    HeartbeatRequest,
    HistoryReply,
    HistoryRequest,
    JoinReply,
    JoinRequest,
    ProposeReply,
    ProposeRequest,
)
from aibench.api.workload import TrialSpec
from aibench.config import ResolvedRun
from aibench.counting import count
from aibench.errors import ProtocolError
from aibench.master.admission import (
    check_end,
    check_epoch,
    check_joined,
    check_outcome,
    own_trial,
    reason_unfit,
)
from aibench.master.enlistment import Enlistment
from aibench.master.proposals import ProposalService
from aibench.master.prospects import Prospects
from aibench.master.weights import KeptWeights
from aibench.score.history import RunHistory, TrialHistory
from aibench.score.live import LiveScore
from aibench.score.score import Sample
from aibench.search.pool import Fate
from aibench.search.search import Search

BARRIER_POLL_S = 0.25
MAX_POLLS_PER_S = 200
"""Of all workers together while they wait for the start: when it comes, each of them is a claim."""
MIN_FAILURES_IN_ROW = 10
"""As many, and three per worker, end the run: it is not the trials' fault."""
MAX_LEASES = 2
"""One trial in training and the next one, claimed while its last epoch runs."""


@dataclass(frozen=True, slots=True)
class _Unfinished:
    train_images: int = 0
    validation_images: int = 0


class Coordinator:
    """The state machine behind the control service; owned by the master's event loop.

    Args:
        record: Appends an event to the journal and applies it to ``history``.
        now_s: The run's clock.
        pools: The workers that places of each pool may become.
        weights: What children start from; None if all trials start from scratch.
    """

    def __init__(
        self,
        resolved: ResolvedRun,
        history: RunHistory,
        search: Search,
        record: Callable[[Event], None],
        now_s: Callable[[], float],
        *,
        pools: Mapping[str, Sequence[str]] | None = None,
        weights: KeptWeights | None = None,
    ) -> None:
        self.history = history
        self._resolved = resolved
        self._config = resolved.config
        self._search = search
        self._live_score = LiveScore(history)
        self._prospects = Prospects(resolved.config, history)
        self._proposals = ProposalService(search, resolved.config)
        self._record = record
        self._now_s = now_s
        self._weights = weights
        self._enlistment = Enlistment(pools or {}, history, now_s, patience_s=resolved.config.start.timeout_s)
        self._unfit: dict[str, str] = {}
        self._dismissed: set[str] = set()
        self._unfinished: dict[int, _Unfinished] = {}
        self._restore_search()
        # Behind what takes long: nobody was listened to meanwhile.
        self._opened_s = self._polled_s = now_s()
        self._last_seen_s = dict.fromkeys(history.workers, self._opened_s)

    # What the control service calls -------------------------------------------------------------------

    def enlist(self, request: EnlistRequest) -> EnlistReply:
        """Tell a place of a pool which worker it is to be."""
        return EnlistReply(stop=True) if self.is_over else self._enlistment.enlist(request)

    def join(self, request: JoinRequest) -> JoinReply:
        """Take a gang in; a new incarnation ends the trials of the one before, which is sent away."""
        if reason := reason_unfit(request, time.time()):
            self._unfit[request.worker] = reason
            raise ProtocolError(412, reason)
        self._unfit.pop(request.worker, None)
        known = self.history.workers.get(request.worker)
        if known is not None and request.incarnation in known.past_lives:
            return self._welcome(stop=True)
        is_new_life = known is None or known.joined.incarnation != request.incarnation
        if not self.is_over and (is_new_life or (known is not None and known.lost_s is not None)):
            if is_new_life:
                self._close_leases(request.worker, Outcome.LOST, "its worker restarted")
            self._record(
                WorkerJoined(
                    worker=request.worker,
                    incarnation=request.incarnation,
                    host=request.host,
                    backend=request.backend,
                    devices=request.devices,
                )
            )
        self._enlistment.joined(request.worker)
        self._last_seen_s[request.worker] = self._now_s()
        self.open_barrier_if_due()
        return self._welcome(stop=self.is_over)

    def claim(self, request: ClaimRequest) -> ClaimReply:
        """Lease the next trial, the same one for the same request."""
        self._greet(request.worker, request.incarnation)
        leases = self._leases(request.worker)
        for trial in leases:
            if trial.claimed.request == request.request:
                return ClaimReply(spec=trial.claimed.spec)
        if self.is_over or self.is_time_up or self.is_trial_limit_reached:
            self._dismissed.add(request.worker)
            return ClaimReply(stop=True)
        if self.history.barrier is None:
            return ClaimReply(retry_after_s=self._next_poll_s())
        if len(leases) >= MAX_LEASES:
            raise ProtocolError(409, f"worker {request.worker!r} holds {len(leases)} leases already")
        return ClaimReply(spec=self._lease(request))

    def epoch(self, request: EpochRequest) -> Acknowledgement:
        """Take a finished epoch in; a repetition changes nothing."""
        self._greet(request.worker, request.incarnation)
        trial = own_trial(self.history, request.trial, request.worker, request.incarnation)
        done = len(trial.epochs)
        if request.result.epoch <= done:
            if trial.epochs[request.result.epoch - 1].finished.result != request.result:
                raise ProtocolError(
                    409, f"epoch {request.result.epoch} of this trial is recorded differently"
                )
            return Acknowledgement(stop=self.is_over, stop_trial=self._is_to_stop(trial))
        if self.is_over or self.is_time_up:
            return Acknowledgement(stop=True)
        if not trial.is_open:
            raise ProtocolError(409, f"trial {request.trial} is closed")
        num_ranks = len(self.history.workers[request.worker].joined.devices)
        check_epoch(trial, request.result, self._resolved.description.dataset, num_ranks=num_ranks)
        self._unfinished.pop(request.trial, None)
        finished = EpochFinished(
            trial=request.trial, result=request.result, search_wait_s=request.search_wait_s
        )
        self._record(self._prospects.with_prediction(trial, finished))
        return Acknowledgement(stop_trial=self._is_to_stop(trial))

    def finish(self, request: FinishRequest) -> Acknowledgement:
        """Close a trial, completed, failed or stopped; a repetition changes nothing."""
        self._greet(request.worker, request.incarnation)
        trial = own_trial(self.history, request.trial, request.worker, request.incarnation)
        check_outcome(request.outcome)
        if trial.closed is not None:
            if trial.closed.outcome is not request.outcome and not self.is_over:
                raise ProtocolError(409, f"trial {request.trial} is closed as {trial.closed.outcome}")
            return Acknowledgement(stop=self.is_over)
        why_stopped = self._prospects.reason_to_stop(trial) or ""
        check_end(trial, request.outcome, is_to_stop=bool(why_stopped))
        self._unfinished[request.trial] = _Unfinished(
            request.unfinished_train_images, request.unfinished_validation_images
        )
        reason = why_stopped if request.outcome is Outcome.STOPPED else request.reason
        self._close(trial, request.outcome, reason)
        return Acknowledgement()

    def heartbeat(self, request: HeartbeatRequest) -> Acknowledgement:
        """Note a sign of life and the images of the epoch in progress."""
        self._greet(request.worker, request.incarnation)
        if request.trial is not None:
            trial = own_trial(self.history, request.trial, request.worker, request.incarnation)
            if trial.is_open:
                self._unfinished[request.trial] = _Unfinished(request.train_images, request.validation_images)
        return Acknowledgement(stop=self.is_over)

    def propose(self, request: ProposeRequest) -> ProposeReply:
        """Put an architecture found by a worker into the pool; no sign of life of its ranks."""
        check_joined(self.history, request.worker, request.incarnation)
        return self._proposals.propose(request, stop=self.is_over)

    def history_since(self, request: HistoryRequest) -> HistoryReply:
        """Closed trials with an error, in the order of their end."""
        check_joined(self.history, request.worker, request.incarnation)
        return self._proposals.history_since(request.since, stop=self.is_over)

    # What the master's loop calls ---------------------------------------------------------------------

    @property
    def num_waiting_proposals(self) -> int:
        """Architectures found by workers that wait for a trial."""
        return self._search.num_waiting_proposals

    @property
    def proposal_fates(self) -> Mapping[Fate, int]:
        """What became of the architectures found by workers."""
        return self._search.proposal_fates

    @property
    def hosts(self) -> Mapping[str, str]:
        """Host that each worker last joined from."""
        return {name: worker.joined.host for name, worker in self.history.workers.items()}

    @property
    def unfit_workers(self) -> Mapping[str, str]:
        """Why workers that may take no part were sent away."""
        return self._unfit

    @property
    def score(self) -> Sample | None:
        """The score as it stands; None before the first finished epoch of a trial that did not fail."""
        return self._live_score.final()

    @property
    def is_over(self) -> bool:
        """Whether the run has ended; nothing is recorded after it."""
        return self.history.ended is not None

    @property
    def is_time_up(self) -> bool:
        """Whether the measured time is used up."""
        left_s = self.time_left_s
        return left_s is not None and left_s <= 0

    @property
    def time_limit_s(self) -> float | None:
        """The measured time that is given."""
        return self._config.limits.measured_time_s

    @property
    def time_left_s(self) -> float | None:
        """Measured time left; None without a limit; the whole of it before the first trial."""
        limit_s, start_s = self.time_limit_s, self.history.start_s
        if limit_s is None:
            return None
        return limit_s if start_s is None else start_s + limit_s - self._now_s()

    @property
    def is_trial_limit_reached(self) -> bool:
        """Whether no further trial may be claimed."""
        limit = self._config.limits.trials
        return limit is not None and len(self.history.trials) >= limit

    @property
    def due_end(self) -> EndReason | None:
        """Why the run must end now, if it must."""
        if self.is_time_up:
            return EndReason.TIME_LIMIT
        if self.is_trial_limit_reached and not self.history.open_trials:
            return EndReason.TRIAL_LIMIT
        if self._num_failures_in_row() >= max(MIN_FAILURES_IN_ROW, 3 * self._config.num_workers):
            return EndReason.FAILURES
        return None

    def open_barrier_if_due(self) -> None:
        """Let trials be claimed once enough workers joined, or after the timeout with at least one."""
        if self.history.barrier is not None or self.is_over:
            return
        wanted = self._config.start.min_workers or self._config.num_workers
        present = self.history.num_present_workers
        timed_out = self._now_s() - self._opened_s >= self._config.start.timeout_s
        if present >= wanted or (timed_out and present):
            self._record(
                StartBarrierOpened(workers=present, wanted_workers=wanted, timed_out=present < wanted)
            )

    @property
    def is_barrier_overdue(self) -> bool:
        """Whether the start timed out without a single worker."""
        return (
            self.history.barrier is None
            and self._now_s() - self._opened_s >= self._config.start.timeout_s
            and not self.history.num_present_workers
        )

    def is_dismissed(self, worker: str) -> bool:
        """Whether the worker was told that there is nothing more to claim, holds no lease, and may end."""
        return worker in self._dismissed and not self._leases(worker)

    def extend_leases(self, seconds: float) -> None:
        """Forgive a silence in which the master itself did not listen."""
        for worker in self._last_seen_s:
            self._last_seen_s[worker] += seconds

    def expire_leases(self) -> None:
        """Give up workers that were silent for longer than a lease."""
        deadline_s = self._now_s() - self._config.control.lease_s
        for worker, seen_s in self._last_seen_s.items():
            if seen_s < deadline_s and not self.is_dismissed(worker):
                self.lose(worker, f"no sign of life for {self._config.control.lease_s:g} s")

    def lose(self, worker: str, reason: str) -> None:
        """Give a worker up: its trials are closed at their last finished epoch."""
        known = self.history.workers.get(worker)
        if self.is_over or known is None or known.lost_s is not None:
            return
        self._close_leases(worker, Outcome.LOST, reason)
        self._record(WorkerLost(worker=worker, incarnation=known.joined.incarnation, reason=reason))

    def end(self, reason: EndReason, detail: str = "") -> None:
        """End the run: cut off what is unfinished, seal the journal. A second call changes nothing."""
        if self.is_over:
            return
        for trial in list(self.history.open_trials.values()):
            self._close(trial, Outcome.INTERRUPTED, "the run ended")
        self._record(RunEnded(reason=reason, detail=detail))

    # ----------------------------------------------------------------------------------------------------

    def _num_failures_in_row(self) -> int:
        """Trials that failed before their first epoch, back to the last one that did not."""
        fruitful = (
            number
            for number, trial in enumerate(reversed(self.history.closed_trials))
            if trial.epochs or trial.scores
        )
        return next(fruitful, len(self.history.closed_trials))

    def _next_poll_s(self) -> float:
        """A pause after which nobody else asks: workers that came together must not claim together."""
        now_s = self._now_s()
        self._polled_s = max(now_s + BARRIER_POLL_S, self._polled_s + 1 / MAX_POLLS_PER_S)
        return self._polled_s - now_s

    def _welcome(self, *, stop: bool) -> JoinReply:
        return JoinReply(
            run=self.history.header.run,
            workload=self._resolved.workload_name,
            workload_options=self._resolved.workload_options,
            heartbeat_s=self._config.heartbeat_s,
            master_timeout_s=self._config.control.master_timeout_s,
            search=self._proposals.brief,
            stop=stop,
            weights_dir=None if self._weights is None else str(self._weights.folder),
        )

    def _greet(self, worker: str, incarnation: str) -> None:
        check_joined(self.history, worker, incarnation)
        self._last_seen_s[worker] = self._now_s()

    def _leases(self, worker: str) -> list[TrialHistory]:
        known = self.history.workers.get(worker)
        return [] if known is None else list(known.open_trials.values())

    def _lease(self, request: ClaimRequest) -> TrialSpec:
        number = len(self.history.trials) + 1
        round_number = self.history.workers[request.worker].num_claimed + 1
        candidate = self._search.ask(number)
        counts = count(candidate.architecture)
        spec = TrialSpec(
            trial=number,
            round=round_number,
            epochs=self._config.epochs.epochs(round_number),
            architecture=candidate.architecture.to_document(),
            hyper_parameters=candidate.hyper_parameters,
            seed=self._config.seed + number,
            parent=None if self._weights is None else self._weights.parent_of(candidate.lineage),
        )
        self._record(
            TrialClaimed(
                worker=request.worker,
                incarnation=request.incarnation,
                request=request.request,
                spec=spec,
                architecture_hash=candidate.architecture.content_hash,
                lineage=candidate.lineage,
                parameters=counts.parameters,
                train_ops=counts.aiperf_ops.train,
                evaluation_ops=counts.aiperf_ops.forward,
            )
        )
        return spec

    def _is_to_stop(self, trial: TrialHistory) -> bool:
        return self._prospects.reason_to_stop(trial) is not None

    def _close_leases(self, worker: str, outcome: Outcome, reason: str) -> None:
        for trial in self._leases(worker):
            self._close(trial, outcome, reason)

    def _close(self, trial: TrialHistory, outcome: Outcome, reason: str) -> None:
        unfinished = self._unfinished.pop(trial.number, _Unfinished())
        closed = TrialClosed(
            trial=trial.number,
            outcome=outcome,
            reason=reason,
            unfinished_train_images=unfinished.train_images,
            unfinished_validation_images=unfinished.validation_images,
        )
        self._record(self._prospects.with_search_error(trial, closed))
        self._search.tell(trial.number, trial.search_error)

    def _restore_search(self) -> None:
        for trial in self.history.trials.values():
            spec = trial.claimed.spec
            self._search.restore(trial.number, spec.architecture.to_architecture(), spec.hyper_parameters)
        for trial in self.history.closed_trials:
            self._search.tell(trial.number, trial.search_error)
