"""Every key is explained: the tables of the docs are those of the specs."""

import runpy
from pathlib import Path

import pytest
from pydantic import BaseModel

from neurosim import specs

DOCS = Path(__file__).parents[1] / "docs"


@pytest.fixture(scope="module")
def keys():
    return runpy.run_path(str(DOCS / "keys.py"))


def test_every_key_stands_in_a_page_as_the_specs_have_it(keys):
    page = "".join(path.read_text(encoding="utf-8") for path in keys["PAGES"])
    assert keys["updated"](page) == page, "python docs/keys.py writes the tables anew"
    assert {f"<!-- keys: {name} -->" for name in keys["TABLES"]} <= set(page.splitlines())
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == sum(len(list(keys["rows"](name))) for name in keys["TABLES"])
    for row in rows:
        key, value, usual, meaning = row.strip("|").split(" | ")
        assert value.strip() and meaning.strip(), f"{key} has no meaning"
        assert usual.strip() or value == "table", f"{key} has no default"


def test_every_spec_has_a_table(keys):
    found = {v for v in vars(specs).values() if isinstance(v, type) and issubclass(v, BaseModel)}
    assert found - {specs.Spec} <= {kind for kind, _ in keys["TABLES"].values()}


def test_a_new_key_is_missed_and_keeps_what_is_written(keys):
    page = (DOCS / "protocols.md").read_text(encoding="utf-8")
    lines = page.splitlines(keepends=True)
    lost = next(line for line in lines if line.startswith("| `split_seed`"))
    old = "".join(line for line in lines if line != lost).replace("`heun` | the solver", "x | my")
    new = keys["updated"](old)
    assert "| `split_seed` | integer | none |  |" in new
    assert "`heun` | my; `kvaerno5` is implicit" in new


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("rate", ("dt", "time > 0", "needed")),
        ("model", ("activation", "name, or table", "`leaky-relu`, slope 0.35")),
        ("model", ("credit", "name, or table", "none")),
        ("projections", ("distance", "number > 0", "8")),
        ("projections", ("bias", "`true`, `false`", "none")),
        ("model.spiking", ("tau_synapse", "time ≥ 0", "5 ms")),
        ("credit", ("gain", "number > 0", "1")),
        ("protocol", ("seed", "integer ≥ 0, < 2147483648", "0")),
        ("task.arrays", ("standardise", "`true`, `false`", "`false`")),
        ("task.student-teacher", ("layers", "list of integer", "needed")),
        ("populations", ("size", "`layer`, `above`, `below` or integer ≥ 1", "`layer`")),
    ],
)
def test_types_units_ranges_and_defaults_are_those_of_the_spec(keys, name, row):
    assert row in list(keys["rows"](name))
