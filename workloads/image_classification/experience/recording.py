"""Records the experience that comes with the package: trains every point on every data set of the collection.

``python -m workloads.image_classification.experience.recording FILE`` takes twenty minutes on one core. With
``--keep-errors`` the trainings of an existing file stay, and only the features are measured again.
"""

from __future__ import annotations

import argparse
import logging
import platform
from pathlib import Path

import msgspec
import numpy as np
import torch

from aibench import __version__
from aibench.api.features import Experience, ExperienceTable
from aibench.api.space import Domain, Scalar
from aibench.api.workload import Gang, HyperParameters, Progress, TrialSpec
from aibench.errors import TrialError
from workloads.image_classification.collectives import Collectives
from workloads.image_classification.data import ImageSource
from workloads.image_classification.data.preprocessing import DevicePreprocessing
from workloads.image_classification.experience.collection import INITIAL, RecordedData, recorded_data
from workloads.image_classification.features import data_features, size_features
from workloads.image_classification.hyperparameters import search_space
from workloads.image_classification.network_features import network_features
from workloads.image_classification.options import ImageClassificationOptions
from workloads.image_classification.specialise import specialise
from workloads.image_classification.trial import RankContext, TrialRun

logger = logging.getLogger(__name__)

NUM_POINTS = 64
EPOCHS = 5
_SEED = 1
_DECIMALS = 4
_GANG = Gang(rank=0, num_ranks=1, device="cpu")


def draw_points(count: int) -> tuple[HyperParameters, ...]:
    """The points that every data set is trained with: uniform over the default space of small data sets."""
    random = np.random.RandomState(_SEED)
    space = search_space(is_large=False)
    return tuple([{name: _draw(random, domain) for name, domain in space.items()} for _ in range(count)])


def _draw(random: np.random.RandomState, domain: Domain) -> Scalar:
    if domain.choices is not None:
        return domain.choices[random.randint(len(domain.choices))]
    assert domain.low is not None
    assert domain.high is not None
    share = random.uniform()
    if domain.log:
        return round(float(domain.low * (domain.high / domain.low) ** share), _DECIMALS)
    return round(float(domain.low + (domain.high - domain.low) * share), _DECIMALS)


def train_points(data: RecordedData, points: tuple[HyperParameters, ...]) -> tuple[float | None, ...]:
    """Best validation error of every point on one data set; None where the training failed."""
    source = data.open()
    context = _context(data, source)
    return tuple([_error(context, data, source, point) for point in points])


def _context(data: RecordedData, source: ImageSource) -> RankContext:
    device = torch.device(_GANG.device)
    return RankContext(
        options=ImageClassificationOptions(data="digits", initial=INITIAL, width=data.width),
        gang=_GANG,
        device=device,
        source=source,
        preprocessing=DevicePreprocessing(source.facts.preprocessing, device),
        collectives=Collectives(_GANG),
        weights_dir=None,
    )


def _error(
    context: RankContext, data: RecordedData, source: ImageSource, point: HyperParameters
) -> float | None:
    architecture = specialise(data.initial_architecture(source), point)
    spec = TrialSpec(
        trial=1,
        round=1,
        epochs=EPOCHS,
        architecture=architecture.to_document(),
        hyper_parameters=point,
        seed=_SEED,
    )
    try:
        results = list(TrialRun(context, spec, Progress()).epochs())
    except TrialError:
        return None
    correct = max(result.validation_correct for result in results)
    return round(1 - correct / source.facts.validation_images, _DECIMALS)


def record(file: Path, *, keep_errors: bool) -> ExperienceTable:
    """Train and measure everything, and write the table.

    Args:
        file: Written anew.
        keep_errors: Take the errors of the table that is there already.
    """
    before = msgspec.json.decode(file.read_bytes(), type=ExperienceTable) if keep_errors else None
    points = before.points if before else draw_points(NUM_POINTS)
    known = {experience.name: experience.errors for experience in before.experiences} if before else {}
    experiences = []
    for data in recorded_data():
        errors = known[data.name] if data.name in known else train_points(data, points)
        experiences.append(Experience(name=data.name, features=_features(data), errors=errors))
        logger.info("%s: recorded", data.name)
    table = ExperienceTable(origin=_origin(), points=points, experiences=tuple(experiences))
    file.write_bytes(msgspec.json.format(msgspec.json.encode(table), indent=0) + b"\n")
    return table


def _features(data: RecordedData) -> dict[str, float]:
    source = data.open()
    architecture = data.initial_architecture(source)
    measured = {
        **data_features(source),
        **size_features(architecture),
        **network_features(source, architecture),
    }
    return {name: round(value, _DECIMALS) for name, value in measured.items()}


def _origin() -> dict[str, str]:
    widths = sorted({data.width for data in recorded_data()})
    return {
        "aibench": __version__,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "machine": platform.machine(),
        "network": f"{INITIAL}, width {' or '.join(map(str, widths))}",
        "epochs": str(EPOCHS),
        "seed": str(_SEED),
    }


def main() -> None:
    """Record to the file that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--keep-errors", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    record(arguments.file, keep_errors=arguments.keep_errors)


if __name__ == "__main__":
    main()
