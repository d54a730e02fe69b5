"""Image classification from files in the IDX format of MNIST."""

import gzip
import math
import os
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from jaxtyping import UInt8

from neurosim.archives import DEFLATE_RATIO
from neurosim.errors import InputError
from neurosim.tasks import checks
from neurosim.tasks.data import TARGETS, Data, Pair, Target, hold_out, one_hot, standardise

UNSIGNED_BYTE = 0x08
BRIGHTEST = 255


@dataclass(frozen=True)
class IdxFolder:
    """Images and labels from a folder of MNIST-format files.

    The folder holds `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`,
    `t10k-images-idx3-ubyte` and `t10k-labels-idx1-ubyte`, each plain or gzipped (`.gz`; the plain
    file is taken where both are there). Pixels are scaled to [0, 1]. The number of classes is one
    more than the largest label of all files. MNIST, Fashion-MNIST and KMNIST come in this form.

    Args:
        path: the folder; `~` is the home directory.
        train: take the first so many training images; None takes all.
        test: take the first so many test images; None takes all.
        standardise: whether to subtract each pixel's mean and to divide all pixels by one scale,
            so that their variance is 1 on average, both fitted on the training images in use
            (their constant pixels become 0).
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

    summary: ClassVar[str] = "images in a folder of MNIST-format (IDX) files"
    source: ClassVar[str] = "LeCun, Bottou, Bengio & Haffner 1998"
    shared: ClassVar[bool] = True

    def __post_init__(self) -> None:
        checks.path("idx: path", self.path)
        checks.whole_or_none("idx: train", self.train, 1)
        checks.whole_or_none("idx: test", self.test, 1)
        checks.part_or_none("idx: validation", self.validation)
        checks.switch("idx: standardise", self.standardise)
        checks.choice("idx: target", self.target, TARGETS)

    @property
    def inputs(self) -> int | None:
        """None: the files say it."""
        return None

    @property
    def outputs(self) -> int | None:
        """None: the files say it."""
        return None

    def draw(self, rng: np.random.Generator | None = None) -> Data:
        """The data; `rng` is ignored.

        Raises:
            InputError: a file is missing, damaged, of another format, or does not fit the others.
        """
        folder = checks.path("idx: path", self.path)
        images_train, labels_train = _read_pair(folder, "train")
        images_test, labels_test = _read_pair(folder, "t10k")
        if images_train.shape[1:] != images_test.shape[1:]:
            raise InputError(
                f"{folder}: test images of {images_test.shape[1:]} pixels; expected "
                f"{images_train.shape[1:]} as in the training images"
            )
        classes = 1 + max(int(labels_train.max()), int(labels_test.max()))
        n_train = _count("train", self.train, len(images_train))
        n_test = _count("test", self.test, len(images_test))
        (x_train, y_train), (x_test, y_test) = hold_out(
            _scaled(images_train[:n_train], labels_train, classes),
            _scaled(images_test[:n_test], labels_test, classes),
            self.validation,
            True,
            np.random.default_rng(0),
        )
        if self.standardise:
            x_train, x_test = standardise(x_train, x_test, common_scale=True)
        return Data(x_train, y_train, x_test, y_test, classes=True).taught(self.target)


def _scaled(images: np.ndarray, labels: np.ndarray, classes: int) -> Pair:
    """Pixels in [0, 1] and classes of so many images."""
    count = len(images)
    return images.reshape(count, -1) / BRIGHTEST, one_hot(labels[:count], classes)


def read_idx(path: Path, axes: int) -> UInt8[np.ndarray, "..."]:
    """The array of unsigned bytes with `axes` axes in an IDX file, gzipped if it ends in `.gz`.

    The format: bytes 0, 0, type code, number of axes; the lengths of the axes as big-endian
    32-bit numbers; the values, last axis fastest. Memory use is bounded by the size of the file,
    whatever its header says.

    Raises:
        InputError: the file is unreadable, damaged, or not of this form.
    """
    compressed = path.suffix == ".gz"
    try:
        size = path.stat().st_size
        with gzip.open(path, "rb") if compressed else path.open("rb") as file:
            shape = _shape(path, file.read(4 + 4 * axes), axes)
            announced = math.prod(shape)
            if announced > size * (DEFLATE_RATIO if compressed else 1):
                raise InputError(
                    f"{path}: the header announces {announced} values (shape {shape}), more than "
                    f"a file of {size} bytes can hold; it is truncated or its header is damaged"
                )
            values = file.read(announced + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise InputError(
            f"{path}: no intact gzip file ({error}); expected one because of its name, so fetch "
            "it again"
        ) from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or error})") from error
    if len(values) != announced:
        arrived = f"{len(values)}" if len(values) < announced else f"more than {announced}"
        raise InputError(
            f"{path}: {arrived} values after the header; expected {announced}, as it announces "
            f"shape {shape}"
        )
    return np.frombuffer(values, dtype=np.uint8).reshape(shape)


def _shape(path: Path, header: bytes, axes: int) -> tuple[int, ...]:
    expected = bytes([0, 0, UNSIGNED_BYTE, axes])
    if header[:4] != expected:
        hint = "; it is gzipped, so its name must end in .gz" if header[:2] == b"\x1f\x8b" else ""
        raise InputError(
            f"{path}: starts with the bytes {header[:4].hex(' ')!r}; expected "
            f"{expected.hex(' ')!r}, unsigned bytes with {axes} axes{hint}"
        )
    if len(header) != 4 + 4 * axes:
        raise InputError(
            f"{path}: ends after {len(header)} bytes; expected a header of {4 + 4 * axes}"
        )
    return tuple(int(n) for n in np.frombuffer(header, dtype=">u4", offset=4))


def _read_pair(
    folder: Path, part: str
) -> tuple[UInt8[np.ndarray, "n rows columns"], UInt8[np.ndarray, " n"]]:
    """Images and labels of `part`, as many of the one as of the other and at least one."""
    images_path = _find(folder, f"{part}-images-idx3-ubyte")
    labels_path = _find(folder, f"{part}-labels-idx1-ubyte")
    images, labels = read_idx(images_path, 3), read_idx(labels_path, 1)
    if images.size == 0:
        raise InputError(f"{images_path}: images of shape {images.shape}; expected at least one")
    if len(images) != len(labels):
        raise InputError(
            f"{labels_path}: {len(labels)} labels; expected {len(images)}, one for each image in "
            f"{images_path.name}"
        )
    return images, labels


def _find(folder: Path, name: str) -> Path:
    for path in (folder / name, folder / f"{name}.gz"):
        if os.path.isfile(path):
            return path
    if not os.path.isdir(folder):
        raise InputError(f"{folder}: no such folder; expected one with MNIST-format files")
    raise InputError(f"{folder}: holds {checks.held(folder)}; expected {name} or {name}.gz")


def _count(which: str, wanted: int | None, there: int) -> int:
    if wanted is not None and wanted > there:
        raise InputError(f"idx: {which}: got {wanted}; expected at most the {there} in the files")
    return there if wanted is None else wanted
