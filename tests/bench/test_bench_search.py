"""One proposal and one added result of each search and of the surrogate, by length of the history.

Processor time of one core, one thread of numpy, because other programs share the machine.
"""

import itertools
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.bench

# One proposal of the original (NNI's network-morphism tuner as AIPerf ships it), ResNet-50 start, 8 trained
# models in the history, measured on two cores; 50 to 65 s with 24.
ORIGINAL_PROPOSAL_S = 26.0
SEARCHES = ("random_search:RandomArchitectureSearch", "evolution:EvolutionarySearch",
            "network_morphism:NetworkMorphismSearch")  # fmt: skip
SIZES = (100, 1000, 10_000)
NUM_PROPOSALS = 20
NUM_ROUNDS = 3

MEASURE = """
import importlib, json, random, statistics, sys, time
from aibench.architecture import Shape
from aibench.architecture.morphs import random_morph
from aibench.architecture.resnet import resnet
from aibench.counting import count
from aibench.search.mutator import Reach
from support.memory import peak_memory_mb

module, name = sys.argv[1].split(":")
sizes, num_proposals = json.loads(sys.argv[2]), int(sys.argv[3])
rng = random.Random(1)
initial = resnet("resnet50", Shape(3, 224, 224), 1000)
search = getattr(importlib.import_module(f"aibench.search.{module}"), name)(
    Reach(initial=initial, max_morphs=3, max_train_ops=4.0 * count(initial).aiperf_ops.train), seed=1
)

def timed(work, *arguments):
    began = time.process_time()
    result = work(*arguments)
    return result, time.process_time() - began

def told_network():
    network = initial
    for _ in range(rng.randint(1, 8)):
        network, _ = random_morph(network, rng)
    return network

told, figures = 0, []
for size in sizes:
    added_s = []
    while told < size:
        network, error = told_network(), rng.uniform(0.2, 0.6)
        search.claimed(network)
        added_s.append(timed(search.tell, network, error)[1])
        told += 1
    proposals_s = []
    for _ in range(num_proposals):
        proposal, proposal_s = timed(search.ask)
        proposals_s.append(proposal_s)
        search.claimed(proposal.architecture)
    figures.append({
        "size": size,
        "proposal_s": statistics.median(proposals_s),
        "worst_proposal_s": max(proposals_s),
        "added_s": statistics.median(added_s),
        "peak_mb": peak_memory_mb(),
    })
print(json.dumps(figures))
"""


# The same results again and again: what each takes at least is its work, the rest came from other programs.
MEASURE_SURROGATE = """
import json, random, sys, time
from aibench.architecture import Shape
from aibench.architecture.morphs import random_morph
from aibench.architecture.resnet import resnet
from aibench.search.embedding import embed
from aibench.search.surrogate import Surrogate
from support.memory import peak_memory_mb

num_results, num_rounds = map(int, sys.argv[1:])
rng = random.Random(1)
initial = resnet("resnet50", Shape(3, 224, 224), 1000)

def result():
    network = initial
    for _ in range(rng.randint(1, 8)):
        network, _ = random_morph(network, rng)
    return embed(network), rng.uniform(0.2, 0.6)

results = [result() for _ in range(num_results)]
rounds = []
for _ in range(num_rounds):
    surrogate, added_s = Surrogate(), []
    for point, error in results:
        began = time.process_time()
        surrogate.tell(point, error)
        added_s.append(time.process_time() - began)
    rounds.append(added_s)
print(json.dumps([{"added_s": rounds, "peak_mb": peak_memory_mb()}]))
"""


def measured(program: str, *arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, "-c", program, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parents[1]), *sys.path])
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=900)
    figures: list[dict[str, Any]] = json.loads(result.stdout)
    return figures


def test_proposals_and_results_of_a_resnet50_search() -> None:
    found = {search: measured(MEASURE, search, json.dumps(SIZES), str(NUM_PROPOSALS)) for search in SEARCHES}
    baseline = found[SEARCHES[0]]
    print()
    print(f"the original, 8 results             proposal {ORIGINAL_PROPOSAL_S * 1e3:9.2f} ms")
    for search, figures in found.items():
        for row, random_row in zip(figures, baseline, strict=True):
            print(
                f"{search.partition(':')[0]:16} {row['size']:6} results  "
                f"proposal {row['proposal_s'] * 1e3:6.2f} ms (worst {row['worst_proposal_s'] * 1e3:6.2f}), "
                f"{row['proposal_s'] / random_row['proposal_s']:5.2f} × random, "
                f"original / {ORIGINAL_PROPOSAL_S / row['proposal_s']:6.0f}; "
                f"added result {row['added_s'] * 1e3:5.2f} ms; peak {row['peak_mb']:.0f} MB"
            )


def test_results_added_to_the_surrogate() -> None:
    (rounds,) = measured(MEASURE_SURROGATE, str(SIZES[-1]), str(NUM_ROUNDS))
    least_ms = [min(times_s) * 1e3 for times_s in zip(*rounds["added_s"], strict=True)]
    print()
    for start, end in itertools.pairwise((0, *SIZES)):
        part = sorted(least_ms[start:end])
        median_ms, late_ms, longest_ms = part[len(part) // 2], part[int(0.99 * len(part))], part[-1]
        print(
            f"surrogate, results {start + 1:5} to {end:6}: one added in {median_ms:5.2f} ms (median), "
            f"{late_ms:5.2f} ms (99 %), {longest_ms:5.2f} ms (longest), longest / median "
            f"{longest_ms / median_ms:5.1f}; peak {rounds['peak_mb']:.0f} MB"
        )
