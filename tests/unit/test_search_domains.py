from __future__ import annotations

import random

import pytest

from aibench.api.space import Domain, Scalar
from aibench.search.base import is_usable_error
from aibench.search.domains import at_fraction, corner_values, fraction_of, member, uniform

RATE = Domain(low=0.01, high=1.0, log=True)
SHARE = Domain(low=-1.0, high=3.0)


@pytest.mark.parametrize(
    ("domain", "value", "expected"),
    [
        (RATE, 1, 1.0),
        (RATE, 0.01, 0.01),
        (RATE, 0.009, None),
        (RATE, 1.01, None),
        (RATE, "0.1", None),
        (RATE, float("nan"), None),
        (Domain(choices=(32, 64)), 64.0, 64),
        (Domain(choices=(32, 64)), 65, None),
        (Domain(choices=("sgd", 3)), "sgd", "sgd"),
        (Domain(choices=("sgd", 3)), "3", None),
    ],
)
def test_members_are_given_as_the_domain_has_them(domain: Domain, value: Scalar, expected: Scalar) -> None:
    found = member(domain, value)
    assert (found, type(found)) == (expected, type(expected))


def test_corners_are_choices_or_ends() -> None:
    assert corner_values(Domain(choices=(5, "a"))) == (5, "a")
    assert corner_values(RATE) == (0.01, 1.0)


@pytest.mark.parametrize(
    ("domain", "fraction", "value"),
    [
        (RATE, 0.0, 0.01),
        (RATE, 0.5, 0.1),
        (RATE, 1.0, 1.0),
        (SHARE, 0.25, 0.0),
        (SHARE, 1.0, 3.0),
        (Domain(low=1e-300, high=1e300, log=True), 0.5, 1.0),
    ],
)
def test_fractions_lead_to_values_and_back(domain: Domain, fraction: float, value: float) -> None:
    assert at_fraction(domain, fraction) == pytest.approx(value)
    assert fraction_of(domain, value) == pytest.approx(fraction)


def test_an_interval_of_one_value_has_no_length() -> None:
    assert fraction_of(Domain(low=2.0, high=2.0), 2.0) == 0.0


def test_uniform_values_fill_the_domain() -> None:
    rng = random.Random(1)
    rates = [uniform(RATE, rng) for _ in range(200)]
    assert all(isinstance(rate, float) and 0.01 <= rate <= 1.0 for rate in rates)
    assert sum(isinstance(rate, float) and rate < 0.1 for rate in rates) in range(80, 121)
    assert {uniform(Domain(choices=(1, "a")), rng) for _ in range(20)} == {1, "a"}


@pytest.mark.parametrize(
    ("error", "is_usable"),
    [(0.0, True), (1.0, True), (-0.001, False), (1.001, False), (float("nan"), False), (float("inf"), False)],
)
def test_only_finite_errors_from_zero_to_one_are_usable(error: float, is_usable: bool) -> None:
    assert is_usable_error(error) is is_usable
