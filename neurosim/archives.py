"""Reading .npy and .npz files of unknown origin: nothing in them is executed, and what they claim
to hold is checked against what their bytes can unpack to before anything is allocated."""

import math
import os
import textwrap
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

from neurosim.errors import InputError

DEFLATE_RATIO = 1032
"""No deflate stream unpacks to more than this times its size (zlib's documentation)."""

HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_arrays(path: Path) -> dict[str, np.ndarray]:
    """The arrays of an .npz file by name.

    Raises:
        InputError: there is no such file, it is damaged or no archive of plain arrays, or it
            claims to hold more than it can.
    """
    if os.path.exists(path) and not (os.path.isfile(path) or os.path.isdir(path)):
        raise InputError(f"{path}: is a device or a pipe; expected an .npz file")
    try:
        with open(path, "rb") as raw:
            if raw.read(6) == np.lib.format.MAGIC_PREFIX:
                raise InputError(f"{path}: holds a bare array; expected an .npz file of several")
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
            if sum(info.compress_size for info in members) > Path(path).stat().st_size:
                raise ValueError("its members overlap")
            return {info.filename.removesuffix(".npy"): _array(archive, info) for info in members}
    except FileNotFoundError:
        raise InputError(f"{path}: no such file; expected an .npz file") from None
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    except InputError:
        raise
    except Exception as problem:  # zipfile, zlib and numpy each have their own
        reason = textwrap.shorten(str(problem), 200, placeholder=" …")  # may quote the whole file
        raise InputError(
            f"{path}: cannot be read as an .npz file of plain numbers ({reason})"
        ) from None


def read_array(path: Path) -> np.ndarray:
    """The array of an .npy file.

    Raises:
        InputError: it cannot be read, is damaged, or no plain array.
    """
    try:
        with open(path, "rb") as raw:
            return _values(path.name, raw)
    except OSError as problem:
        raise InputError(f"{path}: cannot be read: {problem.strerror or problem}") from None
    except Exception as problem:  # numpy's own, of headers
        reason = textwrap.shorten(str(problem), 200, placeholder=" …")
        raise InputError(
            f"{path}: cannot be read as an .npy file of plain numbers ({reason})"
        ) from None


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    ratios = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: DEFLATE_RATIO}
    if info.file_size > info.compress_size * ratios.get(info.compress_type, 0):
        raise ValueError(f"{info.filename}: announces more bytes than it can hold")
    with archive.open(info) as member:
        return _values(info.filename, member)


def _values(name: str, member: IO[bytes]) -> np.ndarray:
    shape, fortran, dtype = _header(member)
    if dtype.hasobject:
        raise ValueError(f"{name}: holds objects, which are never read")
    content = member.read()
    if len(content) != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{name}: {len(content)} bytes for an array of shape {shape}")
    values = np.frombuffer(content, dtype).reshape(shape, order="F" if fortran else "C")
    return values.copy(order="K")  # aligned and writable


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(member)
    if version not in HEADERS:
        raise ValueError(f"format {version} of numpy's files, which holds no plain numbers")
    return HEADERS[version](member)
