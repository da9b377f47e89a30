from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from aibench.errors import DataError
from workloads.image_classification import ImageClassificationOptions
from workloads.image_classification.data import ImageSource, IndexArray, Preprocessing, open_source
from workloads.image_classification.data.decoding import centre_crop, random_box, random_crop
from workloads.image_classification.data.preprocessing import DevicePreprocessing
from workloads.image_classification.data.sharding import train_plan, validation_plan

RECORD_BYTES = 3073
TRAIN_FILES = [f"data_batch_{number}.bin" for number in range(1, 6)]


def indices(*values: int) -> IndexArray:
    return np.array(values, dtype=np.int64)


def open_digits() -> ImageSource:
    return open_source(ImageClassificationOptions(data="digits", initial="resnet18"))


def open_synthetic(**sizes: int) -> ImageSource:
    options = ImageClassificationOptions(
        data="synthetic",
        initial="resnet18",
        **{  # type: ignore[arg-type]
            "image_size": 10,
            "synthetic_train_images": 40,
            "synthetic_validation_images": 20,
            "synthetic_classes": 3,
            **sizes,
        },
    )
    return open_source(options)


def open_cifar10(folder: Path) -> ImageSource:
    return open_source(ImageClassificationOptions(data="cifar10", data_dir=str(folder), initial="resnet18"))


def open_folder(folder: Path, *, loader_processes: int = 0) -> ImageSource:
    options = ImageClassificationOptions(
        data="image_folder",
        data_dir=str(folder),
        image_size=16,
        initial="resnet18",
        loader_processes=loader_processes,
    )
    return open_source(options)


def write_cifar10(folder: Path, *, records: int = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate([*TRAIN_FILES, "test_batch.bin"]):
        data = np.full((records, RECORD_BYTES), number, dtype=np.uint8)
        data[:, 0] = np.arange(records)
        data[:, 1 : 1 + 1024] = 200  # red
        (folder / name).write_bytes(data.tobytes())


def write_image(path: Path, *, width: int = 40, height: int = 30, colour: tuple[int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, count in (("train", 3), ("val", 2)):
        for number in range(count):
            write_image(tmp_path / split / "cat" / f"{number}.JPEG", colour=(200, 0, 0))
            write_image(tmp_path / split / "ant" / f"{number}.png", colour=(0, 0, 200))
    return tmp_path


class TestDigits:
    def test_sizes_are_those_of_scikit_learn(self) -> None:
        description = open_digits().describe()
        assert description.train_images == 1437
        assert description.validation_images == 360
        assert description.input_shape == (1, 8, 8)
        assert description.num_classes == 10
        assert not description.is_synthetic
        assert description.fingerprint == "f53d81aa168319a6cc57559d91cac6141dfcd678e40fe502c90ca37d38447c87"

    def test_both_parts_hold_every_class_and_the_full_range(self) -> None:
        source = open_digits()
        (train,) = source.train_batches([np.arange(1437)], seed=0)
        (validation,) = source.validation_batches([np.arange(360)])
        assert np.bincount(train.labels).tolist() == [147, 147, 138, 150, 137, 153, 141, 139, 146, 139]
        assert np.bincount(validation.labels).tolist() == [31, 35, 39, 33, 44, 29, 40, 40, 28, 41]
        assert train.images.dtype == np.uint8
        assert (train.images.min(), train.images.max()) == (0, 16)

    def test_normalised_training_images_have_mean_zero_and_deviation_one(self) -> None:
        source = open_digits()
        (train,) = source.train_batches([np.arange(1437)], seed=0)
        preprocessing = DevicePreprocessing(source.facts.preprocessing, torch.device("cpu"))
        images = preprocessing.normalise(torch.from_numpy(train.images))
        assert images.mean().item() == pytest.approx(0.0, abs=1e-3)
        assert images.std().item() == pytest.approx(1.0, abs=1e-3)


class TestSynthetic:
    def test_sizes_are_those_asked_for(self) -> None:
        source = open_synthetic()
        description = source.describe()
        assert (description.train_images, description.validation_images) == (40, 20)
        assert (description.input_shape, description.num_classes) == ((3, 10, 10), 3)
        assert description.is_synthetic

    def test_the_same_sizes_give_the_same_images_and_others_give_others(self) -> None:
        first = open_synthetic().describe().fingerprint
        assert open_synthetic().describe().fingerprint == first
        assert open_synthetic(synthetic_train_images=41).describe().fingerprint != first

    def test_images_are_nearer_to_their_own_class_than_to_others(self) -> None:
        source = open_synthetic(synthetic_train_images=300)
        (train,) = source.train_batches([np.arange(300)], seed=0)
        (validation,) = source.validation_batches([np.arange(20)])
        means = np.stack([train.images[train.labels == label].mean(axis=0) for label in range(3)])
        distances = ((validation.images[:, None] - means) ** 2).sum(axis=(2, 3, 4))
        assert (distances.argmin(axis=1) == validation.labels).all()

    def test_normalised_images_have_mean_zero_and_deviation_one(self) -> None:
        source = open_synthetic(synthetic_train_images=500, synthetic_classes=500)
        (train,) = source.train_batches([np.arange(500)], seed=0)
        preprocessing = DevicePreprocessing(source.facts.preprocessing, torch.device("cpu"))
        images = preprocessing.normalise(torch.from_numpy(train.images))
        assert images.mean().item() == pytest.approx(0.0, abs=0.02)
        assert images.std().item() == pytest.approx(1.0, abs=0.02)


class TestCifar10:
    @pytest.mark.parametrize("inside", [".", "cifar-10-batches-bin"])
    def test_binary_files_are_read_as_they_are(self, tmp_path: Path, inside: str) -> None:
        write_cifar10(tmp_path / inside)
        source = open_cifar10(tmp_path)
        description = source.describe()
        assert (description.train_images, description.validation_images) == (15, 3)
        assert (description.input_shape, description.num_classes) == ((3, 32, 32), 10)
        (batch,) = source.train_batches([indices(4, 0)], seed=0)
        assert batch.labels.tolist() == [1, 0]
        assert batch.images.shape == (2, 3, 32, 32)
        # Red, green and blue of the second record of the second file.
        assert [set(batch.images[0, channel].flat) for channel in range(3)] == [{200}, {1}, {1}]

    def test_training_images_are_cropped_and_flipped(self, tmp_path: Path) -> None:
        write_cifar10(tmp_path)
        assert open_cifar10(tmp_path).facts.preprocessing.crop_padding == 4

    def test_the_fingerprint_follows_the_data(self, tmp_path: Path) -> None:
        write_cifar10(tmp_path)
        first = open_cifar10(tmp_path).fingerprint()
        assert open_cifar10(tmp_path).fingerprint() == first
        path = tmp_path / "test_batch.bin"
        path.write_bytes(path.read_bytes()[:-1] + b"\x77")
        assert open_cifar10(tmp_path).fingerprint() != first

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        write_cifar10(tmp_path)
        (tmp_path / "data_batch_3.bin").unlink()
        with pytest.raises(DataError, match=r"data_batch_3\.bin is missing, expected the binary version"):
            open_cifar10(tmp_path)

    def test_a_missing_folder_is_an_error_of_the_data(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"nowhere: data_batch_1\.bin is missing"):
            open_cifar10(tmp_path / "nowhere")

    @pytest.mark.parametrize("pickle", ["data_batch_1", "cifar-10-batches-py/data_batch_1"])
    def test_pickles_are_pointed_out_and_not_read(self, tmp_path: Path, pickle: str) -> None:
        (tmp_path / pickle).parent.mkdir(exist_ok=True)
        (tmp_path / pickle).write_bytes(b"not a pickle at all")
        with pytest.raises(DataError, match=r"binary version of CIFAR-10; the Python version .* not read"):
            open_cifar10(tmp_path)

    @pytest.mark.parametrize("size_bytes", [0, RECORD_BYTES - 1, RECORD_BYTES + 1])
    def test_a_file_of_the_wrong_size_is_refused(self, tmp_path: Path, size_bytes: int) -> None:
        write_cifar10(tmp_path)
        (tmp_path / "test_batch.bin").write_bytes(bytes(size_bytes))
        with pytest.raises(DataError, match=f"{size_bytes} bytes, expected a multiple of 3073"):
            open_cifar10(tmp_path)

    def test_a_label_out_of_range_is_refused(self, tmp_path: Path) -> None:
        write_cifar10(tmp_path, records=11)
        with pytest.raises(DataError, match=r"data_batch_1\.bin: label 10, expected 0 to 9"):
            open_cifar10(tmp_path)


class TestImageFolder:
    def test_classes_are_sorted_by_name_and_sizes_counted(self, folder: Path) -> None:
        source = open_folder(folder)
        description = source.describe()
        assert (description.train_images, description.validation_images) == (6, 4)
        assert (description.input_shape, description.num_classes) == ((3, 16, 16), 2)
        (batch,) = source.validation_batches([indices(0, 3)])
        assert batch.labels.tolist() == [0, 1]
        # "ant" is blue, "cat" is red; JPEG changes a colour a little.
        assert batch.images.shape == (2, 3, 16, 16)
        assert batch.images.mean(axis=(2, 3)).round(-1).tolist() == [[0, 0, 200], [200, 0, 0]]

    def test_other_files_and_hidden_folders_do_not_count(self, folder: Path) -> None:
        (folder / "train" / "notes.txt").write_text("")
        (folder / "train" / "cat" / "notes.txt").write_text("")
        (folder / "train" / "cat" / "._0.JPEG").write_text("")
        (folder / "train" / ".cache").mkdir()
        assert open_folder(folder).facts.train_images == 6

    def test_training_images_depend_on_seed_and_index_alone(self, folder: Path) -> None:
        noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / "train" / "ant" / "0.png")
        source = open_folder(folder)

        def first_image(plan: list[IndexArray], seed: int) -> list[int]:
            return [int(value) for value in next(source.train_batches(plan, seed=seed)).images[0].flat]

        assert first_image([indices(0, 1)], 5) == first_image([indices(0)], 5)
        assert first_image([indices(0)], 5) != first_image([indices(0)], 6)
        Image.fromarray(noise).save(folder / "train" / "ant" / "1.png")
        assert first_image([indices(0)], 5) != first_image([indices(1)], 5)

    @pytest.mark.filterwarnings("ignore:.*use of fork.*:DeprecationWarning")
    def test_loader_processes_decode_the_same(self, folder: Path) -> None:
        plan = [indices(0, 4), indices(5, 1)]
        here = list(open_folder(folder).train_batches(plan, seed=1))
        there = list(open_folder(folder, loader_processes=1).train_batches(plan, seed=1))
        assert len(there) == 2
        for mine, other in zip(here, there, strict=True):
            assert mine.images.tobytes() == other.images.tobytes()
            assert mine.labels.tolist() == other.labels.tolist()

    def test_the_fingerprint_follows_names_and_sizes(self, folder: Path) -> None:
        first = open_folder(folder).fingerprint()
        assert open_folder(folder).fingerprint() == first
        (folder / "val" / "cat" / "0.JPEG").rename(folder / "val" / "cat" / "9.JPEG")
        renamed = open_folder(folder).fingerprint()
        write_image(folder / "val" / "cat" / "9.JPEG", width=41, colour=(1, 2, 3))
        assert len({first, renamed, open_folder(folder).fingerprint()}) == 3

    def test_grey_images_get_three_channels(self, folder: Path) -> None:
        Image.new("L", (20, 20), 77).save(folder / "val" / "ant" / "0.png")
        (batch,) = open_folder(folder).validation_batches([indices(0)])
        assert set(batch.images.flat) == {77}

    @pytest.mark.parametrize("split", ["train", "val"])
    def test_a_missing_folder_is_named(self, folder: Path, split: str) -> None:
        (folder / split).rename(folder / "elsewhere")
        with pytest.raises(DataError, match=f"/{split}: no such folder, expected train/<class>/"):
            open_folder(folder)

    def test_a_folder_without_classes_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "train").mkdir()
        (tmp_path / "train" / "0.png").write_text("")
        with pytest.raises(DataError, match="/train: holds no folders, expected one per class"):
            open_folder(tmp_path)

    def test_a_class_without_images_is_refused(self, folder: Path) -> None:
        (folder / "train" / "bee").mkdir()
        with pytest.raises(DataError, match=r"/train/bee: holds no images, expected files ending in \.bmp"):
            open_folder(folder)

    @pytest.mark.parametrize(("split", "number"), [("train", 1), ("val", 1)])
    def test_classes_must_be_the_same_in_both_parts(self, folder: Path, split: str, number: int) -> None:
        write_image(folder / split / "bee" / "0.png", colour=(0, 0, 0))
        with pytest.raises(
            DataError, match=rf"{number} class\(es\) not in both .*, such as 'bee' in {split} only"
        ):
            open_folder(folder)

    def test_a_broken_image_is_named(self, folder: Path) -> None:
        (folder / "val" / "ant" / "0.png").write_bytes(b"no image")
        with pytest.raises(DataError, match=r"val/ant/0\.png: cannot be decoded"):
            list(open_folder(folder).validation_batches([indices(0)]))

    def test_a_cut_off_image_is_named(self, folder: Path) -> None:
        path = folder / "val" / "cat" / "0.JPEG"
        path.write_bytes(path.read_bytes()[:-60])
        with pytest.raises(DataError, match=r"val/cat/0\.JPEG: cannot be decoded"):
            list(open_folder(folder).validation_batches([indices(2)]))


class TestCropping:
    def test_random_boxes_have_the_area_and_aspect_they_should(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(500):
            left, upper, right, lower = random_box(300, 200, rng)
            assert 0 <= left < right <= 300
            assert 0 <= upper < lower <= 200
            width, height = right - left, lower - upper
            assert 0.07 <= width * height / 60_000 <= 1
            assert 0.74 <= width / height <= 1.35

    def test_an_image_that_no_box_fits_is_cut_to_its_central_square(self) -> None:
        assert random_box(1000, 10, np.random.default_rng(0)) == (495, 0, 505, 10)
        assert random_box(10, 1000, np.random.default_rng(0)) == (0, 495, 10, 505)

    def test_half_of_the_random_crops_are_flipped(self) -> None:
        ramp = np.tile(np.arange(200, dtype=np.uint8), (200, 1))
        image = Image.fromarray(np.stack([ramp] * 3, axis=2))
        crops = [random_crop(image, 8, np.random.default_rng(seed)) for seed in range(200)]
        flipped = sum(int(crop[0, 0, 0] > crop[0, -1, 0]) for crop in crops)
        assert 75 < flipped < 125

    def test_the_centre_crop_of_an_image_of_the_right_size_is_its_centre(self) -> None:
        pixels = np.random.default_rng(0).integers(0, 256, (300, 256, 3), dtype=np.uint8)
        crop = centre_crop(Image.fromarray(pixels), 224)
        assert np.array_equal(crop, pixels[38:262, 16:240])

    def test_the_centre_crop_scales_the_short_side(self) -> None:
        assert centre_crop(Image.new("RGB", (512, 1000)), 224).shape == (224, 224, 3)
        assert centre_crop(Image.new("RGB", (31, 30)), 224).shape == (224, 224, 3)


class TestDevicePreprocessing:
    def test_normalising_is_per_channel(self) -> None:
        preprocessing = DevicePreprocessing(
            Preprocessing(mean=(10.0, 20.0), std=(2.0, 5.0)), torch.device("cpu")
        )
        images = torch.tensor([[[[12]], [[10]]]], dtype=torch.uint8)
        assert preprocessing.normalise(images).tolist() == [[[[1.0]], [[-2.0]]]]

    def test_without_padding_images_stay_as_they_are(self) -> None:
        preprocessing = DevicePreprocessing(Preprocessing(mean=(0.0,), std=(1.0,)), torch.device("cpu"))
        images = torch.ones(2, 1, 4, 4, dtype=torch.uint8)
        assert preprocessing.augment(images, torch.Generator()) is images

    def test_every_crop_of_the_padded_image_and_its_mirror_comes_up_and_nothing_else(self) -> None:
        preprocessing = DevicePreprocessing(
            Preprocessing(mean=(0.0,), std=(1.0,), crop_padding=1), torch.device("cpu")
        )
        picture = torch.arange(1, 25, dtype=torch.uint8).reshape(2, 3, 4)
        padded = np.pad(picture.numpy(), ((0, 0), (1, 1), (1, 1)))
        crops = [padded[:, row : row + 3, column : column + 4] for row in range(3) for column in range(3)]
        expected = {crop.tobytes() for crop in crops} | {crop[:, :, ::-1].tobytes() for crop in crops}
        batch = picture.expand(600, 2, 3, 4)
        augmented = preprocessing.augment(batch, torch.Generator().manual_seed(0))
        assert {image.tobytes() for image in augmented.contiguous().numpy()} == expected


class TestSharding:
    def test_ranks_share_every_step_without_loss_or_duplicates(self) -> None:
        plans = [train_plan(23, batch_size=5, seed=1, rank=rank, num_ranks=3) for rank in range(3)]
        assert [[len(step) for step in plan] for plan in plans] == [[2] * 4, [2] * 4, [1] * 4]
        read = [int(image) for plan in plans for step in plan for image in step]
        assert len(read) == len(set(read)) == 20

    def test_ranks_together_read_the_batches_that_one_rank_would(self) -> None:
        (alone,) = (train_plan(6, batch_size=6, seed=4, rank=0, num_ranks=1),)
        shared = [train_plan(6, batch_size=6, seed=4, rank=rank, num_ranks=2)[0] for rank in range(2)]
        assert sorted(np.concatenate(shared)) == sorted(alone[0]) == [0, 1, 2, 3, 4, 5]

    def test_the_order_follows_the_seed(self) -> None:
        def order(seed: int) -> list[int]:
            return [int(i) for i in train_plan(50, batch_size=50, seed=seed, rank=0, num_ranks=1)[0]]

        assert order(1) == order(1)
        assert order(1) != order(2)
        assert order(1) != sorted(order(1))

    def test_validation_shares_may_be_uneven_or_empty(self) -> None:
        def shares(num_images: int, num_ranks: int) -> list[list[list[int]]]:
            plans = [
                validation_plan(num_images, batch_size=2, rank=rank, num_ranks=num_ranks)
                for rank in range(num_ranks)
            ]
            return [[step.tolist() for step in plan] for plan in plans]

        assert shares(8, 3) == [[[0, 3], [6]], [[1, 4], [7]], [[2, 5]]]
        assert shares(2, 3) == [[[0]], [[1]], []]


def test_the_network_gets_images_with_their_channels_outermost_however_they_were_decoded() -> None:
    preprocessing = DevicePreprocessing(Preprocessing(mean=(0.0,) * 3, std=(2.0,) * 3), torch.device("cpu"))
    decoded = torch.full((2, 4, 4, 3), 6, dtype=torch.uint8).permute(0, 3, 1, 2)
    assert not decoded.is_contiguous()
    normalised = preprocessing.normalise(decoded)
    assert normalised.is_contiguous()
    assert (normalised == 3.0).all()
