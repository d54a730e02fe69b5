"""TOML: positions in tricky files, merging and overriding, and the exact text of every error."""

import copy
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tricky_toml import TRICKY, paths

from neurosim.errors import InputError
from neurosim.specs import toml
from neurosim.specs.toml import Source, Sources, merge, override, parse, parse_assignment

# --- positions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", TRICKY)
def test_every_key_has_its_line(name):
    text, lines = TRICKY[name]
    document = parse(text, "model.toml")
    assert document.data == tomllib.loads(text)
    assert document.lines == lines
    assert set(paths(document.data)) == set(lines)
    assert document.line(("no", "such", "key")) is None


def test_a_missing_key_is_located_at_the_table_around_it():
    document = parse("[a]\n[a.b]\nx = 1\n", "model.toml")
    assert document.locate(("a", "b", "y")) == ("model.toml:2", ("a", "b", "y"))
    assert document.locate(("a", "b", "x", "z")) == ("model.toml:3", ("a", "b", "x", "z"))
    assert document.locate(("c",)) == ("model.toml", ("c",))
    assert document.locate(()) == ("model.toml", ())


MODEL_FILE = "[network]\nwidth = 3\n[dynamics]\ntau = 1\n"
PROTOCOL_FILE = "name = 1\n[model]\nfile = 'm.toml'\n[model.dynamics]\ntau = 2\n"


@pytest.mark.parametrize(
    ("key", "where", "shown"),
    [
        (("name",), "p.toml:1", ("name",)),
        (("model", "dynamics", "tau"), "p.toml:5", ("model", "dynamics", "tau")),
        (("model", "network", "width"), "m.toml:2", ("network", "width")),
        (("model", "network", "depth"), "m.toml:1", ("network", "depth")),
        (("model", "credit"), "m.toml", ("credit",)),
        (("model",), "p.toml:2", ("model",)),
        (("seed",), "p.toml", ("seed",)),
        ((), "p.toml", ()),
    ],
)
def test_sources_name_the_right_file(key, where, shown):
    protocol, model = parse(PROTOCOL_FILE, "p.toml"), parse(MODEL_FILE, "m.toml")
    sources = Sources((Source(protocol), Source(model, at=("model",))))
    assert sources.locate(key) == (where, shown)
    assert sources.where(key) == where


def test_sources_of_a_table_show_the_key_as_its_file_does():
    protocol, model = parse(PROTOCOL_FILE, "p.toml"), parse(MODEL_FILE, "m.toml")
    sources = Sources((Source(protocol, table=("model",)), Source(model)))
    assert sources.locate(("dynamics", "tau")) == ("p.toml:5", ("model", "dynamics", "tau"))
    assert sources.locate(("network", "width")) == ("m.toml:2", ("network", "width"))
    assert sources.line(("network", "width")) == 2
    assert sources.line(("network", "depth")) is None


# --- reading --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            b"a = 1\nb 2\n",
            "model.toml:2: not valid TOML: expected '=' after a key in a key/value pair (column 3)",
        ),
        (
            b"a = 1\na = 2\n",
            "model.toml:2: not valid TOML: a is there already, in line 1; drop one of them",
        ),
        (
            b"[model]\nmu = 1\nx = 2\nmu = 3\n",
            "model.toml:4: not valid TOML: model.mu is there already, in line 2; drop one of them",
        ),
        (
            b"[a]\nx = 1\n[b]\n[a]\n",
            "model.toml:4: not valid TOML: a is there already, in line 1; drop one of them",
        ),
        (
            b"a = 1\na.b = 2\n",
            "model.toml:2: not valid TOML: a is there already, in line 1; drop one of them",
        ),
        (
            b"[[s]]\nx = 1\n[[s]]\nx = 1\n'x' = 2\n",
            "model.toml:5: not valid TOML: s.1.x is there already, in line 4; drop one of them",
        ),
        (
            b"a = 1\na = [2,\n3]\n",
            "model.toml:3: not valid TOML: cannot overwrite a value (column 3)",
        ),
        (
            b"a = {x = 1, x = 2}\n",
            "model.toml:1: not valid TOML: duplicate inline table key 'x' (column 18)",
        ),
        (b"a = 1\nb = [1,\n\n", "model.toml:2: not valid TOML: "),
        (b"a = 20 ms\n", "model.toml:1: not valid TOML: expected newline or end of document"),
        (b"a = \n", "model.toml:1: not valid TOML: invalid value (column 5)"),
        (b"a = 1\n# caf\xe9\n", "model.toml:2: not UTF-8 text; save the file as UTF-8"),
        ("a = 1".encode("utf-16"), "model.toml:1: not UTF-8 text; save the file as UTF-8"),
        (b"a = " + b"[" * 5000, "model.toml: not valid TOML: nested too deeply"),
        (b"a" + b".a" * 200 + b" = 1", "model.toml: not valid TOML: nested too deeply"),
    ],
)
def test_unreadable_content_is_refused_with_its_line(tmp_path, monkeypatch, content, message):
    monkeypatch.chdir(tmp_path)
    Path("model.toml").write_bytes(content)
    with pytest.raises(InputError) as caught:
        toml.read("model.toml")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("modle.toml", "modle.toml: no such file; did you mean 'model.toml'?"),
        ("zzz", "zzz: no such file"),
        ("models/a.toml", "models/a.toml: no such file; there is no folder 'models'"),
        ("folder", "folder: is a folder; expected a TOML file"),
        ("model.toml/a", "model.toml/a: cannot be read: not a directory"),
        ("a\0b", "a\0b: cannot be read: embedded null byte"),
    ],
)
def test_missing_files_are_refused(tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    Path("model.toml").write_text("a = 1\n")
    Path("folder").mkdir()
    with pytest.raises(InputError) as caught:
        toml.read(path)
    assert str(caught.value) == message


def test_a_byte_order_mark_is_allowed(tmp_path):
    file = tmp_path / "model.toml"
    file.write_bytes(b"\xef\xbb\xbfa = 1\n")
    document = toml.read(file)
    assert document.data == {"a": 1}
    assert document.line(("a",)) == 1
    assert document.path == file


# --- merging and overriding -----------------------------------------------------------------------


def test_merge_goes_into_tables_and_replaces_the_rest():
    base = {"a": {"x": 1, "y": [1, 2]}, "b": 1, "c": {"z": 1}}
    patch = {"a": {"y": [3], "w": {"v": 4}}, "b": {"u": 5}, "c": 6}
    before = copy.deepcopy((base, patch))
    merged = merge(base, patch)
    assert merged == {"a": {"x": 1, "y": [3], "w": {"v": 4}}, "b": {"u": 5}, "c": 6}
    merged["a"]["w"]["v"] = merged["a"]["x"] = 0
    assert (base, patch) == before


def test_override_sets_by_dotted_key_and_keeps_objects_as_they_are():
    data = {"model": {"mu": 0.1}, "phases": [{"duration": "1 ms"}, {"duration": "2 ms"}]}
    before = copy.deepcopy(data)
    value = object()
    changed = override(
        data,
        {"model.mu": value, "phases.1.duration": "50 ms", "new.table.x": 1, '"a.b"': 2},
    )
    assert changed == {
        "model": {"mu": value},
        "phases": [{"duration": "1 ms"}, {"duration": "50 ms"}],
        "new": {"table": {"x": 1}},
        "a.b": 2,
    }
    assert data == before


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("phases.2.name", "override phases.2.name: phases has no element 2 (allowed: 0 to 1)"),
        ("phases.-1", "override phases.-1: phases has no element -1 (allowed: 0 to 1)"),
        ("phases.all.x", "override phases.all.x: phases has no element all (allowed: 0 to 1)"),
        ("none.0", "override none.0: none has no element 0 (allowed: none, it is empty)"),
        ("mu.x", "override mu.x: mu is 0.1, not a table"),
        ("", "'' is not a dotted key; expected one such as model.parameters.mu"),
        ("model..mu", "'model..mu' is not a dotted key; expected one such as model.parameters.mu"),
        ('"\\q"', "'\"\\\\q\"' is not a dotted key; expected one such as model.parameters.mu"),
    ],
)
def test_overrides_that_lead_nowhere_are_refused(key, message):
    with pytest.raises(InputError) as caught:
        override({"phases": [{}, {}], "none": [], "mu": 0.1}, {key: 1})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("model.parameters.mu=0.2", "model.parameters.mu", 0.2),
        ("model.parameters.tau_soma=20 ms", "model.parameters.tau_soma", "20 ms"),
        ('model.parameters.tau_soma="20 ms"', "model.parameters.tau_soma", "20 ms"),
        ("model.activation = tanh", "model.activation", "tanh"),
        ("layers=[1, 2]", "layers", [1, 2]),
        ("model={mu = 1}", "model", {"mu": 1}),
        ("phases.0.taught=true", "phases.0.taught", True),
        ("name=a=b", "name", "a=b"),
        ('name=""', "name", ""),
        ("name=[1", "name", "[1"),
        ("name=1\nother=2", "name", "1\nother=2"),
    ],
)
def test_assignments_take_a_toml_value_or_bare_text(text, key, value):
    assert parse_assignment(text) == (key, value)


@pytest.mark.parametrize("text", ["model.parameters.mu", "=1", "model.parameters.mu=", "", "="])
def test_what_is_no_assignment_is_refused(text):
    with pytest.raises(InputError) as caught:
        parse_assignment(text)
    assert str(caught.value) == (
        f"{text!r} is not an assignment; write key=value, such as model.parameters.mu=0.2"
    )


def test_the_key_of_an_assignment_is_checked():
    with pytest.raises(InputError, match="'model mu' is not a dotted key"):
        parse_assignment("model mu=1")


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=5), min_size=1, max_size=4))
def test_dotted_keys_are_split_as_they_were_joined(parts):
    assert toml.split_key(toml.dotted(parts)) == tuple(parts)
