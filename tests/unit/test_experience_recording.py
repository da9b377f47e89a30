from __future__ import annotations

from importlib import resources
from pathlib import Path

import msgspec
import pytest

from aibench.api.features import ExperienceTable
from aibench.api.workload import HyperParameters
from workloads.image_classification.data.generated import generated
from workloads.image_classification.experience import TABLE, load_experience, recording
from workloads.image_classification.experience.collection import RecordedData, recorded_data
from workloads.image_classification.experience.recording import NUM_POINTS, draw_points, record

MAX_TABLE_BYTES = 300_000


def tiny(name: str, *, seed: int) -> RecordedData:
    return RecordedData(
        name=name,
        width=2,
        open=lambda: generated(
            image_size=8, train_images=64, validation_images=20, num_classes=2, hardness=0.0, seed=seed
        ),
    )


@pytest.fixture
def _two_tiny_data_sets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "recorded_data", lambda: (tiny("first", seed=1), tiny("second", seed=2)))
    monkeypatch.setattr(recording, "NUM_POINTS", 2)
    monkeypatch.setattr(recording, "EPOCHS", 1)


@pytest.mark.usefixtures("_two_tiny_data_sets")
def test_every_point_is_trained_on_every_data_set(tmp_path: Path) -> None:
    table = record(tmp_path / "table.json", keep_errors=False)
    assert [experience.name for experience in table.experiences] == ["first", "second"]
    assert table.points == draw_points(2)
    assert table.origin["epochs"] == "1"
    for experience in table.experiences:
        assert len(experience.errors) == 2
        assert experience.features["log_train_images"] == pytest.approx(4.1589)
    written = (tmp_path / "table.json").read_bytes()
    assert msgspec.json.decode(written, type=ExperienceTable) == table


@pytest.mark.usefixtures("_two_tiny_data_sets")
def test_kept_errors_are_not_trained_again_and_features_are_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "table.json"
    first = record(file, keep_errors=False)
    monkeypatch.setattr(recording, "train_points", None)
    monkeypatch.setattr(recording, "size_features", lambda _: {"new": 1.0})
    again = record(file, keep_errors=True)
    assert [experience.errors for experience in again.experiences] == [
        experience.errors for experience in first.experiences
    ]
    assert again.experiences[0].features["new"] == 1.0


def test_a_training_that_diverges_has_no_error() -> None:
    point: HyperParameters = {"learning_rate": 1e30, "batch_size": 32, "kernel_size": 3, "dropout": 0.0}
    assert recording.train_points(tiny("first", seed=1), (point,)) == (None,)


def test_the_table_that_comes_with_the_package_is_what_would_be_recorded() -> None:
    table = load_experience()
    assert [experience.name for experience in table.experiences] == [data.name for data in recorded_data()]
    assert table.points == draw_points(NUM_POINTS)
    few = recorded_data()[1]
    assert recording._features(few) == pytest.approx(table.experiences[1].features, rel=0.01, abs=0.01)
    file = resources.files("workloads.image_classification.experience") / TABLE
    assert len(file.read_bytes()) < MAX_TABLE_BYTES


def test_the_points_are_the_same_everywhere() -> None:
    first = {"learning_rate": 0.0413, "batch_size": 32, "kernel_size": 3, "dropout": 0.0001}
    assert draw_points(1) == (first,)
    assert draw_points(8)[:3] == draw_points(3)


def test_every_data_set_of_the_collection_is_what_its_name_says() -> None:
    sizes = {}
    for data in recorded_data():
        facts = data.open().facts
        assert data.initial_architecture(data.open()).output_shape.channels == facts.num_classes
        sizes[data.name] = (facts.train_images, facts.num_classes, facts.input_shape.height)
    assert sizes["digits"] == (1437, 10, 8)
    assert sizes["digits-few"] == (400, 10, 8)
    assert sizes["digits-0-to-4"] == (500, 5, 8)
    assert sizes["digits-enlarged"] == (400, 10, 16)
    assert sizes["digits-unbalanced"] == (470, 10, 8)
    assert sizes["generated-12px-400-images-4-classes-hardness-0.2"] == (400, 4, 12)
    assert len(sizes) == 16
