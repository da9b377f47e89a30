import msgspec
import pytest
from support.runs import RunBuilder

from aibench.api.events import Lineage, Outcome
from aibench.score.history import RunHistory
from aibench.score.lineage import Network, TreeReport, build_tree, leading
from aibench.score.pedigree import change_words, family, morph_words, pedigree
from aibench.score.score import compute_score


def make_network(trial: int, *, parent: int | None = None, error: float | None = 0.5) -> Network:
    return Network(
        architecture_hash=f"hash-{trial}",
        trials=(trial,),
        error=error,
        is_completed=True,
        origin="evolution" if parent else "initial",
        parent=f"hash-{parent}" if parent else None,
        untrained_parent=None,
        morphs=("widen@3:x2",) if parent else (),
        generation=0,
        is_on_best_line=False,
        claimed_s=float(trial),
        parameters=10,
        train_ops=100,
        ops_ratio=1.0,
    )


def small_run() -> RunBuilder:
    """a ─► b ─► d, a ─► c (failed), a stranger e, and b once more; the best is d with 10 % error."""
    builder = RunBuilder().start().join().join("w1").barrier()
    child = Lineage(origin="evolution", parent="a", morphs=("widen@3:x2",))
    builder.claim(t_s=10.0, architecture_hash="a", train_ops=100).epoch(1, correct=60, t_s=20.0).close(1)
    builder.claim(t_s=20.0, architecture_hash="b", train_ops=150, lineage=child)
    builder.epoch(2, correct=70, t_s=30.0).close(2)
    builder.claim(t_s=30.0, architecture_hash="c", lineage=child).epoch(3, correct=99).close(
        3, Outcome.FAILED
    )
    deeper = Lineage(origin="worker", parent="b", morphs=("deepen@5:block", "kernel@7:5"))
    builder.claim(t_s=40.0, architecture_hash="d", train_ops=200, lineage=deeper, epochs=2)
    stranger = Lineage(origin="worker", parent="f" * 64, morphs=("skip@4-9",))
    builder.claim("w1", t_s=40.0, architecture_hash="e", train_ops=80, lineage=stranger)
    builder.epoch(4, correct=90, t_s=50.0).epoch(5, correct=50, t_s=55.0).close(5)
    builder.claim("w1", t_s=60.0, architecture_hash="b", train_ops=150).epoch(6, correct=80, t_s=70.0)
    return builder.close(6).close(4, Outcome.INTERRUPTED)


def tree_of(builder: RunBuilder) -> TreeReport:
    history = RunHistory.of(builder.records)
    score = compute_score(history)
    return build_tree(history, score.best_trial if score else None)


def test_trials_of_one_network_share_a_node() -> None:
    assert tree_of(small_run()).networks[1] == Network(
        architecture_hash="b",
        trials=(2, 6),
        error=0.2,
        is_completed=True,
        origin="evolution",
        parent="a",
        untrained_parent=None,
        morphs=("widen@3:x2",),
        generation=1,
        is_on_best_line=True,
        claimed_s=10.0,
        parameters=10,
        train_ops=150,
        ops_ratio=1.5,
    )


def test_the_tree_says_who_came_from_whom() -> None:
    tree = tree_of(small_run())
    assert (tree.num_networks, tree.max_generation) == (5, 2)
    assert [(n.architecture_hash, n.parent, n.generation) for n in tree.networks] == [
        ("a", None, 0),
        ("b", "a", 1),
        ("c", "a", 1),
        ("d", "b", 2),
        ("e", None, 0),
    ]
    assert [n.architecture_hash for n in tree.best_line] == ["a", "b", "d"]


def test_a_failed_network_has_no_error_and_a_cut_one_is_not_completed() -> None:
    _, _, failed, cut, _ = tree_of(small_run()).networks
    assert (failed.error, failed.is_completed) == (None, False)
    assert (cut.error, cut.is_completed) == (0.1, False)


def test_a_parent_that_no_trial_trained_makes_a_root_with_a_note() -> None:
    stranger = tree_of(small_run()).networks[4]
    assert (stranger.parent, stranger.untrained_parent) == (None, "f" * 64)
    assert change_words(stranger) == "from ffffffff, which no earlier trial trained: skip from node 4 to 9"


def test_networks_that_name_each_other_as_parents_make_no_circle() -> None:
    builder = RunBuilder().start().join().barrier()
    for digest, parent in (("a", "b"), ("b", "a"), ("c", "c")):
        builder.claim(architecture_hash=digest, lineage=Lineage(origin="evolution", parent=parent))
    assert [(n.parent, n.untrained_parent) for n in tree_of(builder).networks] == [
        (None, "b"),
        ("a", None),
        (None, "c"),
    ]


def test_a_run_without_trials_has_an_empty_tree() -> None:
    assert tree_of(RunBuilder().start()) == TreeReport(num_networks=0, max_generation=0, networks=())
    assert tree_of(RunBuilder().start().join().barrier().claim()).best_line == ()


def test_a_long_run_lists_the_best_networks_with_their_ancestors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aibench.score.lineage.MAX_NETWORKS", 4)
    tree = tree_of(small_run())
    assert [n.architecture_hash for n in tree.networks] == ["a", "b", "d", "e"]
    assert tree.num_networks == 5


def test_a_good_network_is_left_out_where_its_ancestors_do_not_fit() -> None:
    networks = [
        make_network(1, error=0.9),
        make_network(2, parent=1, error=0.8),
        make_network(3, parent=2, error=0.1),
        make_network(4, error=0.2),
        make_network(5, error=None),
    ]
    assert [n.first_trial for n in leading(networks, 2)] == [1, 4]
    assert [n.first_trial for n in leading(networks, 3)] == [1, 2, 3]
    assert [n.first_trial for n in leading(networks, 4)] == [1, 2, 3, 4]
    assert len(leading(networks, 5)) == 5


def test_a_line_of_the_best_longer_than_the_limit_is_kept_whole() -> None:
    line = [msgspec.structs.replace(make_network(n, parent=n - 1), is_on_best_line=True) for n in (2, 3, 4)]
    networks = [msgspec.structs.replace(make_network(1), is_on_best_line=True), *line, make_network(5)]
    assert [n.first_trial for n in leading(networks, 2)] == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("morph", "words"),
    [
        ("deepen@5:block", "deepened by a residual block at node 5"),
        ("deepen@12:conv", "deepened by a convolution at node 12"),
        ("widen@3:x2", "widened ×2 at node 3"),
        ("skip@4-9", "skip from node 4 to 9"),
        ("skip@4-9:add", "skip by addition from node 4 to 9"),
        ("skip@4-9:concat", "skip by concatenation from node 4 to 9"),
        ("kernel@7:5", "kernel enlarged to 5×5 at node 7"),
        ("skip@4-9:multiply", "skip@4-9:multiply"),
        ("widen@٣:x2", "widen@٣:x2"),
        ("widen@3:x2\n", "widen@3:x2\n"),
        ("", ""),
    ],
)
def test_morphs_are_said_in_words(morph: str, words: str) -> None:
    assert morph_words(morph) == words


def test_the_pedigree_leads_from_the_root_to_the_best() -> None:
    steps = pedigree(tree_of(small_run()))
    assert [(step.network.first_trial, step.change) for step in steps] == [
        (1, "the initial network"),
        (2, "widened ×2 at node 3"),
        (4, "deepened by a residual block at node 5, kernel enlarged to 5×5 at node 7"),
    ]
    assert [step.error_change for step in steps] == [None, pytest.approx(-0.2), pytest.approx(-0.1)]


def test_a_root_without_a_parent_says_where_it_comes_from() -> None:
    proposal = msgspec.structs.replace(make_network(1), origin="worker", morphs=("widen@3:x2",))
    assert change_words(proposal) == "a network of origin worker: widened ×2 at node 3"


def test_the_family_is_told_depth_first() -> None:
    networks = [
        make_network(1, error=0.4),
        make_network(2, parent=1, error=None),
        make_network(3, parent=1, error=0.3),
        make_network(4, parent=2, error=0.2),
        make_network(5),
        make_network(6, parent=1),
    ]
    steps = family(networks)
    assert [step.network.first_trial for step in steps] == [1, 2, 4, 3, 6, 5]
    assert [step.error_change for step in steps[:4]] == [None, None, None, pytest.approx(-0.1)]


def test_a_lineage_of_thousands_of_generations_is_told() -> None:
    networks = [make_network(1), *(make_network(n, parent=n - 1) for n in range(2, 5001))]
    assert [step.network.first_trial for step in family(networks)] == list(range(1, 5001))
    assert len(leading(networks, 300)) == 300
