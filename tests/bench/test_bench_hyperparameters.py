"""One draw of each sampler of hyper-parameters, by number of results, on one core.

The master serves no worker meanwhile. Processor time with one thread of numpy and torch, because other
programs share the machine.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.bench

SAMPLERS = ("random", "cma_es", "nsga_ii", "tpe", "gp")
SIZES = (25, 50, 100, 1000)
NUM_DRAWS = 20

MEASURE = """
import json, random, statistics, sys, time
from aibench.api.space import Domain
from aibench.search.hyperparameters import HyperParameterSearch
from support.memory import peak_memory_mb

sizes, num_draws = json.loads(sys.argv[2]), int(sys.argv[3])
space = {
    "learning_rate": Domain(low=0.01, high=0.3, log=True),
    "batch_size": Domain(choices=(32, 64, 128)),
    "kernel_size": Domain(choices=(3, 5)),
    "dropout": Domain(low=0.0, high=0.5),
}
search = HyperParameterSearch(space, sampler=sys.argv[1], seed=1)
drawn_at_random = HyperParameterSearch(space, sampler="random", seed=2)
rng = random.Random(1)

def accuracy(values):
    best = 0.9 - 0.3 * abs(values["dropout"] - 0.2) - 0.5 * abs(values["learning_rate"] - 0.1)
    return min(max(best + rng.gauss(0.0, 0.01), 0.0), 1.0)

def ask(source):
    began = time.process_time()
    drawn = next(source.draws(0))
    return drawn, time.process_time() - began

trial, figures = 0, []
for size in sizes:
    while trial < size:
        trial += 1
        drawn, _ = ask(drawn_at_random)
        drawn_at_random.start(trial, drawn)
        search.start(trial, drawn)
        search.tell(trial, accuracy(drawn))
    draws_s = []
    for number in range(num_draws):
        drawn, draw_s = ask(search)
        draws_s.append(draw_s)
        search.start(-number, drawn)
    for number in range(num_draws):
        search.tell(-number, None)
    figures.append({
        "size": size,
        "draw_s": statistics.median(draws_s),
        "worst_s": max(draws_s),
        "peak_mb": peak_memory_mb(),
    })
print(json.dumps(figures))
"""


def measured(sampler: str) -> list[dict[str, float]]:
    command = [sys.executable, "-c", MEASURE, sampler, json.dumps(SIZES), str(NUM_DRAWS)]
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=900)
    figures: list[dict[str, float]] = json.loads(result.stdout)
    return figures


def test_draws_of_hyper_parameters() -> None:
    found = {sampler: measured(sampler) for sampler in SAMPLERS}
    print()
    for sampler, figures in found.items():
        for row, random_row in zip(figures, found["random"], strict=True):
            print(
                f"{sampler:8} {row['size']:5} results  draw {row['draw_s'] * 1e3:7.2f} ms "
                f"(worst {row['worst_s'] * 1e3:7.2f}), {row['draw_s'] / random_row['draw_s']:6.1f} × random; "
                f"peak {row['peak_mb']:.0f} MB"
            )
