"""What the ``workload`` section of a configuration may say about image classification."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec

from aibench.api.workload import Count, Positive
from aibench.architecture.resnet import IMAGENET_WIDTH, NAMES

DataName = Literal["digits", "cifar10", "image_folder", "synthetic", "generated"]
Precision = Literal["fp32", "bf16", "fp16"]
Fraction = Annotated[float, msgspec.Meta(ge=0.0, lt=1.0)]

# Options that belong to some data sets only, with the value that an absent one gets there.
_FOLDER_DATA = ("cifar10", "image_folder")
_SIZED_DATA = ("image_folder", "synthetic", "generated")
_DEFAULT_IMAGE_SIZE = 224
_DEFAULT_GENERATED_SIZE = 32
_DEFAULT_SYNTHETIC = {
    "synthetic_train_images": 1024,
    "synthetic_validation_images": 256,
    "synthetic_classes": 10,
}
_DEFAULT_GENERATED = {
    "generated_train_images": 1024,
    "generated_validation_images": 256,
    "generated_classes": 10,
    "generated_hardness": 0.25,
    "generated_seed": 0,
}


class ImageClassificationOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the workload.

    Attributes:
        data: ``digits`` comes with scikit-learn, ``synthetic`` and ``generated`` are made up; the others
            lie in ``data_dir``.
        data_dir: Folder of ``cifar10`` or ``image_folder``.
        image_size: Side of the images in pixels, for ``image_folder``, ``synthetic`` and ``generated``; 32 if
            absent for the last, else 224.
        initial: Network that the search starts from.
        width: Channels of its first stage.
        precision: Lowest arithmetic used in training; with ``bf16`` and ``fp16`` weights stay in FP32.
        label_smoothing: Share of the target that is spread evenly over all classes.
        momentum: Of stochastic gradient descent.
        weight_decay: L2 penalty on all learned values.
        loader_processes: Processes per rank that decode the files of an image folder; 0 decodes in the rank.
        synthetic_train_images: Size of the made-up training set; 1024 if absent.
        synthetic_validation_images: Size of the made-up validation set; 256 if absent.
        synthetic_classes: Its classes; 10 if absent.
        generated_train_images: Size of the generated training set; 1024 if absent.
        generated_validation_images: Size of the generated validation set; 256 if absent.
        generated_classes: Its classes; 10 if absent.
        generated_hardness: Share of its images that says nothing of their class; 0.25 if absent.
        generated_seed: Of its images; 0 if absent.

    Raises:
        ValueError: An option is missing for this data set or does not apply to it, or the network is unknown.
    """

    data: DataName
    data_dir: Annotated[str, msgspec.Meta(min_length=1)] | None = None
    image_size: Positive | None = None
    initial: str
    width: Positive = IMAGENET_WIDTH
    precision: Precision = "fp32"
    label_smoothing: Fraction = 0.1
    momentum: Fraction = 0.9
    weight_decay: Annotated[float, msgspec.Meta(ge=0.0)] = 1e-4
    loader_processes: Count = 0
    synthetic_train_images: Positive | None = None
    synthetic_validation_images: Positive | None = None
    synthetic_classes: Positive | None = None
    generated_train_images: Positive | None = None
    generated_validation_images: Positive | None = None
    generated_classes: Positive | None = None
    generated_hardness: Annotated[float, msgspec.Meta(ge=0.0, le=1.0)] | None = None
    generated_seed: Annotated[int, msgspec.Meta(ge=0, lt=2**32)] | None = None

    def __post_init__(self) -> None:
        if self.initial not in NAMES:
            raise ValueError(f"initial is {self.initial!r}, expected one of {', '.join(NAMES)}")
        if self.data in _FOLDER_DATA and self.data_dir is None:
            raise ValueError(f"data_dir is missing, data {self.data!r} needs the folder it lies in")
        self._check_applies("data_dir", _FOLDER_DATA)
        if self.data_dir is not None:
            # Workers and a resumed master may stand in another folder.
            folder = Path(self.data_dir).expanduser().absolute()
            msgspec.structs.force_setattr(self, "data_dir", str(folder))
        image_size = _DEFAULT_GENERATED_SIZE if self.data == "generated" else _DEFAULT_IMAGE_SIZE
        self._resolve("image_size", image_size, _SIZED_DATA)
        for data, defaults in (("synthetic", _DEFAULT_SYNTHETIC), ("generated", _DEFAULT_GENERATED)):
            for name, default in defaults.items():
                self._resolve(name, default, (data,))
        if self.loader_processes and self.data != "image_folder":
            raise ValueError(f"loader_processes does not apply to data {self.data!r}, only to image_folder")

    def _check_applies(self, name: str, data: tuple[str, ...]) -> None:
        if getattr(self, name) is not None and self.data not in data:
            raise ValueError(f"{name} does not apply to data {self.data!r}, only to {_listed(data)}")

    def _resolve(self, name: str, default: float, data: tuple[str, ...]) -> None:
        self._check_applies(name, data)
        if self.data in data and getattr(self, name) is None:
            # The journal keeps the options as they were used: what is defaulted must stand there, too.
            msgspec.structs.force_setattr(self, name, default)


def _listed(names: tuple[str, ...]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), names[-1]])
