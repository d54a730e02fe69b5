"""Files that ship with neurosim, and those that users mean by a name or a path."""

import os
from pathlib import Path

from neurosim.errors import InputError, arrived, nearest
from neurosim.traces.naming import expanded

PACKAGE = Path(__file__).parents[1]

WITHIN = {
    "neurons": "models/neurons",
    "synapses": "models/synapses",
    "recordings": "protocols/recordings",
}
"""Kinds of files that lie in the folder of another kind, which may be meant as well."""


def bundled(kind: str) -> dict[str, Path]:
    """The shipped files of a kind, by bare name: a folder, or a key of `WITHIN`."""
    place = WITHIN.get(kind, kind)
    for folder in (PACKAGE / "shipped" / place, PACKAGE.parent / place):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.toml"))}
    return {}


def find(kind: str, name: str | Path, folder: Path | None = None) -> Path:
    """The file that `name` means: a path, from `folder` if given, or a shipped file's bare name.

    Raises:
        InputError: there is no such file.
    """
    if not isinstance(name, str | os.PathLike):
        raise InputError(f"{arrived(name)} is no {kind.removesuffix('s')}; expected a file or name")
    path = expanded(name)
    for candidate in ([folder / path] if folder else []) + [path]:
        if os.path.isfile(candidate):  # false for names that no system takes
            return candidate
    shipped = bundled(kind) | (bundled("recordings") if kind == "protocols" else {})
    if str(name) in shipped:
        return shipped[str(name)]
    singular = {"synapses": "synapse"}.get(kind, kind.removesuffix("s"))
    close = nearest(path.stem, shipped)
    hint = f"; did you mean {close!r}?" if close else ""
    raise InputError(
        f"{name}: no such {singular} file, and no shipped {singular} of that name{hint} "
        f"(shipped: {', '.join(shipped)})"
    )
