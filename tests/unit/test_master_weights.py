from __future__ import annotations

from pathlib import Path

import pytest
from support.fake_master import FakeMaster, one_worker
from support.runs import TINY, RunBuilder

from aibench.api.events import Lineage, Outcome, TrialClaimed
from aibench.api.workload import Inheritance, TrialSpec
from aibench.errors import RunFolderError
from aibench.master import weights
from aibench.master.weights import KeptWeights
from aibench.score.history import RunHistory

INHERITING = {"max_morphs": 2, "hyper_parameters": "random", "inherit_weights": True}
CHILD_OF_TINY = Lineage(origin="evolution", parent=TINY.content_hash, morphs=("widen@1:x2",))


def last_claim(master: FakeMaster) -> TrialClaimed:
    claim = master.of(TrialClaimed)[-1]
    assert isinstance(claim, TrialClaimed)
    return claim


def started() -> RunBuilder:
    return RunBuilder().start().join().barrier()


def train(run: RunBuilder, *correct: int) -> RunBuilder:
    """Complete one trial of the same network for each number of right images of 100."""
    for number in correct:
        run.claim()
        trial = sum(record.event.__class__ is TrialClaimed for record in run.records)
        run.epoch(trial, correct=number).close(trial)
    return run


def kept(run: RunBuilder, folder: Path = Path("weights")) -> KeptWeights:
    return KeptWeights(folder, RunHistory.of(run.records))


def test_workers_are_told_where_weights_are_only_if_trials_inherit() -> None:
    assert one_worker().join().weights_dir is None
    assert one_worker(search=INHERITING).join().weights_dir == "weights"


def test_a_child_of_a_completed_trial_is_told_its_parent() -> None:
    master = one_worker(search=INHERITING)
    first = master.lease(request="r1")
    assert first.parent is None
    master.complete(1)
    second = master.lease(request="r2")
    claim = last_claim(master)
    assert claim.lineage.parent == first.architecture.to_architecture().content_hash
    assert len(claim.lineage.morphs) > 0
    assert second.parent == Inheritance(trial=1, architecture=first.architecture, morphs=claim.lineage.morphs)
    assert claim.spec == second


def test_without_the_switch_no_trial_is_told_a_parent() -> None:
    master = one_worker()
    master.lease(request="r1")
    master.complete(1)
    assert master.lease(request="r2").parent is None
    assert last_claim(master).lineage.parent is not None


def test_a_trial_that_did_not_complete_is_no_parent() -> None:
    master = one_worker(search=INHERITING)
    master.lease(request="r1")
    master.epoch(1, 1)
    master.join(life="b")
    assert master.history.trials[1].closed_s is not None
    assert master.lease(life="b", request="r2").parent is None
    assert last_claim(master).lineage.parent is not None


def test_a_resumed_master_knows_the_parents() -> None:
    master = one_worker(search=INHERITING)
    master.lease(request="r1")
    master.complete(1)
    resumed = master.restart()
    assert resumed.lease(request="r2") == master.lease(request="r2")


def test_of_trials_of_one_network_the_best_is_the_parent() -> None:
    parent = kept(train(started(), 50, 80, 70)).parent_of(CHILD_OF_TINY)
    assert parent == Inheritance(trial=2, architecture=TINY.to_document(), morphs=("widen@1:x2",))


@pytest.mark.parametrize("outcome", [Outcome.FAILED, Outcome.LOST, Outcome.INTERRUPTED, Outcome.STOPPED])
def test_only_completed_trials_are_parents(outcome: Outcome) -> None:
    run = started().claim(epochs=2).epoch(1).close(1, outcome)
    assert kept(run).parent_of(CHILD_OF_TINY) is None


def test_an_open_trial_and_another_network_are_no_parents() -> None:
    assert kept(started().claim().epoch(1)).parent_of(CHILD_OF_TINY) is None
    trained = kept(train(started(), 50))
    assert trained.parent_of(Lineage(origin="evolution", parent="another")) is None
    assert trained.parent_of(Lineage(origin="initial")) is None


@pytest.fixture
def _two_of_each(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "NUM_BEST", 2)
    monkeypatch.setattr(weights, "NUM_LATEST", 2)


@pytest.mark.usefixtures("_two_of_each")
def test_weights_of_the_best_and_the_latest_are_kept() -> None:
    # The best are 2 and 4, the latest 6 and 7; the failed 5 never was one of them.
    run = train(started(), 50, 90, 60, 80)
    run.claim().epoch(5, correct=99).close(5, Outcome.FAILED)
    train(run, 10, 20)
    weights_of_run = kept(run)
    assert weights_of_run.newly_unneeded() == {1, 3, 5}
    assert weights_of_run.newly_unneeded() == frozenset()


@pytest.mark.usefixtures("_two_of_each")
def test_weights_that_an_open_trial_starts_from_are_kept_until_it_ends() -> None:
    run = train(started(), 50)
    spec = TrialSpec(
        trial=2,
        round=1,
        epochs=1,
        architecture=TINY.to_document(),
        hyper_parameters={},
        seed=1,
        parent=kept(run).parent_of(CHILD_OF_TINY),
    )
    run.claim(spec=spec)
    train(run, 60, 70, 80, 90)
    assert kept(run).newly_unneeded() == {3, 4}
    run.epoch(2, correct=10).close(2, Outcome.LOST)
    assert kept(run).newly_unneeded() == {1, 2, 3, 4}


@pytest.mark.usefixtures("_two_of_each")
def test_a_history_that_grows_is_looked_at_again() -> None:
    run = train(started(), 50, 60)
    history = RunHistory.of(run.records)
    weights_of_run = KeptWeights(Path("weights"), history)
    assert weights_of_run.newly_unneeded() == frozenset()
    num_applied = len(run.records)
    for record in train(run, 70, 40, 30).records[num_applied:]:
        history.apply(record)
    assert weights_of_run.newly_unneeded() == {1}
    assert weights_of_run.newly_unneeded() == frozenset()


def test_files_of_unneeded_trials_are_deleted_and_no_others(tmp_path: Path) -> None:
    names = ["trial-1.weights", "trial-1.weights.abc", "trial-11.weights", "trial-2.weights", "notes.txt"]
    for name in names:
        (tmp_path / name).touch()
    kept(started(), tmp_path).delete(frozenset({1, 3}))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "notes.txt",
        "trial-11.weights",
        "trial-2.weights",
    ]


def test_what_resists_deletion_keeps_no_other_file(tmp_path: Path) -> None:
    for number in range(10):
        (tmp_path / f"trial-1.folder{number}").mkdir()
        (tmp_path / f"trial-1.file{number}").touch()
    kept(started(), tmp_path).delete(frozenset({1}))
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left == [f"trial-1.folder{number}" for number in range(10)]


def test_deleting_where_nothing_is_does_no_harm(tmp_path: Path) -> None:
    kept(started(), tmp_path / "nowhere").delete(frozenset({1}))


def test_the_folder_is_made_once_and_refused_where_it_cannot_be(tmp_path: Path) -> None:
    folder = kept(started(), tmp_path / "weights")
    folder.make_folder()
    folder.make_folder()
    assert (tmp_path / "weights").is_dir()
    (tmp_path / "file").touch()
    with pytest.raises(RunFolderError, match="cannot be made"):
        kept(started(), tmp_path / "file" / "weights").make_folder()
