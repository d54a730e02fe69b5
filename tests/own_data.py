"""Small files of samples, as users have them."""

import csv

import numpy as np
from PIL import Image

NAMES = ("cat", "dog", "eel")
FEATURES = np.random.default_rng(3).normal(2, 4, size=(12, 2)).round(3)
KINDS = [NAMES[k % 3] for k in range(12)]


def table_file(path, rows=None, head=("width", "height", "kind")):
    """A table of two features and a kind, twelve samples; or of other rows."""
    if rows is None:
        rows = [(*x, kind) for x, kind in zip(FEATURES.tolist(), KINDS, strict=True)]
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([head, *rows])
    return path


def image_folder(folder, split=False, size=(2, 3), count=4):
    """Three classes of images, each pixel of which is known: see `pixels`."""
    for root in [folder / part for part in ("train", "test")] if split else [folder]:
        for k, name in enumerate(NAMES):
            (root / name).mkdir(parents=True)
            for n in range(count):
                Image.fromarray(pixels(k, n, size)).save(root / name / f"{n}.png")
    return folder


def pixels(k, n, size=(2, 3)):
    """Image n of class k."""
    return np.arange(size[0] * size[1], dtype=np.uint8).reshape(size) + np.uint8(40 * k + 7 * n)
