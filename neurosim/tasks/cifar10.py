"""Image classification from a folder in the binary format of CIFAR-10."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from neurosim.errors import InputError
from neurosim.tasks import checks
from neurosim.tasks.data import TARGETS, Data, Pair, Target, hold_out, one_hot, standardise

CLASSES = 10
PIXELS = 3 * 32 * 32
"""Of red, green and blue."""
RECORD = 1 + PIXELS
"""Bytes: the label, then the pixels, map by map and row by row."""
BRIGHTEST = 255
TRAIN = tuple(f"data_batch_{k}.bin" for k in range(1, 6))
TEST = ("test_batch.bin",)


@dataclass(frozen=True)
class Cifar10:
    """Images and labels of the binary version of CIFAR-10.

    The folder holds `data_batch_1.bin` … `data_batch_5.bin` and `test_batch.bin`, records of 3073
    bytes each: the label, then 32 × 32 pixels of red, of green and of blue. Pixels are scaled to
    [0, 1]; an image is the layer `[3, 32, 32]` of a network.

    Args:
        path: the folder; `~` is the home directory.
        train: take the first so many training images; None takes all.
        test: take the first so many test images; None takes all.
        standardise: whether to subtract each pixel's mean and to divide all pixels by one scale,
            so that their variance is 1 on average, both fitted on the training images in use.
        validation: a share of the training samples, or how many of them, that is held out to
            choose by, the same for every seed: runs are tested on it instead of the test images,
            which stay unseen.
        target: `class`, or `input` for networks whose output is to be the input, as autoencoders'.
    """

    path: str | Path
    train: int | None = None
    test: int | None = None
    standardise: bool = True
    validation: float | None = None
    target: Target = "class"

    summary: ClassVar[str] = "color images in a folder of CIFAR-10's binary files"
    source: ClassVar[str] = "Krizhevsky 2009"
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.path("cifar10: path", self.path)
        checks.whole_or_none("cifar10: train", self.train, 1)
        checks.whole_or_none("cifar10: test", self.test, 1)
        checks.part_or_none("cifar10: validation", self.validation)
        checks.switch("cifar10: standardise", self.standardise)
        checks.choice("cifar10: target", self.target, TARGETS)

    @property
    def inputs(self) -> int:
        """The pixels of an image, of all three colors."""
        return PIXELS

    @property
    def outputs(self) -> int:
        """The classes, or as many as inputs."""
        return CLASSES if self.target == "class" else PIXELS

    def draw(self, rng: np.random.Generator | None = None) -> Data:
        """The data; `rng` is ignored.

        Raises:
            InputError: a file is missing, cannot be read, or is not of this form.
        """
        folder = checks.path("cifar10: path", self.path)
        _check_folder(folder)
        train, test = (
            _taken(key, wanted, _records(folder, names, wanted))
            for key, wanted, names in (("train", self.train, TRAIN), ("test", self.test, TEST))
        )
        rng = np.random.default_rng(0)
        (x_train, y_train), (x_test, y_test) = hold_out(train, test, self.validation, True, rng)
        if self.standardise:
            x_train, x_test = standardise(x_train, x_test, common_scale=True)
        return Data(x_train, y_train, x_test, y_test, classes=True).taught(self.target)


def read_records(path: Path, most: int | None = None) -> UInt8[np.ndarray, "images bytes"]:
    """The records of a file, or the first `most` of them: label and pixels of an image each.

    Raises:
        InputError: the file is unreadable, empty, no whole number of records long, or has a label
            of no class.
    """
    try:
        size = path.stat().st_size
        count = size // RECORD
        with path.open("rb") as file:
            content = file.read(RECORD * (count if most is None else min(count, most)))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if size == 0 or size % RECORD:
        raise InputError(
            f"{path}: {size} bytes; expected a multiple of {RECORD}, as each image has a label and "
            f"{PIXELS} pixels, so fetch it again, as the binary version (cifar-10-binary.tar.gz)"
        )
    records = np.frombuffer(content, np.uint8).reshape(-1, RECORD)
    strange = np.flatnonzero(records[:, 0] >= CLASSES)
    if strange.size:
        raise InputError(
            f"{path}: image {strange[0]} has the label {records[strange[0], 0]}; expected 0 to "
            f"{CLASSES - 1}, as CIFAR-10 has {CLASSES} classes"
        )
    return records


def _check_folder(folder: Path) -> None:
    if not os.path.isdir(folder):
        raise InputError(
            f"{folder}: no such folder; expected one with the binary files of CIFAR-10"
        )
    missing = [name for name in (*TRAIN, *TEST) if not os.path.isfile(folder / name)]
    if missing:
        held = checks.held(folder)
        raise InputError(f"{folder}: holds {held}; expected {', '.join(missing)} as well")


def _records(
    folder: Path, names: tuple[str, ...], wanted: int | None
) -> UInt8[np.ndarray, "images bytes"]:
    """Those of several files, one after the other; no more than are wanted."""
    found: list[np.ndarray] = []
    for name in names:
        left = None if wanted is None else wanted - sum(map(len, found))
        if left is None or left > 0:
            found.append(read_records(folder / name, left))
    return np.concatenate(found)


def _taken(key: str, wanted: int | None, records: UInt8[np.ndarray, "images bytes"]) -> Pair:
    """Pixels in [0, 1] and classes."""
    if wanted is not None and wanted > len(records):
        raise InputError(
            f"cifar10: {key}: got {wanted}; expected at most the {len(records)} in the files"
        )
    return records[:, 1:] / BRIGHTEST, one_hot(records[:, 0], CLASSES)
