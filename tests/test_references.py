"""References: every source that something which ships names is in the one table."""

import re

import pytest
from command_line import call

import neurosim as ns
from neurosim.reports.references import named_in, table

NO_WORK = {"diffrax", "the user's file"}


def test_every_source_names_works_of_the_table():
    sources = {entry["source"] for entry in ns.catalog()} - {""} - NO_WORK
    assert len(sources) > 40
    for source in sources:
        years = re.findall(r"\b(?:19|20)\d\d\b(?!\.)", source)
        found = [str(table()[key]["year"]) for key in named_in(source)]
        assert sorted(found) == sorted(years), source


def test_every_work_is_named_by_something():
    named = {key for entry in ns.catalog() for key in named_in(entry["source"])}
    assert named == set(table())


def test_all_that_computes_cites_a_work():
    """But the user's own data, and weights that follow no rule of somebody's."""
    kinds = {"models", "protocols", "neurons", "synapses", "tasks", "rules"}
    entries = [entry for entry in ns.catalog() if entry["kind"] in kinds]
    assert {entry["kind"] for entry in entries} == kinds
    without = {entry["name"] for entry in entries if not named_in(entry["source"])}
    assert without == {"arrays", "table", "images", "fixed", "tied"}


def test_a_work_as_text():
    [found] = ns.cite("hodgkin-huxley")
    assert found["text"] == (
        "Hodgkin, A. L. & Huxley, A. F. (1952). A quantitative description of membrane current and "
        "its application to conduction and excitation in nerve. Journal of Physiology, 117, "
        "500–544."
    )


def test_a_name_of_several_works_has_all_in_the_order_of_its_source():
    assert [found["key"] for found in ns.cite("multiplexing")] == ["meulemans2019", "meulemans2020"]


def test_bibtex_says_the_same():
    done = call("cite", "triplet-stdp", "--bibtex")
    assert done.stdout == (
        "@article{pfister2006,\n"
        "  author = {Pfister, Jean-Pascal and Gerstner, Wulfram},\n"
        "  title = {Triplets of spikes in a model of spike timing-dependent plasticity},\n"
        "  journal = {Journal of Neuroscience},\n"
        "  volume = {26},\n"
        "  pages = {9673--9682},\n"
        "  year = {2006},\n"
        "}\n"
    )
    assert call("cite", "triplet-stdp").stdout.startswith("Pfister, J.-P. & Gerstner, W. (2006).")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("mixtur", "mixtur: nothing that ships is called so; did you mean 'mixture'?"),
        ("tanh", "tanh: is from no publication"),
    ],
)
def test_mistakes_are_said_in_words(name, said):
    done = call("cite", name)
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {said}")
