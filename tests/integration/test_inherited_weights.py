"""Search, coordinator and trainer together: children that start from the weights of their parents."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.fake_master import FakeMaster

from aibench.api.events import EpochFinished, Outcome
from aibench.api.workload import Gang, Progress
from aibench.config import RunConfig, resolve
from aibench.config.validate import to_section

DOCUMENT: dict[str, Any] = {
    "name": "inheriting",
    "division": "smoke",
    "workload": {"name": "image_classification", "data": "digits", "initial": "resnet18", "width": 2},
    "workers": [{"count": 1, "device": "cpu"}],
    "limits": {"trials": 100},
    "epochs": {"warmup": [1], "full": 1},
    "search": {"architecture": "evolution", "hyper_parameters": "random", "inherit_weights": True},
}


def train_trials(master: FakeMaster, num_trials: int) -> None:
    folder = master.join().weights_dir
    assert folder is not None
    trainer = master.resolved.workload.open(Gang(rank=0, num_ranks=1, device="cpu"), Path(folder))
    for number in range(1, num_trials + 1):
        spec = master.lease(request=f"r{number}")
        for result in trainer.train(spec, Progress()):
            master.epoch(spec.trial, **{name: getattr(result, name) for name in result.__struct_fields__})
        master.finish(spec.trial, Outcome.COMPLETED)


def test_every_child_of_a_trained_network_starts_from_its_weights_and_the_journal_says_so(
    tmp_path: Path,
) -> None:
    resolved = resolve(to_section(DOCUMENT, RunConfig))
    master = FakeMaster(resolved=resolved, weights_dir=tmp_path)
    train_trials(master, 5)
    finished: list[EpochFinished] = master.of(EpochFinished)
    trials = master.history.trials
    assert [epoch.result.inherited for epoch in finished] == [False, True, True, True, True]
    for epoch in finished[1:]:
        claimed = trials[epoch.trial].claimed
        assert claimed.spec.parent is not None
        assert trials[claimed.spec.parent.trial].claimed.architecture_hash == claimed.lineage.parent
    assert {path.name for path in tmp_path.iterdir()} == {f"trial-{number}.weights" for number in trials}
