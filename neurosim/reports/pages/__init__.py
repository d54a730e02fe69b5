"""A page on one trace or several side by side: one file of HTML, which needs nothing else."""

import hashlib
import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from neurosim import wording
from neurosim.comparison.alignment import differing
from neurosim.errors import InputError, NeurosimWarning
from neurosim.process import caller
from neurosim.reports import inspection
from neurosim.reports.pages import cells, runs
from neurosim.reports.pages.sheet import Sheet
from neurosim.traces.naming import located, stem

LARGE = 1_000_000
"""Bytes of a page above which mail and browsers make trouble."""


def report(
    *files: str | PathLike[str], out: str | PathLike[str] = "report.html", force: bool = False
) -> Path:
    """Write a page about traces: runs of networks, recordings of cells, or both, side by side.

    It holds what was found, the figures as SVG, how far each phase settled, doubts, circuit,
    equations, the protocol complete, where it comes from and what repeats it. It runs no script and
    loads nothing, so that it opens wherever it is sent. Returns where it is.

    out: ends in .html. force: overwrite it.

    Raises:
        InputError: no file is given, one is no intact trace, or `out` exists or cannot be written.
    """
    path = _placed(out, force)
    if not files:
        raise InputError("no trace: expected one file or several, as neurosim run writes them")
    names = _names(files)
    sheets = [
        _sheet(file, name, f"f{k}") for k, (file, name) in enumerate(zip(files, names, strict=True))
    ]
    text = _rendered(sheets)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written there: {error.strerror}") from error
    size = len(text.encode())
    if size > LARGE:
        warnings.warn(
            f"{path}: has {wording.size(size)}, more than mail and browsers like; "
            "a page on fewer files has less",
            NeurosimWarning,
            stacklevel=2,
        )
    return path


def _placed(out: str | PathLike[str], force: bool) -> Path:
    path = located(out)
    given = caller.option("out", os.fspath(out))
    if path.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{given}: is a page; expected a name that ends in .html")
    if os.path.exists(path) and not force:
        raise InputError(f"{given}: exists; give {caller.option('force')} to overwrite it")
    return path


def _names(files: Sequence[str | PathLike[str]]) -> list[str]:
    """Of the columns: those of the files, with their folders where those are the same."""
    short = [stem(file) for file in files]
    count = Counter(short)
    return [
        name if count[name] == 1 else str(file) for name, file in zip(short, files, strict=True)
    ]


def _sheet(file: str | PathLike[str], name: str, prefix: str) -> Sheet:
    found = inspection.inspect(Path(file))
    with open(located(file), "rb") as raw:
        digest = hashlib.file_digest(raw, "sha256").hexdigest()
    about = runs if "phases" in found else cells
    return about.sheet(found, name, digest, prefix)


def _rendered(sheets: list[Sheet]) -> str:
    template = Environment(
        loader=PackageLoader("neurosim.reports.pages", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    ).get_template("page.html")
    several = len(sheets) > 1
    title = f"{len(sheets)} traces side by side" if several else sheets[0].protocol_name
    return template.render(
        title=title,
        sheets=sheets,
        version=version("neurosim"),
        svg=Markup,
        results=_beside([s.measured for s in sheets]) + _beside([s.about for s in sheets]),
        provenance=_beside([sheet.provenance for sheet in sheets]),
        differences=_differences([sheet.resolved for sheet in sheets]) if several else [],
    )  # fmt: skip


def _beside(columns: list[list[tuple[str, str]]]) -> list[tuple[str, list[str]]]:
    """Rows of label and text of several files as one table: a label, and what each says of it."""
    labels = list(dict.fromkeys(label for column in columns for label, _ in column))
    return [
        (label, ["; ".join(text for known, text in column if known == label) for column in columns])
        for label in labels
    ]


def _differences(protocols: list[dict[str, Any]]) -> list[tuple[str, list[str]]]:
    """Keys in which the protocols are not all the same, with the value of each."""
    first, *others = protocols
    found: dict[str, list[str]] = {}
    for column, other in enumerate(others, start=1):
        for row in differing(first, other):
            own = _plainly(row["a"])
            found.setdefault(row["key"], [own] * len(protocols))[column] = _plainly(row["b"])
    return list(found.items())


def _plainly(value: Any) -> str:
    """A value as a file has it; nothing where there is none."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)
