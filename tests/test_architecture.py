"""The import graph follows the ranks: a module imports only from lower ones or its own room."""

import ast
import re
from pathlib import Path

import pytest

import neurosim

PACKAGE = Path(__file__).parents[1] / "neurosim"

RANKS = {
    "errors": 0, "words": 0, "inverses": 0, "seeds": 0, "activations": 0, "losses": 0,
    "plain": 0, "cache": 0, "caller": 0, "compiled": 0, "deferred": 0, "places": 0,
    "circuits": 1, "units": 1, "naming": 1, "toml": 1, "progress": 1, "archives": 1, "devices": 1,
    "stopping": 1, "wirings": 1,
    "store": 2, "validation": 2, "spec": 2, "network": 2, "initialisers": 2, "tasks": 2,
    "dynamics": 3, "simulator": 4, "credit": 4, "plasticity": 5,
    "levels": 6, "conditions": 6, "circuitry": 7, "course": 7, "theory": 8, "weight_files": 8,
    "engine": 9, "spiking": 10, "ingredients": 11,
    "build": 12, "facts": 13, "meanings": 13, "concerns": 14, "consistency": 14,
    "loading": 15, "contents": 15, "diverging": 15,
    "environment": 15, "scenes": 15, "outline": 16, "draws": 16, "programs": 16, "positions": 16,
    "recording": 16, "results": 16, "comparing": 16, "findings": 16,
    "looping": 17, "figures": 17, "running": 18, "costing": 18, "listing": 19, "checking": 19,
    "inspecting": 19, "subjects": 19, "resuming": 19, "analysing": 20, "console": 20,
    "cli": 21,
}  # fmt: skip
"""Room → rank."""

HEAVY = {
    "brian2": {"levels"},
    "diffrax": {"levels"},
    "h5py": {"store"},
    "matplotlib": {"figures"},
    "typer": {"cli"},
}
"""Library → the rooms that may import it."""

FILES = sorted(PACKAGE.rglob("*.py"))


def room(path: Path) -> str:
    parts = path.relative_to(PACKAGE).parts
    return parts[0].removesuffix(".py").strip("_")


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
    if own == "init":  # the package root offers what scripts use, lazily
        return
    for name in imports(path):
        parts = name.split(".")
        if parts[0] != "neurosim":
            assert own in HEAVY.get(parts[0], {own}), f"{own} imports {parts[0]}"
            continue
        other = parts[1].strip("_")
        assert other in RANKS, f"{own} imports the package root or an unranked room: {name}"
        assert other == own or RANKS[other] < RANKS[own], f"{own} imports {other}"


def test_no_module_hides_what_the_package_offers():
    """Importing a module binds its name on the package, over a function of the same name."""
    functions = set(neurosim.__all__) - {"figures", "theory"}  # which are the modules themselves
    assert not {path.stem for path in PACKAGE.glob("*")} & functions


def test_every_room_has_a_rank():
    assert {room(path) for path in FILES} - {"init"} <= set(RANKS)


def test_files_are_short():
    """Near 500 lines a file holds more than one concept."""
    long = {p.name: n for p in FILES if (n := len(p.read_text().splitlines())) > 500}
    assert not long


def test_compiled_programs_invert_matrices_one_at_a_time():
    """`neurosim.inverses` says why."""
    kernels = re.compile(r"\bj(np|ax\.numpy|sp|ax\.scipy|ax\.lax)\.linalg\.(?!norm\b)\w+")
    users = {path.name for path in FILES if kernels.search(path.read_text(encoding="utf-8"))}
    assert users == {"inverses.py"}
