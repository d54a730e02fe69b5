"""What `mutants.toml` says of the numerical core is of modules, tests and lines that there are."""

from pathlib import Path

import pytest
from mutation_score import KNOWN, table

import neurosim

TESTS = Path(__file__).parent
PACKAGE = Path(neurosim.__file__).parent


@pytest.mark.parametrize("module", KNOWN["core"])
def test_modules_of_the_core_have_tests(module):
    assert (PACKAGE / module).is_file()
    tests = KNOWN["core"][module]
    assert tests and all((TESTS / f"{name}.py").is_file() for name in tests)


@pytest.mark.parametrize("known", KNOWN["explained"], ids=lambda known: known["line"][:40])
def test_explained_mutants_are_of_lines_that_are_there(known):
    """What has changed since may be another survivor, and wants a look."""
    lines = (PACKAGE / known["module"]).read_text(encoding="utf-8").splitlines()
    assert known["line"] in {line.strip() for line in lines}
    assert known["mutant"] != known["line"] and known["why"]


def test_the_page_has_the_table_that_the_results_make():
    page = (TESTS.parent / "docs" / "reliability.md").read_text(encoding="utf-8")
    assert table() in page
