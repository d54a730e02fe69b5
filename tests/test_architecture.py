"""The import graph follows the ranks: a module imports only from lower ones or its own room."""

import ast
import re
from pathlib import Path

import pytest

import neurosim

PACKAGE = Path(__file__).parents[1] / "neurosim"

RANKS = {
    "errors": 0, "bounds": 0, "wording": 0, "seeds": 0, "plain": 0, "places": 0,
    "process": 1, "functions": 1, "units": 1, "archives": 1, "extras": 1,
    "circuits": 2,
    "specs": 3,
    "traces": 4, "tasks": 4, "networks": 4, "stimuli": 4, "trains": 4,
    "levels": 5, "credit": 5,
    "plasticity": 6, "models": 7, "theory": 8, "learning": 9, "building": 10,
    "runs": 11, "exports": 11,
    "comparison": 12, "recordings": 12, "sweeps": 12,
    "figures": 13, "reports": 14, "cli": 15, "__main__": 16,
}  # fmt: skip
"""Room → rank."""

HEAVY = {
    "PIL": {"tasks"},
    "brian2": {"levels"},
    "dask": {"sweeps"},
    "diffrax": {"levels"},
    "distributed": {"sweeps"},
    "h5py": {"traces"},
    "jinja2": {"reports"},
    "matplotlib": {"figures"},
    "neo": {"exports"},
    "pandas": {"exports", "tasks"},
    "pyarrow": {"exports", "tasks"},
    "pynwb": {"exports"},
    "quantities": {"exports"},
    "safetensors": {"traces"},
    "torch": {"traces"},
    "typer": {"cli"},
}
"""Library → the rooms that may import it."""

FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py")


def imports(path: Path) -> list[str]:
    """Every module that a file imports, wherever in it."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            assert node.module is not None
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_modules_import_only_lower_ranks(path):
    own = room(path)
    if own == "__init__":  # the package root offers what scripts use, lazily
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "neurosim":
            assert own in HEAVY.get(parts[0], {own}), f"{own} imports {parts[0]}"
            continue
        other = parts[1]
        assert other in RANKS, f"{own} imports the package root or an unranked room: {name}"
        assert other == own or RANKS[other] < RANKS[own], f"{own} imports {other}"


def test_no_module_hides_what_the_package_offers():
    """Importing a module binds its name on the package, over a function of the same name."""
    functions = set(neurosim.__all__) - {"figures", "theory"}  # which are the modules themselves
    assert not {path.stem for path in PACKAGE.glob("*")} & functions


def test_every_room_has_a_rank():
    assert {room(path) for path in FILES} - {"__init__"} <= set(RANKS)


def test_files_are_short():
    """Near 500 lines a file holds more than one concept."""
    long = {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 500}
    assert not long


def test_compiled_programs_invert_matrices_one_at_a_time():
    """`neurosim.functions.inverses` says why."""
    kernels = re.compile(r"\bj(np|ax\.numpy|sp|ax\.scipy|ax\.lax)\.linalg\.(?!norm\b)\w+")
    users = {path.name for path in FILES if kernels.search(path.read_text(encoding="utf-8"))}
    assert users == {"inverses.py"}
