"""How traces are called, where they lie, and what lies beside them."""

from __future__ import annotations

import os
from pathlib import Path

from neurosim.errors import InputError
from neurosim.process import caller

ENDINGS = (".h5", ".hdf5", ".hdf", ".nc")
"""Of traces; a name without one, such as `mu-0.05`, is allowed too."""

OTHERS = {
    ".bmp", ".csv", ".dat", ".doc", ".docx", ".eps", ".gif", ".gz", ".htm", ".html", ".ipynb",
    ".jpeg", ".jpg", ".json", ".log", ".mat", ".md", ".npy", ".npz", ".parquet", ".pdf",
    ".pickle", ".pkl", ".png", ".ps", ".py", ".svg", ".tar", ".tif", ".tiff", ".toml", ".tsv",
    ".txt", ".xls", ".xlsx", ".xml", ".yaml", ".yml", ".zarr", ".zip",
}  # fmt: skip
"""Endings that say that a file is something else."""


def expanded(path: str | os.PathLike[str]) -> Path:
    """A path with `~` for the home directory, unless something there is called so."""
    text = os.fspath(path)
    if text.startswith("~") and not os.path.lexists(text):
        text = os.path.expanduser(text)
    return Path(text)


def located(path: str | os.PathLike[str]) -> Path:
    """The file that a path means: `~` is the home directory, a link is what it points to.

    Raises:
        InputError: it is a device, a pipe or the like, which to read or write may never end, or
            the working directory or the root, beside which nothing can be called like it.
    """
    path = expanded(path)
    if not path.name:
        raise InputError(f"{path}: is a folder; expected a file, such as outputs/run.h5")
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise InputError(f"{path}: is a device or a pipe; expected a file")
    return Path(os.path.realpath(path)) if os.path.islink(path) else path


def placed(path: str | os.PathLike[str]) -> Path:
    """Where a trace that is to be called so goes.

    Raises:
        InputError: its name says that it is something else, or no file can be there.
    """
    found = located(path)
    if found.suffix.lower() in OTHERS:
        given, such = caller.option("out", os.fspath(path)), found.with_suffix(".h5").name
        raise InputError(f"{given}: is the trace, which is HDF5; expected such as {such}")
    return found


def stem(trace: str | os.PathLike[str]) -> str:
    """What a trace is called without its ending: `mu-0.05` of `mu-0.05.h5` and of `mu-0.05`."""
    path = Path(trace)
    return path.stem if path.suffix.lower() in ENDINGS else path.name


def beside(trace: str | os.PathLike[str], ending: str) -> Path:
    """What lies beside a trace: called as it is, with another ending."""
    path = located(trace)
    return path.with_name(stem(path) + ending)


PICTURES = (".png", ".svg", ".pdf")
"""Endings of figures."""


def pictured(path: str | os.PathLike[str]) -> Path:
    """Where a figure that is to be called so goes.

    Raises:
        InputError: it ends in none of what can be drawn, or no file can be there.
    """
    found = located(path)
    if found.suffix not in PICTURES:
        raise InputError(f"{path}: the name of a figure ends in .png, .svg or .pdf")
    return found


SOFTWARE = "neurosim"
"""What a PNG says of the program that drew it."""


def drawn(path: str | os.PathLike[str]) -> bool:
    """Whether a file is a picture that neurosim drew, and so can draw again."""
    with open(path, "rb") as raw:
        return f"Software\0{SOFTWARE}".encode() in raw.read(4096)
