from __future__ import annotations

import pytest

from aibench.api.space import Domain
from aibench.api.workload import HyperParameters
from aibench.architecture import Architecture, Conv, Dense, Dropout, GlobalAvgPool, Input
from aibench.architecture.morphs import ALL_KINDS, Deepen, Skip, Widen, apply
from aibench.errors import ArchitectureError
from aibench.search.neutral import lasting_kinds, neutral_values

IMAGE = Input(channels=3, height=16, width=16)
RATE = Domain(low=0.01, high=1.0, log=True)


def network(*, kernel: int = 3, dropout: float = 0.0) -> Architecture:
    conv = Conv(inputs=(0,), channels=4, kernel=kernel, padding=kernel // 2)
    pool = GlobalAvgPool(inputs=(1,))
    if not dropout:
        return Architecture((IMAGE, conv, pool, Dense(inputs=(2,), features=10)))
    drop = Dropout(inputs=(2,), rate=dropout)
    return Architecture((IMAGE, conv, pool, drop, Dense(inputs=(3,), features=10)))


def specialise(architecture: Architecture, hyper_parameters: HyperParameters) -> Architecture:
    conv = architecture.nodes[1]
    assert isinstance(conv, Conv)
    kernel = hyper_parameters.get("kernel", conv.kernel)
    assert isinstance(kernel, int)
    if kernel % 2 == 0:
        raise ArchitectureError(f"kernel {kernel}: expected an odd number")
    drops = [node.rate for node in architecture.nodes if isinstance(node, Dropout)]
    dropout = float(hyper_parameters.get("dropout", max(drops, default=0.0)))
    return network(kernel=kernel, dropout=dropout)


@pytest.mark.parametrize(
    ("space", "neutral"),
    [
        ({"learning_rate": RATE, "batch_size": Domain(choices=(32, 64))}, {}),
        ({"kernel": Domain(choices=(5, 3, 7))}, {"kernel": 3}),
        ({"dropout": Domain(low=0.0, high=0.5)}, {"dropout": 0.0}),
        (
            {"kernel": Domain(choices=(1, 3)), "rate": RATE, "dropout": Domain(choices=(0.5, 0.0))},
            {"kernel": 3, "dropout": 0.0},
        ),
        ({"kernel": Domain(choices=(3,))}, {}),
    ],
)
def test_neutral_values_leave_the_initial_network_as_it_is(
    space: dict[str, Domain], neutral: HyperParameters
) -> None:
    assert neutral_values(network(), space, specialise) == neutral
    assert specialise(network(kernel=3), neutral) == network()


def test_a_kind_of_morph_that_a_hyper_parameter_undoes_is_left_out() -> None:
    wide = apply(network(), Widen(1))
    assert lasting_kinds(network(), lambda child: child) == ALL_KINDS
    # No kernel lasts; and where nothing can be deepened or skipped to, nothing is undone.
    kinds = lasting_kinds(network(), lambda child: wide if child == wide else network())
    assert kinds == (Deepen, Widen, Skip)


def test_without_such_a_value_the_cheapest_network_is_taken() -> None:
    assert neutral_values(network(), {"kernel": Domain(choices=(7, 5, 9))}, specialise) == {"kernel": 5}


def test_a_value_that_fits_no_network_is_an_error() -> None:
    with pytest.raises(ArchitectureError, match="kernel 4: expected an odd number"):
        neutral_values(network(), {"kernel": Domain(choices=(3, 4))}, specialise)
