"""What makes data sets differ, and what trainings on some of them taught."""

from __future__ import annotations

from typing import Annotated

import msgspec

from aibench.api.space import Scalar

Error = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]


class NetworkFeatures(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Features of an initial network.

    Attributes:
        absent: The package that it takes to measure them, if it is not installed; there are no features then.
    """

    features: dict[str, float]
    absent: str | None = None


class Experience(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One data set.

    Attributes:
        features: What distinguishes the data set, as `aibench.api.workload.Workload` measures it.
        errors: Best validation error of each point of the table; None where the training failed.
    """

    name: str
    features: dict[str, float]
    errors: tuple[Error | None, ...]


class ExperienceTable(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The same hyper-parameter points, tried on every recorded data set.

    Attributes:
        origin: How it was recorded: versions, networks, epochs.
        points: Hyper-parameters that were tried, in the order of the errors.

    Raises:
        ValueError: A data set has not one error per point, or nothing is recorded.
    """

    origin: dict[str, str]
    points: tuple[dict[str, Scalar], ...]
    experiences: tuple[Experience, ...]

    def __post_init__(self) -> None:
        if not self.points or not self.experiences:
            raise ValueError("no experience is recorded")
        for experience in self.experiences:
            if len(experience.errors) != len(self.points):
                raise ValueError(
                    f"{experience.name} has {len(experience.errors)} errors, expected {len(self.points)}"
                )
