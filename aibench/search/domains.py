"""What can be asked of the domain of a hyper-parameter."""

from __future__ import annotations

import math
import random

from aibench.api.space import Domain, Scalar


def corner_values(domain: Domain) -> tuple[Scalar, ...]:
    """Every choice, or both ends of the interval."""
    if domain.choices is not None:
        return domain.choices
    return _ends(domain)


def member(domain: Domain, value: Scalar) -> Scalar | None:
    """The value as the domain itself has it, such as 1.0 for 1; None if it is not of the domain."""
    if domain.choices is not None:
        return next((choice for choice in domain.choices if choice == value), None)
    low, high = _ends(domain)
    return float(value) if not isinstance(value, str) and low <= value <= high else None


def uniform(domain: Domain, rng: random.Random) -> Scalar:
    """A random value, drawn evenly or by magnitude, as the domain says."""
    if domain.choices is not None:
        return rng.choice(domain.choices)
    return at_fraction(domain, rng.random())


def at_fraction(domain: Domain, fraction: float) -> float:
    """The value so far along the interval, 0..1; of a logarithmic one, of its magnitudes."""
    low, high = _ends(domain)
    if not domain.log:
        value = low + (high - low) * fraction
    else:
        value = math.exp(math.log(low) + (math.log(high) - math.log(low)) * fraction)
    return min(max(value, low), high)


def fraction_of(domain: Domain, value: float) -> float:
    """How far along the interval the value lies, 0..1; of a logarithmic one, along its magnitudes."""
    low, high = _ends(domain)
    if low == high:
        return 0.0
    if domain.log:
        return (math.log(value) - math.log(low)) / (math.log(high) - math.log(low))
    return (value - low) / (high - low)


def _ends(domain: Domain) -> tuple[float, float]:
    assert domain.low is not None
    assert domain.high is not None
    return domain.low, domain.high
