"""Traces as files of other programs: `neurosim export`."""

import json
import os
import shutil
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any

from neurosim.errors import InputError, unknown
from neurosim.extras import needed
from neurosim.process import caller
from neurosim.traces.naming import OTHERS, beside, located
from neurosim.traces.reader import Arrays, interpreting

FORMATS = {"csv": "-csv", "parquet": "-parquet", "nwb": ".nwb", "neo": ".nix"}
"""What a trace can become, and how the name of that ends: of tables it is a folder."""

PROVENANCE = "provenance.json"
"""The file beside tables that says where they come from."""


def export(
    file: str | PathLike[str], to: str, out: str | PathLike[str] | None = None, force: bool = False
) -> Path:
    """Write what a trace holds for other programs; returns where it went.

    to: `csv` or `parquet`: a folder with a file for each table of `to_tables`, and
    `provenance.json`, which holds the resolved protocol and what wrote the trace; `nwb`: a file of
    Neurodata Without Borders; `neo`: a NIX file, the format of Neo, with what `to_neo` returns.
    The last two hold what is over time: states, spikes, phases, stimuli.

    file: a trace of a network or of cells, finished or not. out: where to, else beside the trace
    under its name. force: replace what is there.

    Raises:
        InputError: there is no such format; the file is no trace or holds nothing over time;
            something is there already, or nothing can be; a library is not installed, in which
            case the message says what to install.
    """
    if to not in FORMATS:
        raise InputError(f"{caller.option('to', to)}: {unknown('format', to, FORMATS)}")
    write = _writer(to)
    path = _placed(file, to, out)
    if os.path.lexists(path):
        _refuse(path, to, force)
    part = path.with_name(f".{path.stem}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(file, part)
        if path.is_dir():
            shutil.rmtree(path)
        os.replace(part, path)
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written there: {error.strerror or error}; give another with "
            f"{caller.option('out', 'FILE')}"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
        part.unlink(missing_ok=True)
    return path


def _writer(to: str) -> Callable[[str | PathLike[str], Path], None]:
    """What writes a format, if its libraries are there."""
    if to == "nwb":
        from neurosim.exports import sessions

        return sessions.write
    if to == "neo":
        from neurosim.exports import blocks

        return blocks.write
    if to == "parquet":
        with needed("parquet", "Parquet files"):
            import pyarrow  # noqa: F401  which pandas writes them with
    return lambda file, path: _write_tables(file, path, to)


def _write_tables(file: str | PathLike[str], folder: Path, to: str) -> None:
    from neurosim.exports.tables import to_tables

    tables = to_tables(file)
    with interpreting(file), Arrays.of(file) as arrays:
        protocol = json.loads(arrays.text("provenance/protocol_json"))
        told: dict[str, Any] = {"attributes": arrays.attributes, "protocol": protocol}
    folder.mkdir()
    for name, table in tables.items():
        path = folder / f"{name.replace('/', '-')}.{to}"
        if to == "csv":
            table.to_csv(path, index=False)
        else:
            table.to_parquet(path, engine="pyarrow", index=False)
    (folder / PROVENANCE).write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")


def _placed(file: str | PathLike[str], to: str, out: str | PathLike[str] | None) -> Path:
    """Where a file or folder goes."""
    ending = FORMATS[to]
    if out is None:
        return beside(file, ending)
    path, given = located(out), caller.option("out", os.fspath(out))
    if ending.startswith(".") and path.suffix.lower() != ending:
        raise InputError(
            f"{given}: is what {to} is written to; expected such as {path.with_suffix(ending).name}"
        )
    if ending.startswith("-") and path.suffix.lower() in OTHERS:
        raise InputError(
            f"{given}: is the folder of the tables, of which there are many; expected such as "
            f"{path.with_suffix('').name}"
        )
    return path


def _refuse(path: Path, to: str, force: bool) -> None:
    """Refuse to lose what is there, unless it is such an export and that is wanted."""
    tables = FORMATS[to].startswith("-")
    if tables != path.is_dir():
        what = "is a folder" if path.is_dir() else "is a file, where a folder is to be"
        raise InputError(f"{path}: {what}; give another with {caller.option('out', 'FILE')}")
    if tables and any(path.iterdir()) and not (path / PROVENANCE).is_file():
        raise InputError(
            f"{path}: is a folder that neurosim has not written; give another with "
            f"{caller.option('out', 'FILE')}"
        )
    if not force:
        raise InputError(
            f"{path}: exists; give {caller.option('force')} to overwrite, or "
            f"{caller.option('out', 'FILE')}"
        )
