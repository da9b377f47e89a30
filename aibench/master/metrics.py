"""The run as Prometheus metrics."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from aibench.master.coordinator import Coordinator

CONTENT_TYPE = CONTENT_TYPE_LATEST


def render_metrics(coordinator: Coordinator) -> bytes:
    """The present state in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_RunCollector(coordinator))
    return generate_latest(registry)


class _RunCollector(Collector):
    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator

    def collect(self) -> Iterator[Metric]:
        history = self._coordinator.history
        outcomes = Counter(t.closed.outcome.value for t in history.trials.values() if t.closed)
        trials = GaugeMetricFamily("aibench_trials", "Trials by outcome.", labels=["outcome"])
        trials.add_metric(["running"], len(history.open_trials))
        for outcome, number in sorted(outcomes.items()):
            trials.add_metric([outcome], number)
        yield trials
        yield GaugeMetricFamily(
            "aibench_workers", "Workers that are thought alive.", value=history.num_present_workers
        )
        yield GaugeMetricFamily(
            "aibench_waiting_proposals",
            "Architectures found by workers that wait for a trial.",
            value=self._coordinator.num_waiting_proposals,
        )
        proposals = CounterMetricFamily(
            "aibench_proposals", "Architectures found by workers, by what became of them.", labels=["fate"]
        )
        for fate, number in self._coordinator.proposal_fates.items():
            proposals.add_metric([fate], number)
        yield proposals
        if final := self._coordinator.score:
            yield GaugeMetricFamily("aibench_score_ops_per_second", "Score.", value=final.ops_per_s)
            yield GaugeMetricFamily(
                "aibench_normalized_score_ops_per_second",
                "Score times -ln(error).",
                value=final.normalized_ops_per_s,
            )
            yield GaugeMetricFamily(
                "aibench_best_error_ratio", "Lowest validation error.", value=final.best_error
            )
