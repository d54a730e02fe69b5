"""What `neurosim list` says: all that ships, with its source, from the tables the engines use."""

import re
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from neurosim.building.shipped import bundled
from neurosim.circuits.populations import UNPROBED
from neurosim.credit import CREDITS
from neurosim.errors import InputError, unknown
from neurosim.levels.schemes import SCHEMES
from neurosim.plasticity import FEEDBACK_RULES, FORWARD_RULES, PROBES
from neurosim.specs import FORMULAS
from neurosim.specs.toml import read
from neurosim.tasks import TASKS

Entry = dict[str, str]

_CITED = re.compile(r"\s*\[([^\]]*\d[^\]]*)\]")
_TEXTS = {"T": "Meulemans 2019", "D": "Lee et al. 2015"}


def catalog(kind: str | None = None) -> list[Entry]:
    """What ships of a kind, or of all.

    Entries have a `kind`, a `name`, the `key` of a protocol that takes the name (empty for
    protocols themselves), `what` it is, and its `source` (empty for what needs none); models and
    protocols also the `path` of their file.

    Raises:
        InputError: there is no such kind.
    """
    if kind is not None and kind not in KINDS:
        raise InputError(unknown("kind", kind, KINDS))
    return [{"kind": k, **e} for k in ([kind] if kind else KINDS) for e in KINDS[k]()]


def in_words(entries: list[Entry], width: int | None = None) -> str:
    """What `catalog` returns, as text: one line each, or wrapped to `width` columns."""
    lines: list[str] = []
    heading = ""
    for entry in entries:
        key = entry["key"]
        title = f"{entry['kind']} ({key})" if key else entry["kind"]
        if title != heading:
            lines += [*([""] if lines else []), title]
            longest = max(len(e["name"]) for e in entries if e["key"] == key)
            heading = title
        source = f" [{entry['source']}]" if entry["source"] else ""
        label = f"  {entry['name']:<{longest}}  "
        text = f"{entry['what']}{source}"
        lines += (
            [label + text]
            if width is None
            else textwrap.wrap(
                text, width, initial_indent=label, subsequent_indent=" " * len(label)
            )
        )
    return "\n".join(lines)


def _models() -> Iterator[Entry]:
    shipped = bundled("models")
    for name, path in shipped.items():
        data = read(path).data
        if "like" in data:
            data = {**read(shipped[data["like"]]).data, **data}
        what, source = data.get("description", ""), data.get("source", "")
        yield _entry(name, "model.use", what, source) | {"path": str(path)}


def _protocols() -> Iterator[Entry]:
    sources = {model["name"]: model["source"] for model in _models()}
    for name, path in bundled("protocols").items():
        data = read(path).data
        source = data.get("source", sources.get(data["model"].get("use"), ""))
        yield _entry(name, "", data.get("description", ""), source) | {"path": str(path)}


def _neurons() -> Iterator[Entry]:
    for name, path in bundled("neurons").items():
        data = read(path).data
        what, source = data.get("description", ""), data.get("source", "")
        yield _entry(name, "model.use", what, source) | {"path": str(path)}


def _synapses() -> Iterator[Entry]:
    for name, path in bundled("synapses").items():
        data = read(path).data
        what, source = data["description"], data.get("source", "")
        yield _entry(name, "synapses.NAME.use", what, source) | {"path": str(path)}


def _recordings() -> Iterator[Entry]:
    for name, path in bundled("recordings").items():
        data = read(path).data
        yield _entry(name, "", data["description"], data.get("source", "")) | {"path": str(path)}


def _tasks() -> Iterator[Entry]:
    tasks: dict[str, Any] = TASKS
    for name, task in tasks.items():
        yield _entry(name, "task.name", task.summary, task.source)


def _rules() -> Iterator[Entry]:
    for name, (_, text) in FORWARD_RULES.items():
        yield _cited(name, "model.projections.W.rule", text)
    for name, rule in FEEDBACK_RULES.items():
        key = "model.projections.Q.rule" if name in (*PROBES, *UNPROBED) else "model.credit.rule"
        yield _cited(name, key, rule.source)
    for name, credit in CREDITS.items():
        yield _cited(name, "model.credit.name", credit.source)


def _activations() -> Iterator[Entry]:
    for name, formula in FORMULAS.items():
        yield _entry(name, "model.activation", formula, "")


def _solvers() -> Iterator[Entry]:
    for name, scheme in SCHEMES.items():
        what = scheme.source + ("; integrates noise" if scheme.noisy else "")
        yield _entry(name, "rate.scheme", what, "diffrax")


def _entry(name: str, key: str, what: str, source: str) -> Entry:
    return {"name": name, "key": key, "what": what, "source": source}


def _cited(name: str, key: str, text: str) -> Entry:
    """An entry from a text such as "what it is [T 6.17]"."""
    found = _CITED.search(text)
    if found is None:
        return _entry(name, key, text, "")
    tag, _, numbers = found[1].partition(" ")
    several = "s" if re.search(r"[,–-]", numbers) else ""
    source = f"{_TEXTS[tag]}, eq{several}. {numbers}" if tag in _TEXTS else found[1]
    return _entry(name, key, text[: found.start()], source)


KINDS: dict[str, Callable[[], Iterator[Entry]]] = {
    "models": _models,
    "protocols": _protocols,
    "neurons": _neurons,
    "synapses": _synapses,
    "recordings": _recordings,
    "tasks": _tasks,
    "rules": _rules,
    "activations": _activations,
    "solvers": _solvers,
}
