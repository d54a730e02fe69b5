"""What `neurosim list` says: all that ships, with its source, from the tables the engines use."""

import inspect
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

from neurosim.activations import ACTIVATIONS
from neurosim.credit import CREDITS
from neurosim.dynamics import DYNAMICS
from neurosim.errors import InputError, unknown
from neurosim.levels.rate import SCHEMES
from neurosim.loading import bundled
from neurosim.plasticity import FEEDBACK_RULES, FORWARD_RULES
from neurosim.tasks import TASKS
from neurosim.toml import read

_CITED = re.compile(r"\s*\[([^\]]*\d[^\]]*)\]")
_TEXTS = {"T": "Meulemans 2019", "D": "Lee et al. 2015"}


def catalog(kind: str | None = None) -> list[dict[str, str]]:
    """What ships of a kind, or of all: entries of `kind`, `name`, `what` and `source`.

    A model or protocol can be run by its name and has a `path`; everything else is named in their
    files. `source` is empty for what needs none.

    Raises:
        InputError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(f"list: {unknown('kind', kind, KINDS)}")
    kinds = KINDS if kind is None else [kind]
    return [{"kind": k, **entry} for k in kinds for entry in KINDS[k]()]


def _models() -> list[dict[str, str]]:
    entries = []
    for name, path in bundled("models").items():
        data = read(path).data
        what = f"{data['dynamics']} dynamics, {data['credit']} credit"
        what = data.get("description", what)
        entries.append(_entry(name, what, data.get("source", "")) | {"path": str(path)})
    return entries


def _protocols() -> list[dict[str, str]]:
    sources = {entry["name"]: entry["source"] for entry in _models()}
    entries = []
    for name, path in bundled("protocols").items():
        data = read(path).data
        source = data.get("source") or sources.get(data["model"].get("use"), "")
        entries.append(_entry(name, data.get("description", ""), source) | {"path": str(path)})
    return entries


def _tasks() -> list[dict[str, str]]:
    return [_entry(name, task.summary, task.source) for name, task in _named(TASKS)]


def _rules() -> list[dict[str, str]]:
    forward = {f"forward.rule = {name!r}": text for name, (_, text) in FORWARD_RULES.items()}
    feedback = {f"feedback.rule = {name!r}": rule.source for name, rule in FEEDBACK_RULES.items()}
    credit = {f"credit = {name!r}": credit.source for name, credit in CREDITS.items()}
    return [_cited(name.replace("'", '"'), t) for name, t in (forward | feedback | credit).items()]


def _dynamics() -> list[dict[str, str]]:
    entries = []
    for name, family in _named(DYNAMICS):
        citation = _CITED.search(sys.modules[family.__module__].__doc__ or "")
        text = _first_line(family) + (citation[0] if citation else "")
        entries.append(_cited(name, text))
    return entries


def _activations() -> list[dict[str, str]]:
    return [_entry(name, _first_line(kind), "") for name, kind in _named(ACTIVATIONS)]


def _solvers() -> list[dict[str, str]]:
    noisy = {True: "; integrates noise", False: ""}
    return [_entry(name, s.source + noisy[s.noisy], "diffrax") for name, s in SCHEMES.items()]


def _named(table: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return list(table.items())


def _entry(name: str, what: str, source: str) -> dict[str, str]:
    return {"name": name, "what": what, "source": source}


def _cited(name: str, text: str) -> dict[str, str]:
    """An entry from a text such as "what it is [T 6.17]"."""
    found = _CITED.search(text)
    if found is None:
        return _entry(name, text, "")
    tag, _, rest = found[1].partition(" ")
    source = f"{_TEXTS[tag]}, eqs. {rest}" if tag in _TEXTS else found[1]
    return _entry(name, text[: found.start()], source)


def _first_line(thing: Any) -> str:
    return (inspect.getdoc(thing) or "").partition("\n")[0].rstrip(".")


KINDS: dict[str, Callable[[], list[dict[str, str]]]] = {
    "models": _models,
    "protocols": _protocols,
    "tasks": _tasks,
    "rules": _rules,
    "dynamics": _dynamics,
    "activations": _activations,
    "solvers": _solvers,
}
