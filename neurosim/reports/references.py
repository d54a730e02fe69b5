"""What `neurosim cite` says: the works that something which ships is from, as text or BibTeX."""

import tomllib
from functools import cache
from importlib.resources import files
from typing import Any

from neurosim.errors import InputError, nearest
from neurosim.reports.catalogue import catalog

Reference = dict[str, Any]

PLACES = ("journal", "booktitle", "publisher", "school", "howpublished")
"""Fields that say where a work appeared."""


@cache
def table() -> dict[str, Reference]:
    """All references by key, as `references.toml` has them."""
    return tomllib.loads(files("neurosim.reports").joinpath("references.toml").read_text("utf-8"))


def named_in(source: str) -> list[str]:
    """Keys of the works that a source line names, in its order."""
    found = [
        (source.find(words), key)
        for key, entry in table().items()
        for words in entry["cited"]
        if words in source
    ]
    return [key for _, key in sorted(found)]


def cite(name: str) -> list[Reference]:
    """Works that a model, protocol, neuron, synapse, task or rule is from.

    Each has its `key`, how it stands in a list of references (`text`), and `bibtex`.

    Raises:
        InputError: nothing that ships is called so, or it is from no work.
    """
    entries = [entry for entry in catalog() if entry["name"] == name]
    if not entries:
        names = sorted({entry["name"] for entry in catalog()})
        close = nearest(name, names)
        hint = f"; did you mean {close!r}?" if close else ""
        raise InputError(f"{name}: nothing that ships is called so{hint} (see neurosim list)")
    keys = list(dict.fromkeys(key for entry in entries for key in named_in(entry["source"])))
    if not keys:
        raise InputError(f"{name}: is from no publication; neurosim list says what it is")
    return [{"key": key, "text": _text(table()[key]), "bibtex": _bibtex(key)} for key in keys]


def _text(entry: Reference) -> str:
    """As it stands in a list of references."""
    names = [person.partition(", ") for person in entry["author"].split(" and ")]
    people = [f"{last}, {_initials(first)}" for last, _, first in names]
    told = people[0] if len(people) == 1 else f"{', '.join(people[:-1])} & {people[-1]}"
    place = next(entry[field] for field in PLACES if field in entry)
    if entry["type"] == "mastersthesis":
        place = f"Master's thesis, {place}"
    for field in ("volume", "pages"):
        place += f", {entry[field].replace('-', '–')}" if field in entry else ""
    return f"{told} ({entry['year']}). {entry['title']}. {place}."


def _initials(given: str) -> str:
    """`J. P.` of `Jean Pierre`, `J.-P.` of `Jean-Pierre`."""
    parts = (part.split("-") for part in given.split())
    return " ".join("-".join(f"{piece[0]}." for piece in pieces) for pieces in parts)


def _bibtex(key: str) -> str:
    """As an entry of BibTeX, in UTF-8."""
    entry = table()[key]
    fields = {name: value for name, value in entry.items() if name not in ("cited", "type")}
    if "pages" in fields:
        fields["pages"] = fields["pages"].replace("-", "--")
    lines = [f"  {name} = {{{value}}}," for name, value in fields.items()]
    return "\n".join([f"@{entry['type']}{{{key},", *lines, "}"])
