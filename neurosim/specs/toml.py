"""TOML with positions: reading, merging and overriding.

`read` gives a `Document`, which knows the line of every key; `merge` and `override` build the data
to validate; `Sources` finds a merged key in the file that it came from.
"""

from __future__ import annotations

import bisect
import os
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosim.errors import InputError, arrived, nearest
from neurosim.process import caller

KeyPath = tuple[str | int, ...]

_WORD = r"""(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_KEY = re.compile(rf"{_WORD}(?:[ \t]*\.[ \t]*{_WORD})*")
_BLANK = re.compile(r"(?:[ \t\n]+|#[^\n]*)*")
_SCALAR = re.compile(
    r'''"""(?:[^\\]|\\.)*?"{3,5}|\'\'\'.*?'{3,5}|"(?:[^"\\]|\\.)*"|'[^']*'|[^,\]}#\n]+''',
    re.DOTALL,
)
_OPENING = re.compile(r"\[\[?")
_EQUALS = re.compile(r"[ \t]*=[ \t]*")
_DEEPEST = 100
NAMED = ("task", "activation", "output_activation")
"""Tables that may say by their `name` what they are, with keys of their own each."""

_POSITION = re.compile(r" \(at (?:line (\d+), column (\d+)|end of document)\)$")


# --- documents ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Document:
    """A TOML file: its data, and the line of every key and array element in it."""

    path: Path
    data: dict[str, Any]
    lines: Mapping[KeyPath, int]

    def line(self, key: KeyPath) -> int | None:
        """The line where `key` is written; None if it is not in the file."""
        return self.lines.get(key)

    def depth(self, key: KeyPath) -> int:
        """How many leading parts of `key` are in the file."""
        return max((n for n in range(1, len(key) + 1) if key[:n] in self.lines), default=0)

    def locate(self, key: KeyPath) -> tuple[str, KeyPath]:
        """`file:line` of `key`, or of the closest table around a missing key; and the key."""
        line = self.lines.get(key[: self.depth(key)])
        return (str(self.path) if line is None else f"{self.path}:{line}"), key


@dataclass(frozen=True)
class Source:
    """Says that the validated keys below `at` were read from `table` of `document`."""

    document: Document
    at: KeyPath = ()
    table: KeyPath = ()

    def translate(self, key: KeyPath) -> KeyPath | None:
        """`key` as it is written in the document; None if it is not below `at`."""
        inside = key[: len(self.at)] == self.at
        return self.table + key[len(self.at) :] if inside else None


@dataclass(frozen=True)
class Sources:
    """Several documents merged into one; a document overrules those after it.

    A protocol whose `[model]` table is merged over a model file is
    `Sources((Source(protocol), Source(model, at=("model",))))`.
    """

    sources: tuple[Source, ...]

    def line(self, key: KeyPath) -> int | None:
        """The line where `key` is written in the first document that has it."""
        lines = (s.document.line(k) for s in self.sources if (k := s.translate(key)))
        return next((line for line in lines if line is not None), None)

    def locate(self, key: KeyPath) -> tuple[str, KeyPath]:
        """`file:line` of `key`, and the key as that file writes it.

        A key that no document has is located where most of the tables around it are.
        """
        best: tuple[int, Source, KeyPath] | None = None
        for source in self.sources:
            translated = source.translate(key)
            if translated is None:
                continue
            if source.document.line(translated) is not None:
                return source.document.locate(translated)
            depth = source.document.depth(translated) - len(source.table) + len(source.at)
            if best is None or depth >= best[0]:
                best = depth, source, translated
        return best[1].document.locate(best[2]) if best else ("", key)

    def where(self, key: KeyPath) -> str:
        """`file:line` of `key`."""
        return self.locate(key)[0]


def read(path: str | os.PathLike[str]) -> Document:
    """Read a TOML file.

    Raises:
        InputError: there is no such file, it cannot be read, or it is not valid TOML.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path}: no such file{_similar(path)}") from None
    except IsADirectoryError:
        raise InputError(f"{path}: is a folder; expected a TOML file") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{path}: cannot be read: {reason.lower()}") from None
    try:
        text = content.decode("utf-8-sig")  # editors on Windows write a byte order mark
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise InputError(f"{path}:{line}: not UTF-8 text; save the file as UTF-8") from None
    return parse(text, path)


def parse(text: str, path: str | os.PathLike[str]) -> Document:
    """The document that `text` is; `path` only names it in errors."""
    path = Path(path)
    text = text.replace("\r\n", "\n")
    try:
        document = Document(path, tomllib.loads(text), _Scanner(text).scan())
        if any(len(key) > _DEEPEST for key in document.lines):
            raise RecursionError
        return document
    except RecursionError:
        raise InputError(f"{path}: not valid TOML: nested too deeply") from None
    except ValueError as error:
        raise _invalid(path, text, error) from None


def _invalid(path: Path, text: str, error: ValueError) -> InputError:
    """What tomllib says of a text, with the line; of what stands there twice, what and where."""
    reason, line, column = str(error), len(text.rstrip().splitlines()) or 1, ""
    if match := _POSITION.search(reason):
        reason = reason[: match.start()]
        if match[1]:
            line, column = int(match[1]), f" (column {match[2]})"
    reason = f"{reason[:1].lower()}{reason[1:]}{column}"
    if reason.startswith("cannot ") and (twice := _twice(text, line)):
        key, before = twice
        reason = f"{dotted(key)} is there already, in line {before}; drop one of them"
    return InputError(f"{path}:{line}: not valid TOML: {reason}")


def _twice(text: str, line: int) -> tuple[KeyPath, int] | None:
    """What a line repeats and where that stands, if the text above the line is whole."""
    lines = text.splitlines(keepends=True)
    above, repeated = "".join(lines[: line - 1]), lines[line - 1].strip()
    header = repeated.startswith("[")
    match = _KEY.match(repeated.lstrip("[ \t"))
    try:
        tomllib.loads(above)
    except ValueError:
        return None
    scanner = _Scanner(above)
    known = scanner.scan()
    if match is None:
        return None
    key = (() if header else scanner.table) + _parts(match[0])
    there = [key[:n] for n in range(len(key), 0, -1) if key[:n] in known]
    return (there[0], known[there[0]]) if there else None


def _similar(path: Path) -> str:
    try:
        names = sorted(p.name for p in path.parent.iterdir() if p.is_file())
    except OSError:
        return f"; there is no folder {str(path.parent)!r}"
    guess = nearest(path.name, names)
    return f"; did you mean {guess!r}?" if guess is not None else ""


class _Scanner:
    """Finds the line of every key in a text that is known to be valid TOML."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.newlines = [match.start() for match in re.finditer("\n", text)]
        self.lines: dict[KeyPath, int] = {}
        self.table: KeyPath = ()  # that goes on at the end
        self.sizes: dict[KeyPath, int] = {}  # of arrays of tables

    def scan(self) -> dict[KeyPath, int]:
        while self.take(_BLANK) is not None and self.position < len(self.text):
            if self.text[self.position] == "[":
                self.table = self.header()
            else:
                self.pair(self.table)
        return self.lines

    def take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.position)
        assert match is not None, f"not valid TOML at character {self.position}"
        self.position = match.end()
        return match[0]

    def line(self) -> int:
        return bisect.bisect_left(self.newlines, self.position) + 1

    def header(self) -> KeyPath:
        line = self.line()
        brackets = len(self.take(_OPENING))
        self.take(_BLANK)
        *outer, last = _parts(self.take(_KEY))
        self.take(_BLANK)
        self.position += brackets
        path: KeyPath = ()
        for part in outer:
            path = (*path, part)
            self.lines.setdefault(path, line)
            if path in self.sizes:
                path = (*path, self.sizes[path] - 1)
        path = (*path, last)
        if brackets == 1:
            self.lines[path] = line
            return path
        self.lines.setdefault(path, line)
        self.sizes[path] = self.sizes.get(path, 0) + 1
        path = (*path, self.sizes[path] - 1)
        self.lines[path] = line
        return path

    def pair(self, table: KeyPath) -> None:
        line = self.line()
        parts = _parts(self.take(_KEY))
        for end in range(1, len(parts)):
            self.lines.setdefault(table + parts[:end], line)
        self.lines[table + parts] = line
        self.take(_EQUALS)
        self.value(table + parts)

    def value(self, path: KeyPath) -> None:
        opening = self.text[self.position]
        if opening not in "[{":
            self.take(_SCALAR)
            return
        closing = "]" if opening == "[" else "}"
        self.position += 1
        self.take(_BLANK)
        index = 0
        while self.text[self.position] != closing:
            if opening == "[":
                self.lines[*path, index] = self.line()
                self.value((*path, index))
                index += 1
            else:
                self.pair(path)
            self.take(_BLANK)
            if self.text[self.position] == ",":
                self.position += 1
                self.take(_BLANK)
        self.position += 1


# --- keys and overrides ---------------------------------------------------------------------------


def split_key(key: str) -> tuple[str, ...]:
    """The parts of a dotted key; parts may be quoted as in TOML."""
    if not _KEY.fullmatch(key):
        raise InputError(f"{key!r} is not a dotted key; expected one such as model.parameters.mu")
    try:
        return _parts(key)
    except ValueError:
        raise InputError(
            f"{key!r} is not a dotted key; expected one such as model.parameters.mu"
        ) from None


def dotted(key: Iterable[str | int]) -> str:
    """The dotted form of a key, with parts quoted where TOML needs it."""
    parts = (str(part) for part in key)
    return ".".join(p if re.fullmatch(r"[A-Za-z0-9_-]+", p) else _quoted(p) for p in parts)


def merge(base: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    """`base` with the tables of `patch` merged in; lists and scalars are replaced.

    So is a table that says by its `name` what it is, where it is to be something else.
    """
    merged = {k: merge(v, {}) if isinstance(v, Mapping) else v for k, v in base.items()}
    for key, value in patch.items():
        if isinstance(value, Mapping):
            old = merged.get(key)
            if not isinstance(old, Mapping) or _another(key, old, value):
                old = {}
            value = merge(old, value)
        merged[key] = value
    return merged


def flat(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Changes of tables as changes of their keys: `{"model": {"cut": 1}}` as `{"model.cut": 1}`.

    Tables that say by their `name` what they are stay whole.

    Raises:
        InputError: a key is none.
    """
    found: dict[str, Any] = {}
    for key, value in changes.items():
        last = split_key(key)[-1]
        named = isinstance(value, Mapping) and "name" in value and last in NAMED
        if not isinstance(value, Mapping) or named:
            found[key] = value
        else:
            inner = {f"{key}.{dotted([part])}": entry for part, entry in value.items()}
            found |= flat(inner)
    return found


def override(data: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """`data` with the values of `changes` set at their dotted keys, such as `phases.0.duration`.

    Tables are merged into those that are there, as `merge` does, all else replaces what is there;
    tables that are missing on the way are made.

    Raises:
        InputError: a key leads into a scalar, or to an element that a list does not have.
    """
    changed = dict(data)
    for key, value in changes.items():
        changed = _set(changed, (), split_key(key), value)
    return changed


def parse_assignment(text: str) -> tuple[str, Any]:
    """`"model.parameters.mu=0.2"` as key and value: a TOML value, or else the bare text."""
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not key or not value:
        raise InputError(
            f"{text!r} is not an assignment; write key=value, such as model.parameters.mu=0.2"
        )
    split_key(key)
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):
        return key, value
    return key, parsed["value"] if len(parsed) == 1 else value


def _another(key: str, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
    """Whether a table names another thing than the old one, whose keys then mean nothing to it."""
    return key in NAMED and new.get("name", old.get("name")) != old.get("name")


def _parts(key: str) -> tuple[str, ...]:
    node: Any = tomllib.loads(f"{key} = 0")
    parts = []
    while isinstance(node, dict):
        [(part, node)] = node.items()
        parts.append(part)
    return tuple(parts)


def _quoted(part: str) -> str:
    escaped = part.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + re.sub(r"[\x00-\x1f\x7f]", lambda m: f"\\u{ord(m[0]):04x}", escaped) + '"'


def _set(node: Any, done: tuple[str, ...], rest: tuple[str, ...], value: Any) -> Any:
    if not rest:
        if not isinstance(value, Mapping):
            return value
        return merge({done[-1]: node}, {done[-1]: value})[done[-1]]
    part, *_ = rest
    here, place = (*done, part), caller.override(dotted((*done, *rest)))
    if isinstance(node, Mapping):
        return {**node, part: _set(node.get(part, {}), here, rest[1:], value)}
    if not isinstance(node, list):
        raise InputError(f"{place}: {dotted(done)} is {arrived(node)}, not a table")
    if not re.fullmatch(r"[0-9]{1,9}", part) or int(part) >= len(node):
        allowed = f"0 to {len(node) - 1}" if node else "none, it is empty"
        raise InputError(f"{place}: {dotted(done)} has no element {part} (allowed: {allowed})")
    index = int(part)
    return [*node[:index], _set(node[index], here, rest[1:], value), *node[index + 1 :]]


def written(data: Mapping[str, Any]) -> str:
    """Plain data as TOML, with texts of several lines as such."""
    import tomlkit

    def readable(value: Any) -> Any:
        match value:
            case dict():
                return {key: readable(entry) for key, entry in value.items()}
            case list():
                return [readable(entry) for entry in value]
            case str() if "\n" in value and not value.startswith("\n"):
                quoted = tomlkit.string(value, multiline=True).as_string()
                return tomlkit.value(quoted.replace('"""', '"""\n', 1))  # a break it drops
            case _:
                return value

    return tomlkit.dumps(readable(data)).rstrip()
