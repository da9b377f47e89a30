"""A surrogate of "error after training", to compare searches in seconds instead of days.

It is a test landscape. Its terms have the signs and rough shapes of published observations, its constants are
chosen, not fitted, and it says nothing about any real network: a search that wins here has only shown that it
can climb such a slope under such noise.

With every ratio taken to the initial network, S(x) = 1 - 2^(-x/2) (each two doublings halve what is left to
gain, so returns diminish as in Kaplan et al., arXiv:2001.08361) and ``floor`` the irreducible error::

    error = floor + (chance - floor) · logistic(z + noise),    chance = 1 - 1/classes

    z = -1.75
      - 0.9 · S(log2 operations ratio)        compute, which grows with depth, width, kernels and map sizes
      - 0.6 · S(log2 parameters ratio)        parameters
      - 0.3 · S(log2 joins ratio)             shortcuts: 1 + number of sums and concatenations
      - 0.3 · S((kernel - initial kernel)/2)  wider windows see more; kernel is the mean over windows above 1
      + 0.2 · (log2 depth ratio - log2 width ratio)²   depth and width pay together (arXiv:1905.11946)
      + 0.02 · max(0, shortest path - 8)²     too deep without shortcuts does not train (arXiv:1512.03385)
      + 0.12 · a · log2(learning rate / best)²         a is 2 above the best rate, where training diverges
      + 0.04 · log2(batch size / 64)          large batches generalise worse (arXiv:1609.04836)
      + 2 · (dropout - best dropout)²         larger networks want more of it

    best learning rate = 0.05 · sqrt(batch size / 64) / sqrt(depth ratio)      (batch: arXiv:1404.5997)
    best dropout       = 0.1 + 0.1 · S(log2 parameters ratio), from 0 to 0.2

    noise ~ normal, deviation 0.04 + 0.1 · min(1, learning rate term + shortest path term)

The effects add up in log-odds, so that each one scales the error instead of shifting it, and the error stays
between floor and chance. A network that trains badly scatters more, so the noise is not of one size. Depth is
the number of convolutions and dense layers on the longest path, width their mean log2 channels. A hyper-
parameter that the space does not have stands at its best value; unknown ones change nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass

from aibench.api.workload import HyperParameters
from aibench.architecture import Add, Architecture, Concat, Conv, Dense, Dropout
from aibench.architecture.paths import path_lengths
from aibench.counting import NetworkCount, count
from aibench.search.evaluator import ContestTrial, Evaluation, RunningTrial, TrialWork, ended
from aibench.search.search import Candidate

FLOOR = 0.02
INITIAL_LOG_ODDS = -1.75
MAX_TRAINABLE_PATH = 8
REFERENCE_BATCH_SIZE = 64.0
REFERENCE_LEARNING_RATE = 0.05
_MIN_LEARNING_RATE = 1e-12


@dataclass(frozen=True, kw_only=True, slots=True)
class Features:
    """What the landscape sees of a network.

    Attributes:
        log_ops: log2 of the training operations per image.
        log_parameters: log2 of the learned values.
        depth: Learned layers on the longest path from image to output.
        shortest_path: Learned layers on the shortest path.
        log_width: Mean log2 of the channels of the learned layers but the last.
        kernel: Mean side of the windows larger than 1; 1 without any.
        num_joins: Sums and concatenations.
        dropout: Largest rate.
    """

    log_ops: float
    log_parameters: float
    depth: int
    shortest_path: int
    log_width: float
    kernel: float
    num_joins: int
    dropout: float

    @classmethod
    def of(cls, architecture: Architecture, counts: NetworkCount) -> Features:
        """Read a network and its counts."""
        nodes = architecture.nodes
        widths = [
            math.log2(shape.channels)
            for node, shape in zip(nodes[:-1], architecture.shapes, strict=False)
            if isinstance(node, Conv | Dense)
        ]
        kernels = [node.kernel for node in nodes if isinstance(node, Conv) and node.kernel > 1]
        shortest_path, depth = path_lengths(architecture, (Conv, Dense))
        return cls(
            log_ops=math.log2(counts.aiperf_ops.train),
            log_parameters=math.log2(counts.parameters),
            depth=depth,
            shortest_path=shortest_path,
            log_width=_mean(widths, default=0.0),
            kernel=_mean(kernels, default=1.0),
            num_joins=sum(isinstance(node, Add | Concat) for node in nodes),
            dropout=max((node.rate for node in nodes if isinstance(node, Dropout)), default=0.0),
        )


class SurrogateLandscape:
    """An `Evaluator` that computes an error instead of training for it; see the formula above.

    Args:
        initial: The network that all ratios are taken to; it learns something.
        work: The images of a trial, for the operations that it would have taken.
    """

    def __init__(self, initial: Architecture, work: TrialWork) -> None:
        self._initial = Features.of(initial, count(initial))
        self._chance = 1.0 - 1.0 / max(2, initial.output_shape.channels)
        self._work = work

    def begin(self, trial: ContestTrial) -> RunningTrial:
        """The trial, ended already."""
        return ended(self.evaluate(trial.candidate, trial.seed))

    def evaluate(self, candidate: Candidate, seed: int) -> Evaluation:
        """The error under the noise that candidate and seed name, and the operations of a whole trial."""
        counts = count(candidate.architecture)
        features = Features.of(candidate.architecture, counts)
        drawn = candidate.hyper_parameters
        source = f"{seed}:{candidate.architecture.content_hash}:{sorted(drawn.items())}"
        noise = random.Random(source).gauss(0.0, self._deviation(features, drawn))  # noqa: S311
        error = self._error(self._log_odds(features, drawn) + noise)
        return Evaluation(error, self._work.ops(counts))

    def expected_error(self, candidate: Candidate) -> float:
        """The error without noise."""
        features = Features.of(candidate.architecture, count(candidate.architecture))
        return self._error(self._log_odds(features, candidate.hyper_parameters))

    def _error(self, log_odds: float) -> float:
        return FLOOR + (self._chance - FLOOR) / (1.0 + math.exp(-log_odds))

    def _log_odds(self, features: Features, drawn: HyperParameters) -> float:
        return math.fsum(
            (
                INITIAL_LOG_ODDS,
                *self._network_terms(features),
                _path_term(features),
                self._learning_rate_term(features, drawn),
                0.04 * math.log2(_number(drawn, "batch_size", REFERENCE_BATCH_SIZE) / REFERENCE_BATCH_SIZE),
                self._dropout_term(features, drawn),
            )
        )

    def _network_terms(self, features: Features) -> Iterator[float]:
        initial = self._initial
        yield -0.9 * saturating(features.log_ops - initial.log_ops)
        yield -0.6 * saturating(features.log_parameters - initial.log_parameters)
        yield -0.3 * saturating(math.log2((1 + features.num_joins) / (1 + initial.num_joins)))
        yield -0.3 * saturating((features.kernel - initial.kernel) / 2)
        depth_ratio, width_ratio = self._log_depth_ratio(features), features.log_width - initial.log_width
        yield 0.2 * (depth_ratio - width_ratio) ** 2

    def _learning_rate_term(self, features: Features, drawn: HyperParameters) -> float:
        batch_size = _number(drawn, "batch_size", REFERENCE_BATCH_SIZE)
        doublings = math.log2(batch_size / REFERENCE_BATCH_SIZE) - self._log_depth_ratio(features)
        best = REFERENCE_LEARNING_RATE * math.exp2(doublings / 2)
        distance = math.log2(max(_MIN_LEARNING_RATE, _number(drawn, "learning_rate", best)) / best)
        return 0.12 * (2.0 if distance > 0 else 1.0) * distance**2

    def _dropout_term(self, features: Features, drawn: HyperParameters) -> float:
        gain = saturating(features.log_parameters - self._initial.log_parameters)
        best = 0.1 + 0.1 * max(-1.0, gain)
        # The workload may have turned the rate into a layer; it stands in the features then.
        return 2.0 * (features.dropout - best) ** 2 if "dropout" in drawn else 0.0

    def _deviation(self, features: Features, drawn: HyperParameters) -> float:
        return 0.04 + 0.1 * min(1.0, self._learning_rate_term(features, drawn) + _path_term(features))

    def _log_depth_ratio(self, features: Features) -> float:
        return math.log2(features.depth / self._initial.depth)


def saturating(doublings: float) -> float:
    """0 at 0, towards 1: each two doublings halve what is left; below 0 it falls ever faster."""
    return 1.0 - math.exp2(-doublings / 2)


def _path_term(features: Features) -> float:
    return 0.02 * max(0, features.shortest_path - MAX_TRAINABLE_PATH) ** 2


def _number(drawn: HyperParameters, name: str, default: float) -> float:
    return float(drawn.get(name, default))


def _mean(values: list[float] | list[int], *, default: float) -> float:
    return sum(values) / len(values) if values else default
