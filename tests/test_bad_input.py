"""Files that are wrong in every way: words and an exit code, never a traceback or half a result.

Cases are drawn by hypothesis, a few hundred here. Thousands, and others every time:
`pytest tests/test_bad_input.py --hypothesis-profile=thorough`.
"""

import copy
import datetime
import gzip
import io
import json
import resource
import struct
import subprocess
import sys
import tomllib
import warnings
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import tomlkit
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_runs import TINY

import neurosim as ns
from neurosim.archives import read_arrays
from neurosim.errors import InputError
from neurosim.tasks.arrays import Arrays
from neurosim.tasks.idx import IdxFolder, read_idx
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.reader import describe
from neurosim.traces.repairing import repair

JUNK = [
    True, 0, 1, -1, 3, 10**6, 10**12, -(10**30), 2**63, 0.5, -0.0, 1e-300, 1e308,
    float("nan"), float("inf"), "", "tanh", "delta", "20 ms", "20 mV", "-5 ms", "1e400 s", "ms",
    "5 Hz", "1e-400 ms", "\x01", "ä" * 1000, "../..", "/dev/zero", "~nobodyelse/x", "a\0b",
    "none", [], [1], [1, "a"], [[1]], ["forward"], [64, 10**9, 10], [3] * 10_000, {}, {"a": 1},
    {"name": "digits"}, {"kind": []}, datetime.date(2020, 1, 1), datetime.time(1, 2, 3),
]  # fmt: skip
"""Values of every type, unit and size, some of them right in places."""

SHIPPED = {
    path.stem: path.read_text(encoding="utf-8")
    for path in (Path(ns.__file__).parents[1] / "models").glob("*.toml")
}
MODEL = SHIPPED["mixture-two-phase"]
OTHERS = [SHIPPED[name] for name in ("mixture-dendrites", "multiplexing", "target-propagation")]
"""Models with other tables: one like another, one of two quantities, one with a credit."""


def refused(call, *names):
    """Whether a call refuses its input; its words then name one of the places."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ns.NeurosimWarning)
            call()
    except InputError as error:
        for message in error.messages:
            assert any(str(name) in message for name in names), message
            assert "Traceback" not in message and len(message) < 5000
        return True
    return False


def places(data, at=()):
    """Every key of nested tables and lists."""
    items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, value in items:
        yield (*at, key)
        if isinstance(value, dict | list):
            yield from places(value, (*at, key))


def read_at_once(value):
    """As it is, with numbers in a list as tomlkit reads them: it takes each one up more slowly."""
    if isinstance(value, dict):
        return {key: read_at_once(inner) for key, inner in value.items()}
    numbers = isinstance(value, list) and set(map(type, value)) == {int}
    return tomlkit.value(str(value)) if numbers else value


@st.composite
def wrong(draw, text):
    """TOML with some keys replaced, removed, renamed or added."""
    data = tomllib.loads(text)

    def junk():
        return copy.deepcopy(draw(st.sampled_from(JUNK)))  # what follows may change it

    for _ in range(draw(st.integers(1, 3))):
        found = list(places(data))
        if not found:
            break
        *tables, key = draw(st.sampled_from(found))
        parent = data
        for name in tables:
            parent = parent[name]
        match draw(st.sampled_from(["replace", "replace", "replace", "remove", "rename", "add"])):
            case "replace":
                parent[key] = junk()
            case "remove":
                del parent[key]
            case "rename" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["tua", "Name", "model", "x y", "ä", ""]))] = (
                    parent.pop(key)
                )
            case "add" if isinstance(parent, dict):
                parent[draw(st.sampled_from(["extra", "use", "mu", "noise", "like", "credit"]))] = (
                    junk()
                )
    return tomlkit.dumps(read_at_once(data)).encode()


@st.composite
def damaged(draw, content):
    """Bytes cut short, flipped, repeated, inserted or in another encoding."""
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, len(content) - 1)))
        match draw(st.sampled_from(["cut", "flip", "flip", "insert", "drop", "fill"])):
            case "cut":
                content = content[:at]
            case "flip" if content:
                flipped = content[at] ^ draw(st.integers(1, 255))
                content = content[:at] + bytes([flipped]) + content[at + 1 :]
            case "insert":
                content = content[:at] + draw(st.binary(max_size=12)) + content[at:]
            case "drop":
                content = content[:at] + content[at + draw(st.integers(1, 64)) :]
            case "fill":
                size = draw(st.sampled_from([1, 4, 8]))
                content = content[:at] + b"\xff" * size + content[at + size :]
    return content


# --- protocols and models ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bad")


@given(content=wrong(TINY) | damaged(TINY.encode()))
def test_a_wrong_protocol_is_refused_in_words(folder, content):
    path = folder / "mine.toml"
    path.write_bytes(content)
    before = sorted(folder.iterdir())
    refused(
        lambda: ns.check(path, level="equilibrium", out=folder / "out.h5"),
        "mine.toml",
        "mixture-two-phase.toml",  # a key of the model that does not fit the protocol's
        "override level",
    )
    assert sorted(folder.iterdir()) == before


@given(content=wrong(MODEL) | damaged(MODEL.encode()))
def test_a_wrong_model_is_refused_in_words(folder, content):
    (folder / "bad-model.toml").write_bytes(content)
    path = folder / "uses.toml"
    path.write_text(TINY.replace('"mixture-two-phase"', '"bad-model.toml"'))
    refused(lambda: ns.check(path, out=folder / "out.h5"), "uses.toml", "bad-model.toml")


@given(content=st.sampled_from(OTHERS).flatmap(wrong))
def test_a_wrong_model_of_another_kind_is_refused_in_words(folder, content):
    (folder / "bad-model.toml").write_bytes(content)
    path = folder / "uses.toml"
    path.write_text(TINY.replace('"mixture-two-phase"', '"bad-model.toml"'))
    shipped = "mixture-two-phase.toml"  # which one of them is like
    refused(lambda: ns.check(path, out=folder / "out.h5"), "uses.toml", "bad-model.toml", shipped)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ('name = "student-teacher"', "", ":13: task: name is missing; expected student-teacher, b"),
        ('name = "student-teacher"', "name = []", ":14: task.name: unknown task '[]' (allowed: "),
        ("train = 64", "trian = 64", ":16: task.trian: unknown key 'trian'; did you mean 'train'?"),
        (
            "train = 64",
            "train = -64",
            ":16: task.train: got -64; expected a whole number of at lea",
        ),
        ("\ntrain = 64", "\nconditioning = 9e9", ":13: task: student-teacher: teacher layer 1, sh"),
        ("layers = [3, 4, 4]\ntrain", "train", ":13: task: student-teacher: layers is missing"),
        ("[3, 4, 4]\ntrain", "[3, true, 4]\ntrain", ":15: task.layers.1: got true; expected a wh"),
        (
            "parameters.mu = 0.2",
            'projections.W.init = "file"\nprojections.W.file = "no.npz"',
            ":10: model.projections.W.file: ",
        ),
    ],
)
def test_mistakes_are_placed_that_only_show_when_tasks_and_weights_are_made(folder, old, new, said):
    path = folder / "mine.toml"
    path.write_text(TINY.replace(old, new, 1))
    with pytest.raises(InputError) as refusal:
        ns.check(path, out=folder / "out.h5")
    assert str(refusal.value).startswith(f"{path}{said}")


LONG = "ä" * 1000


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "../.."}, "override name: '../..' cannot name a trace; expected at most 100"),
        ({"name": LONG}, "cannot name a trace"),
        ({"stages.0.name": "a\0"}, "override stages.0.name: .* holds a null character"),
        ({"model.use": LONG}, "no such model file"),
        ({"task": {"name": "idx", "path": LONG}}, "override task.path: .*: no such folder"),
        (
            {"task": {"name": "idx", "path": "~nobodyelse/x"}},
            "override task.path: .*nobodyelse/x: no such folder",
        ),
        ({"task": {"name": "arrays", "path": LONG}}, "override task.path: .*: cannot be read"),
        ({"task": {"name": "arrays", "path": "a\0"}}, "override task.path: .*: cannot be read"),
    ],
)
def test_names_that_no_system_takes_are_refused(folder, changes, said):
    path = folder / "good.toml"
    path.write_text(TINY)
    with pytest.raises(InputError, match=said):
        ns.check(ns.load_protocol(path, changes), out=folder / "out.h5")


@pytest.mark.parametrize("look", [ns.open_trace, ns.resume, ns.load_protocol, ns.load_model])
def test_a_file_whose_name_no_system_takes_is_not_there(look):
    with pytest.raises(InputError, match=r"no such|cannot be read"):
        look(LONG)


def test_a_trace_may_be_called_like_a_home_directory(traces, monkeypatch):
    monkeypatch.chdir(traces)
    Path("~nobody").write_bytes(Path("whole.h5").read_bytes())
    assert ns.inspect("~nobody")["status"] == "complete"


@pytest.mark.parametrize(
    ("task", "said"),
    [
        (True, "override task: true has the wrong type; expected a table"),
        (object(), "override task: object object without shared and draw"),
    ],
)
def test_what_is_no_task_is_refused(folder, task, said):
    path = folder / "good.toml"
    path.write_text(TINY)
    with pytest.raises(InputError, match=said):
        ns.load_protocol(path, {"task": task})


@given(text=st.text(max_size=40), value=st.sampled_from(JUNK))
def test_a_wrong_override_is_refused_in_words(folder, text, value):
    path = folder / "good.toml"
    path.write_text(TINY)
    keys = repr(text), repr(f"{text}.a")  # tables are keys of their own
    refused(lambda: ns.load_protocol(path, {text: value}), "override", "good.toml", *keys)


@pytest.mark.parametrize(
    "changes",
    [
        {"stages.0.presentations": 10**12},
        {"task.train": 10**12},
        {"model.layers": [3, 10**6, 10**6, 4]},
    ],
    ids=["presentations", "data", "layers"],
)
def test_what_no_memory_holds_is_refused_in_words(folder, changes):
    path = folder / "good.toml"
    path.write_text(TINY)

    def run():
        protocol = ns.load_protocol(path, changes)
        ns.run(protocol, level="equilibrium", out=folder / "out.h5")

    before = sorted(folder.iterdir())
    assert refused(run, "tiny: does not fit into memory: Unable to allocate")
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1", "utf-8-sig"])
def test_another_encoding_is_refused_in_words(folder, encoding):
    path = folder / "mine.toml"
    path.write_bytes(f'description = "Übung"\n{TINY}'.encode(encoding))
    assert refused(lambda: ns.check(path, out=folder / "out.h5"), "mine.toml") or (
        encoding == "utf-8-sig"
    )


# --- data ----------------------------------------------------------------------------------------


def saved(save, **arrays):
    """The bytes of an archive."""
    image = io.BytesIO()
    save(image, **arrays)
    return image.getvalue()


NPZ = saved(np.savez_compressed, x=np.eye(8), y=np.arange(8.0))
PLAIN_NPZ = saved(np.savez, x=np.eye(8), y=np.arange(8), x_test=np.eye(8), y_test=np.arange(8))
IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", 5, 3, 4) + bytes(range(60))


@given(content=damaged(NPZ) | damaged(PLAIN_NPZ) | st.binary(max_size=200))
def test_a_damaged_archive_is_refused_in_words(folder, content):
    path = folder / "data.npz"
    path.write_bytes(content)
    refused(lambda: Arrays(path).draw(np.random.default_rng(0)), "data.npz")
    refused(lambda: read_arrays(path), "data.npz")


@given(content=damaged(IDX) | damaged(gzip.compress(IDX)), suffix=st.sampled_from(["", ".gz"]))
def test_a_damaged_idx_file_is_refused_in_words(folder, content, suffix):
    path = folder / f"images{suffix}"
    path.write_bytes(content)
    refused(lambda: read_idx(path, 3), path.name)


def test_what_a_library_says_of_a_damaged_archive_is_cut_short(folder):
    """zipfile quotes what stands where a name should, and 2000 bytes more."""
    path = folder / "data.npz"
    path.write_bytes(PLAIN_NPZ.replace(b"\x05\x00\x14\x00x.npy", b"\xd0\x07\x14\x00x.npy", 1))
    assert refused(lambda: read_arrays(path), "data.npz: cannot be read as an .npz file of plain n")


def test_a_folder_of_idx_files_that_misfit_is_refused_in_words(folder):
    assert refused(lambda: IdxFolder(folder).draw(np.random.default_rng(0)), folder)


# --- traces -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def traces(tmp_path_factory):
    """A whole trace; one that was stopped, with its checkpoint."""
    place = tmp_path_factory.mktemp("traces")
    (place / "tiny.toml").write_text(TINY)
    protocol = ns.load_protocol(place / "tiny.toml", {"level": "equilibrium"})

    def stop(progress):
        if progress.done >= 3:
            raise KeyboardInterrupt

    ns.run(protocol, out=place / "whole.h5")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("neurosim.runs.loop.CHUNK_SECONDS", 0.0)
        with pytest.raises(KeyboardInterrupt):
            ns.run(protocol, out=place / "cut.h5", progress=stop)
    return place


@pytest.mark.long
@given(data=st.data())
def test_a_damaged_trace_is_refused_in_words(traces, data):
    path = traces / "bad.h5"
    path.write_bytes(data.draw(damaged((traces / "whole.h5").read_bytes())))
    for look in (describe, ns.inspect, repair):
        refused(lambda look=look: look(path), "bad.h5")
    refused(lambda: ns.compare(traces / "whole.h5", path), "bad.h5", "whole.h5")


@given(data=st.data())
def test_a_damaged_checkpoint_is_refused_and_spares_the_trace(traces, data):
    content = (traces / "cut.h5.checkpoint").read_bytes()
    path = traces / "again.h5"
    before = (traces / "cut.h5").read_bytes()
    path.write_bytes(before)
    mutated = data.draw(damaged(content))
    Checkpoint.path(path).write_bytes(mutated)
    if refused(lambda: Checkpoint.load(path), "again.h5.checkpoint"):
        assert refused(lambda: ns.resume(path), "again.h5")
        assert path.read_bytes() == before


def is_time(value):
    """Whether TOML has it and JSON has not."""
    return isinstance(value, datetime.date | datetime.time)


@settings(max_examples=25)
@given(key=st.sampled_from(["done", "origin", "ledger", "test", "diverged"]), data=st.data())
def test_a_checkpoint_of_other_contents_is_refused(traces, key, data):
    path = traces / "again.h5"
    path.write_bytes((traces / "cut.h5").read_bytes())
    saved = Checkpoint.load(traces / "cut.h5")
    junk = data.draw(st.sampled_from([v for v in JUNK if not is_time(v) and v != saved.about[key]]))
    Checkpoint({**saved.about, key: junk}, saved.arrays).save(path)
    assert refused(lambda: ns.resume(path), "again.h5")


def attacks(name, file):
    """Make a trace hostile."""
    metrics, provenance = file["metrics"], file["provenance"]
    match name:
        case "a huge axis":
            metrics.create_dataset("huge", (10**12,), "f8", chunks=(2**20,)).make_scale()
        case "a huge variable":
            metrics.create_dataset("huge", (10**7, 10**5), "f4", chunks=(1, 10**5))
        case "a huge text":
            provenance.create_dataset("huge", (1,), "S2000000000", chunks=(1,))
        case "no protocol":
            del provenance["protocol_json"]
        case "another protocol":
            del provenance["protocol_json"]
            provenance["protocol_json"] = '{"model": 3}'
        case "no JSON":
            file.attrs["summary"] = "{]"
        case "numbers for words":
            file.attrs["seeds"] = 3.5
        case "a link elsewhere":
            file["metrics/else"] = h5py.ExternalLink("/etc/passwd", "/")
        case "a loop":
            file["metrics/loop"] = h5py.SoftLink("/metrics")
        case "other shapes":
            del metrics["effort"]
            metrics["effort"] = np.ones(3)
        case "a pickle":
            del metrics["loss"]
            metrics["loss"] = [b"cos\nsystem\n(S'touch pickled'\ntR."]


ATTACKS = [
    "a huge axis", "a huge variable", "a huge text", "no protocol", "another protocol", "no JSON",
    "numbers for words", "a link elsewhere", "a loop", "other shapes", "a pickle",
]  # fmt: skip


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_hostile_trace_takes_no_memory_and_is_refused_in_words(traces, attack):
    """Within 2 GiB of address space beyond what the process has."""
    path = traces / "hostile.h5"
    path.write_bytes((traces / "whole.h5").read_bytes())
    with h5py.File(path, "r+") as file:
        attacks(attack, file)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + 2**31, hard))
    try:
        found = [
            refused(lambda look=look: look(path), "hostile.h5") for look in (describe, ns.inspect)
        ]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
    if "huge" in attack:
        assert found == [True, True]


def test_a_compression_bomb_is_refused(folder):
    """128 MiB of zeros in a few hundred bytes."""
    path = folder / "bomb.npz"
    header = {"descr": "<f8", "fortran_order": False, "shape": (2**24,)}
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_BZIP2) as archive,
        archive.open("x.npy", "w", force_zip64=True) as member,
    ):
        np.lib.format.write_array_header_1_0(member, header)
        for _ in range(16):
            member.write(bytes(2**23))
    assert path.stat().st_size < 10_000
    assert refused(lambda: read_arrays(path), "bomb.npz")


# --- the command line ----------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["run", "check", "inspect", "resume", "repair"])
def test_no_command_shows_a_traceback(folder, command):
    path = folder / "junk.h5"
    path.write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(range(256)) * 20)
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from neurosim.cli import main; main()",
            command,
            path,
            "--json",
        ],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert "junk.h5" in json.loads(done.stdout)["error"][0]
    assert "Traceback" not in done.stderr
