"""The domain of one hyper-parameter, as configurations write it and samplers read it."""

from __future__ import annotations

import math

import msgspec

Scalar = int | float | str


class Domain(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """Either ``choices``, or an interval from ``low`` to ``high``, logarithmic on request.

    Raises:
        ValueError: Both or neither are given, a number or the interval's width is not finite, or the bounds
            are upside down or not positive under ``log``.
    """

    low: float | None = None
    high: float | None = None
    log: bool = False
    choices: tuple[Scalar, ...] | None = None

    def __post_init__(self) -> None:
        if self.choices is not None:
            if any(isinstance(choice, float) and not math.isfinite(choice) for choice in self.choices):
                raise ValueError("choices must be finite numbers or text")
            if self.low is not None or self.high is not None or self.log:
                raise ValueError("give either choices or low and high, not both")
            if not self.choices:
                raise ValueError("choices is empty, expected at least one value")
        elif self.low is None or self.high is None:
            raise ValueError("give either choices or both low and high")
        elif not (math.isfinite(self.low) and math.isfinite(self.high)):
            raise ValueError(f"low {self.low:g} and high {self.high:g} must be finite numbers")
        elif self.low > self.high:
            raise ValueError(f"low {self.low:g} is above high {self.high:g}")
        elif not math.isfinite(self.high - self.low):
            raise ValueError(f"low {self.low:g} and high {self.high:g} are too far apart to count between")
        elif self.log and self.low <= 0:
            raise ValueError(f"low {self.low:g} must be above 0 with log: true")
