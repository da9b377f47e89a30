"""What workers' proposals cost: training beside a proposer, and claims from a master with a full pool."""

import contextlib
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from support.fake_master import epoch_result, join_request
from support.fake_workload import make_config
from support.served_master import ServedMaster

from aibench.api.events import Lineage, Outcome
from aibench.api.protocol import ClaimRequest, EpochRequest, FinishRequest, ProposeRequest
from aibench.api.workload import EpochResult
from aibench.architecture.morphs import random_morph
from aibench.counting import count
from aibench.search.pool import Fate
from aibench.worker.proposer_process import ProposerProcess

pytestmark = pytest.mark.bench

ALLOWED_LOSS = 0.02
NUM_PAIRS = 30
STEPS_S = 1.0
NUM_KNOWN = 100
NUM_TRIALS = 1000

# One rank's training on one core, as long as it is told on standard input; answers with steps per second of
# the clock, and of processor time, which other programs of this machine do not take away.
TRAIN = """
import sys, time, torch
torch.set_num_threads(1)
torch.manual_seed(1)
layers = [torch.nn.Conv2d(3, 16, 3, padding=1)]
for _ in range(4):
    layers += [torch.nn.ReLU(), torch.nn.Conv2d(16, 16, 3, padding=1)]
network = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(16 * 32 * 32, 10))
optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
images_BCHW, labels_B = torch.randn(16, 3, 32, 32), torch.randint(10, (16,))

def steps(seconds):
    began, began_cpu, number = time.perf_counter(), time.process_time(), 0
    while time.perf_counter() - began < seconds:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(images_BCHW), labels_B).backward()
        optimizer.step()
        number += 1
    return number / (time.perf_counter() - began), number / (time.process_time() - began_cpu)

steps(1.0)
for line in sys.stdin:
    print(*steps(float(line)), flush=True)
"""


def told_master(folder: Path, num_trials: int) -> ServedMaster:
    """A master whose only worker has ended so many trials."""
    search = {"architecture": "network_morphism", "max_morphs": 3, "hyper_parameters": "random"}
    master = ServedMaster(
        folder, make_config(workers=[{"count": 1}], limits={"trials": 10**6}, search=search)
    )
    master.run(lambda: master.coordinator.join(join_request()))
    for number in range(num_trials):
        master.run(lambda number=number: train(master, number))  # type: ignore[misc]
    return master


def train(master: ServedMaster, number: int) -> None:
    life = {"worker": "w0", "incarnation": "a"}
    spec = master.coordinator.claim(ClaimRequest(**life, request=f"r{number}")).spec
    assert spec is not None
    parameters = count(spec.architecture.to_architecture()).parameters
    for epoch in range(1, spec.epochs + 1):
        result: EpochResult = epoch_result(epoch, parameters=parameters, validation_correct=10 + number % 10)
        master.coordinator.epoch(EpochRequest(worker="w0", incarnation="a", trial=spec.trial, result=result))
    end = FinishRequest(worker="w0", incarnation="a", trial=spec.trial, outcome=Outcome.COMPLETED)
    master.coordinator.finish(end)


@contextlib.contextmanager
def training(core: int) -> Iterator[Callable[[], list[float]]]:
    """A rank on a core of its own; called, it trains for a while and tells its two rates."""
    rank = subprocess.Popen(
        [sys.executable, "-c", TRAIN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    os.sched_setaffinity(rank.pid, {core})
    assert rank.stdin is not None
    assert rank.stdout is not None
    stdin, stdout = rank.stdin, rank.stdout

    def train() -> list[float]:
        print(STEPS_S, file=stdin, flush=True)
        return [float(rate) for rate in stdout.readline().split()]

    with rank:
        train()
        yield train
        stdin.close()


@contextlib.contextmanager
def proposing(master: ServedMaster) -> Iterator[psutil.Process]:
    """A proposer that has made its first proposal."""
    process = ProposerProcess(master.control_file, join_request())
    process.start(master.run(lambda: master.coordinator.join(join_request())).search)
    assert process._process is not None
    while not master.run(lambda: master.coordinator.num_waiting_proposals):
        time.sleep(0.1)
    yield psutil.Process(process._process.pid)
    process.stop()


def test_training_beside_a_proposer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Alternating, on two cores: training keeps one; a proposer that never pauses, or nothing, the other."""
    cores = os.sched_getaffinity(0)
    assert len(cores) >= 2, "a free core is needed"
    monkeypatch.setattr("aibench.search.search.MIN_WANTED_PROPOSALS", 250)
    os.sched_setaffinity(0, cores - {min(cores)})
    master = told_master(tmp_path, NUM_KNOWN)
    ratios, clock_ratios, num_proposals, busy_s = [], [], 0, 0.0
    with training(min(cores)) as train, proposing(master) as proposer:
        for _ in range(NUM_PAIRS):
            proposer.suspend()
            master.run(lambda: empty_pool(master))
            alone = train()
            accepted, used_s = num_accepted(master), sum(proposer.cpu_times()[:2])
            proposer.resume()
            beside = train()
            num_proposals += num_accepted(master) - accepted
            busy_s += sum(proposer.cpu_times()[:2]) - used_s
            clock_ratios.append(beside[0] / alone[0])
            ratios.append(beside[1] / alone[1])
        memory_mb = proposer.memory_info().rss / 2**20
    master.stop()
    os.sched_setaffinity(0, cores)
    print()
    print(f"training beside a proposer / alone, {NUM_PAIRS} pairs; allowed {1 - ALLOWED_LOSS:.2f}")
    for what, values in (("clock", clock_ratios), ("processor time", ratios)):
        low, median, high = statistics.quantiles(values, n=4)
        print(f"  steps per second of {what:15} {median:.4f} ×   (quartiles {low:.4f} to {high:.4f})")
    print(f"proposer: {num_proposals / busy_s:.1f} proposals per second of its core with {NUM_KNOWN} trials "
          f"known, {busy_s / (NUM_PAIRS * STEPS_S):.0%} of a core, {memory_mb:.0f} MB")  # fmt: skip


def num_accepted(master: ServedMaster) -> int:
    return master.run(lambda: master.coordinator.proposal_fates[Fate.ACCEPTED])


def empty_pool(master: ServedMaster) -> None:
    while master.coordinator._search._pool.take():
        pass


def test_claims_with_a_full_pool_and_a_long_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aibench.master.coordinator.MAX_LEASES", 10**6)
    master = told_master(tmp_path, NUM_TRIALS)
    search = master.coordinator._search
    initial = search.neutral_initial
    rng = random.Random(1)
    children = [random_morph(random_morph(initial, rng)[0], rng)[0] for _ in range(400)]

    def claim(number: int) -> tuple[float, str]:
        request = ClaimRequest(worker="w0", incarnation="a", request=f"claim{number}")
        began = time.perf_counter()
        reply = master.coordinator.claim(request)
        took_s = time.perf_counter() - began
        assert reply.spec is not None
        return took_s, master.history.trials[reply.spec.trial].claimed.lineage.origin

    def propose(number: int) -> float:
        request = ProposeRequest(
            worker="w0",
            incarnation="a",
            architecture=children[number].to_document(),
            lineage=Lineage(origin="network_morphism"),
            bound=rng.random(),
            num_known=NUM_TRIALS,
        )
        began = time.perf_counter()
        master.coordinator.propose(request)
        return time.perf_counter() - began

    def simulate() -> dict[str, list[float]]:
        proposed = [propose(number) for number in range(len(children))]
        found: dict[str, list[float]] = {"propose": proposed, "worker": [], "network_morphism": []}
        for number in range(300):
            took_s, origin = claim(number)
            found[origin].append(took_s)
        return found

    found = master.run(simulate)
    waiting = len(found["worker"])
    master.stop()
    own = statistics.median(found["network_morphism"])
    print()
    print(f"claim of the search's own network  {own * 1e3:6.2f} ms   1 ×   ({NUM_TRIALS} closed trials)")
    pooled = statistics.median(found["worker"])
    print(f"claim of a proposal from the pool  {pooled * 1e3:6.2f} ms   {pooled / own:.3f} ×   "
          f"(longest {max(found['worker']) * 1e3:.2f} ms, {waiting} waited)")  # fmt: skip
    print(f"taking a proposal in               {statistics.median(found['propose']) * 1e3:6.2f} ms")
