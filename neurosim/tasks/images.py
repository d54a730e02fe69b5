"""A user's own images: a folder of files for every class."""

import os
import warnings
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from neurosim.errors import InputError, arrived
from neurosim.plain import plain
from neurosim.tasks import checks, samples
from neurosim.tasks.data import Data

ENDINGS = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".pgm", ".ppm")

BRIGHTEST = 255

SPLITS = ("train", "test")


@dataclass(frozen=True)
class Images:
    """Images in a folder that has a folder of files for each class.

    Either `path/<class>/<file>`, of which a part is held out, or `path/train/<class>/<file>` and
    `path/test/<class>/<file>`. Classes are numbered by their names in ascending order, samples
    stand by class and file name. Pixels are scaled to [0, 1], row by row; of colors red, green and
    blue of each pixel stand together. Splits are as of `Arrays`.

    Args:
        path: the folder; `~` is the home directory.
        size: rows and columns that images are resized to; where not given, all must have the same.
        color: whether colors are kept; else there is one gray value a pixel.
        standardise: whether to subtract each pixel's mean and to divide all pixels by one scale, as
            of `IdxFolder`.
        test_fraction, split_seed, validation: as of `Arrays`.
    """

    path: str | Path
    size: list[int] | None = None
    color: bool = False
    test_fraction: float = 0.2
    split_seed: int | None = None
    standardise: bool = True
    validation: float | None = None

    summary: ClassVar[str] = "your own images, a folder for every class"
    source: ClassVar[str] = "the user's files"

    def __post_init__(self) -> None:
        checks.path("images: path", self.path)
        checks.switch("images: color", self.color)
        if self.size is not None:
            _size(self.size)
        checks.splitting("images", self)

    @property
    def shared(self) -> bool:
        """Whether `split_seed` says which split, or the folder leaves nothing to split."""
        return self.split_seed is not None or samples.shared(self, self._held)

    @property
    def inputs(self) -> int | None:
        """None: the files say it."""
        return None

    @property
    def outputs(self) -> int | None:
        """None: the folders say it."""
        return None

    @cached_property
    def _held(self) -> dict[str, np.ndarray]:
        folder = checks.path("images: path", self.path)
        if not os.path.isdir(folder):
            raise InputError(f"{folder}: no such folder; expected one with a folder a class")
        size = None if self.size is None else _size(self.size)
        parts = [entry.name for entry in _entries(folder)]
        divided = sorted(parts) == sorted(SPLITS)
        roots = [folder / part for part in SPLITS] if divided else [folder]
        found: dict[str, np.ndarray] = {}
        first: tuple[Path, Any] | None = None
        for root, names in zip(roots, (("x", "y"), ("x_test", "y_test")), strict=False):
            images, labels = [], []
            for path, label in _files(root):
                image = _read(path, self.color, size)
                first = first or (path, image.shape)
                if image.shape != first[1]:
                    raise InputError(
                        f"{path}: has {_pixels(image.shape)}, but {first[0]} has "
                        f"{_pixels(first[1])}; expected the same, or size = [rows, columns], to "
                        "which all are resized"
                    )
                images.append(image.ravel())
                labels.append(label)
            arrays = np.stack(images) / BRIGHTEST, np.array(labels)
            found |= dict(zip(names, arrays, strict=True))
        return samples.checked(folder, found)

    def draw(self, rng: np.random.Generator) -> Data:
        """The data, split by `rng` or by `split_seed`.

        Raises:
            InputError: a folder or file is missing, damaged, or not as above.
        """
        folder = checks.path("images: path", self.path)
        return samples.divided(folder, self._held, True, self, rng, common_scale=True)


def _size(value: Any) -> tuple[int, int]:
    given = plain(value)
    if not isinstance(given, list | tuple) or len(given) != 2:
        raise InputError(
            f"images: size: got {arrived(value)}; expected rows and columns, such as [28, 28]"
        )
    rows, columns = (checks.whole(f"images: size[{i}]", n, 1) for i, n in enumerate(given))
    return rows, columns


def _entries(folder: Path) -> list[Path]:
    """What a folder holds, but for hidden files, by name."""
    try:
        found = sorted(folder.iterdir())
    except OSError as problem:
        raise InputError(f"{folder}: cannot be read ({problem.strerror or problem})") from None
    return [entry for entry in found if not entry.name.startswith(".")]


def _files(root: Path) -> list[tuple[Path, str]]:
    """The images below a folder of classes, each with its class."""
    classes = _entries(root)
    if strays := [entry.name for entry in classes if not entry.is_dir()]:
        raise InputError(
            f"{root}: holds {strays[0]}, which is no folder; expected a folder for every class"
        )
    if len(classes) < 2:
        held = classes[0].name if classes else "nothing"
        raise InputError(f"{root}: holds {held}; expected a folder for each of several classes")
    found = []
    for folder in classes:
        files = _entries(folder)
        if not files:
            raise InputError(f"{folder}: holds no image; expected some of every class")
        for path in files:
            if path.suffix.lower() not in ENDINGS:
                raise InputError(f"{path}: is no image; expected {', '.join(ENDINGS)}")
            found.append((path, folder.name))
    return found


def _read(path: Path, color: bool, size: tuple[int, int] | None) -> np.ndarray:
    """One image, (rows, columns) or (rows, columns, 3), of bytes."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                frames, mode = getattr(image, "n_frames", 1), image.mode
                if frames == 1 and mode[:1] not in "IF":
                    made = image.convert("RGB" if color else "L")
                    if size is not None:
                        made = made.resize(size[::-1], Image.Resampling.BILINEAR)
                    return np.asarray(made)
    except Exception as problem:  # Pillow and its codecs each have their own
        reason = str(problem).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as an image ({reason})") from None
    what = f"{frames} frames" if frames > 1 else f"pixels of more than 8 bits ({mode})"
    raise InputError(f"{path}: has {what}; expected one image of 8 bits a channel")


def _pixels(shape: tuple[int, ...]) -> str:
    return f"{shape[0]} × {shape[1]} pixels"
