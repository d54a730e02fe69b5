"""How many small faults in the numerical core its tests notice: a mutation score.

    python tests/mutants.py [MODULE…] [--share 0.05] [--most 3] [--seed 1]   draw and test mutants
    python tests/mutants.py [MODULE…] --again [-k TESTS]           those that survived, once more
    python tests/mutants.py --table                                what was found, as Markdown

A mutant is the package with one small fault: a plus for a minus, a 2 for a 1, an `and` for an `or`.
It is killed if one of the tests of its module fails. `mutants.toml` says which modules are the
numerical core, and which tests are theirs, and explains survivors that no test should kill. Mutants
are made by the operators of cosmic-ray. Its own command starts a process for each, which here takes
longer than the tests, for importing JAX and the rest; so all that is imported once, and each mutant
is tested in a fork of that process.
"""

import argparse
import math
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from importlib import import_module
from logging import getLogger
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import NamedTuple

import parso
import pytest
from cosmic_ray.ast import Visitor, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator
from mutation_score import KNOWN, dead, keep, outcomes, table, unexplained

ROOT = Path(__file__).parents[1]

SWAPS = {
    "Binary": "Add_Sub Sub_Add Mul_Div Div_Mul Pow_Mul FloorDiv_Mul Mod_Mul BitAnd_BitOr "
    "BitOr_BitAnd",
    "Comparison": "Lt_GtE Lt_LtE LtE_Gt LtE_Lt Gt_LtE Gt_GtE GtE_Lt GtE_Gt Eq_NotEq NotEq_Eq "
    "Is_IsNot IsNot_Is",
    "Unary": "Delete_USub Delete_Not Delete_Invert",
}
OPERATORS = {
    name: get_operator(f"core/{name}")()
    for name in (
        *(f"Replace{kind}Operator_{swap}" for kind, all in SWAPS.items() for swap in all.split()),
        *("AddNot", "NumberReplacer", "ZeroIterationForLoop"),
        *("ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
        *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak"),
    )
}
"""Of the replacements of a sign that cosmic-ray has those that can be taken for it. Most others, a
shift of bits for a plus, say, raise an error wherever they are computed, and only raise the score.
"""

IMPORTED = (
    "jax.numpy", "scipy.linalg", "scipy.optimize", "scipy.stats", "brian2", "diffrax", "equinox",
    "h5netcdf", "h5py", "hypothesis", "jaxtyping", "lineax", "matplotlib.pyplot", "optax",
    "optimistix", "pandas", "pydantic", "rich", "sklearn.datasets", "tomlkit", "typer", "xarray",
)  # fmt: skip


class Sites(Visitor):
    """Where each operator finds something to change that can decide a number."""

    def __init__(self, code: str):
        self.found: list[tuple[str, int]] = []
        self._count: Counter[str] = Counter()
        self.walk(get_ast(code))

    def visit(self, node: parso.tree.NodeOrLeaf) -> parso.tree.NodeOrLeaf:
        for name, operator in OPERATORS.items():
            for _ in operator.mutation_positions(node):
                if not mute(node):
                    self.found.append((name, self._count[name]))
                self._count[name] += 1
        return node


def mute(node: parso.tree.NodeOrLeaf) -> bool:
    """Whether it belongs to an annotation, a decorator, or what is raised."""
    while (parent := node.parent) is not None:
        if parent.type in {"tfpdef", "decorator", "raise_stmt", "assert_stmt"}:
            return True
        if parent.type == "annassign" and node is parent.children[1]:
            return True
        if parent.type == "funcdef" and node is parent.annotation:
            return True
        node = parent
    return False


class Sampling(NamedTuple):
    """Which mutants of a module are drawn: a share of all there are, but so many at most."""

    share: float
    most: int | None
    seed: int


def drawn(module: str, code: str, sampling: Sampling) -> dict[str, str]:
    """Code of mutants by the line they change; those that fewer at `most` leave are the same."""
    sites, share = Sites(code).found, sampling.share
    rng = random.Random(f"{sampling.seed} {module}")
    some = rng.sample(sites, math.ceil(share * len(sites)))[: sampling.most]
    mutants = {}
    for name, occurrence in sorted(some):
        mutant = mutate_code(code, OPERATORS[name], occurrence)
        lines = zip(code.splitlines(), mutant.splitlines(), strict=False)
        number, (was, now) = next(
            (k, pair) for k, pair in enumerate(lines, 1) if pair[0] != pair[1]
        )
        with suppress(SyntaxError):
            compile(mutant, module, "exec")
            mutants[f"{number}: {was.strip()} → {' '.join(now.split())}"] = mutant
    return mutants


def tested(tests: list[str], log: Path, patience: float | None = None) -> str:
    """What becomes of the copy in this folder when a fork of this process runs the tests."""

    def child() -> None:
        os.setsid()
        with log.open("w") as output:
            os.dup2(output.fileno(), 1)
            os.dup2(output.fileno(), 2)
        quiet = "ignore::pytest.PytestAssertRewriteWarning"  # of libraries that are imported
        os._exit(pytest.main(["-x", "-n0", "-p", "no:randomly", "-W", quiet, *tests]))

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    try:
        process.join(patience)
        late = process.is_alive()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    process.join()
    return "timed out" if late else "survived" if process.exitcode == 0 else "killed"


def prepare(folder: Path) -> None:
    """A copy of the checkout becomes the working directory, and what it imports is imported."""
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.splitlines()  # fmt: skip
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    os.chdir(folder)
    os.environ["PYTHONPATH"] = str(folder)
    sys.path[:] = [
        str(folder),
        str(folder / "tests"),
        *(p for p in sys.path if ROOT not in Path(p).parents),
    ]
    kept = Path(".pytest_cache", "d", "jax")
    if (ROOT / kept).is_dir():  # what the tests have compiled before; mutants add to a copy of it
        shutil.copytree(ROOT / kept, folder / kept)
    kept = folder / kept
    import_module("conftest").pytest_configure(
        SimpleNamespace(cache=SimpleNamespace(mkdir=lambda name: kept))
    )
    for name in IMPORTED:
        import_module(name)
    logger = import_module("brian2.utils.logger").BrianLogger
    getLogger("brian2").removeHandler(logger.file_handler)
    logger.file_handler.close()  # or forks drop it open, of which pytest warns
    logger.tmp_log = None
    assert not any(name.split(".")[0] == "neurosim" for name in sys.modules)


def written(bytecode: bool) -> None:
    """Whether what Python compiles is kept: of the package as it is, never of a mutant."""
    sys.dont_write_bytecode = not bytecode
    os.environ["PYTHONDONTWRITEBYTECODE"] = "" if bytecode else "1"


def judge(module: str, sampling: Sampling, again: bool, chosen: str | None) -> None:
    """Mutants of a module, each with what its tests say, into the file of results as it comes.

    again: only those that are open. chosen: of the tests, as `pytest -k` says it.
    """
    path = Path("neurosim", module)
    code = path.read_text(encoding="utf-8")
    mutants, found = drawn(module, code, sampling), {"first": 0, "now": {}}
    if again:
        found = outcomes().get(module, found)
        mutants = {m: mutants[m] for m in unexplained(module, found["now"]) if m in mutants}
    if not mutants:
        return
    tests = [f"tests/{name}.py" for name in KNOWN["core"][module]]
    tests += ["-k", chosen] if chosen else []
    began = monotonic()
    written(True)
    assert tested(tests, Path("log")) == "survived", Path("log").read_text()
    patience = 20 + 3 * (monotonic() - began)
    print(f"{module}: {monotonic() - began:.0f} s without a fault", flush=True)
    written(False)
    for name, mutant in mutants.items():
        for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
            compiled.unlink()
        path.write_text(mutant, encoding="utf-8")
        found["now"][name] = tested(tests, Path("log"), patience)
        if not again:
            found["first"] = dead(found["now"])
        print(f"{found['now'][name]:9} {module}:{name}", flush=True)
        keep(module, found)
    path.write_text(code, encoding="utf-8")
    print(f"{module}: {monotonic() - began:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("modules", nargs="*", default=list(KNOWN["core"]))
    parser.add_argument("--share", type=float, default=0.05)
    parser.add_argument("--most", type=int, help="of a module")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--again", action="store_true")
    parser.add_argument("-k", help="which of the tests, as pytest has it; with --again")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # not without the child
    if not args.table:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            prepare(Path(folder))
            for module in args.modules:
                judge(module, Sampling(args.share, args.most, args.seed), args.again, args.k)
    print(table())


if __name__ == "__main__":
    main()
