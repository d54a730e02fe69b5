"""Samples of users' own: tables, images, MATLAB and NumPy files; and what is wrong in them."""

import os
import shutil
from pathlib import Path

import numpy as np
import pandas
import pytest
from own_data import FEATURES, KINDS, NAMES, image_folder, pixels, table_file
from PIL import Image
from scipy.io import savemat

import neurosim as ns
from neurosim.errors import InputError
from neurosim.tasks import Arrays, Images, Table


def rng(seed=0):
    return np.random.default_rng(seed)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def samples(data):
    """All samples, features and class, in an order of their own."""
    x = np.concatenate([data.x_train, data.x_test])
    labels = np.concatenate([data.y_train, data.y_test]).argmax(axis=1)
    return sorted((*row, NAMES[k]) for row, k in zip(x.tolist(), labels, strict=True))


EXPECTED = sorted((*row, kind) for row, kind in zip(FEATURES.tolist(), KINDS, strict=True))


# --- tables --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["mine.csv", "mine.tsv", "mine.parquet"])
def test_tables_come_back_as_written(name):
    if name.endswith(".parquet"):
        pytest.importorskip("pyarrow")
        frame = pandas.DataFrame(FEATURES, columns=["width", "height"]).assign(kind=KINDS)
        frame.to_parquet(name)
    else:
        table_file(Path(name))
    data = Table(name, target="kind").draw(rng())
    assert data.classes and samples(data) == EXPECTED
    assert data.y_test.sum(axis=0).tolist() == [1, 1, 1]  # a fifth of four of each


def test_blank_lines_may_end_a_table_and_may_not_stand_in_it():
    text = table_file(Path("mine.csv")).read_text()
    Path("mine.csv").write_text(text + "\n\n")
    assert samples(Table("mine.csv", target="kind").draw(rng())) == EXPECTED
    Path("mine.csv").write_text(text.replace("\n", "\n\n", 2))
    with pytest.raises(InputError, match=r"row 1 \(below the names\): column 'width' is empty"):
        Table("mine.csv", target="kind").draw(rng())


def test_columns_are_chosen_by_name_and_in_order():
    table_file(Path("mine.csv"))
    data = Table("mine.csv", target="kind", features=["height", "width"]).draw(rng())
    assert sorted(map(tuple, np.concatenate([data.x_train, data.x_test]))) == sorted(
        map(tuple, FEATURES[:, ::-1])
    )
    several = Table("mine.csv", target=["height", "width"], features=["height"])
    with pytest.raises(InputError, match="features: 'height' is the target, too"):
        several.draw(rng())


def test_a_table_of_its_own_is_tested_on():
    rows = [(1, 0.5, 0), (2, 1.5, 1), (3, 2.5, 1)]
    table_file(Path("a.csv"), rows, ("u", "v", "y"))
    table_file(Path("b.csv"), [(1, 9.0, 7)], ("y", "v", "u"))  # in another order
    data = Table("a.csv", test_path="b.csv").draw(rng())
    assert data.x_train.tolist() == [[1, 0.5], [2, 1.5], [3, 2.5]]
    assert data.x_test.tolist() == [[7, 9]] and data.y_test.tolist() == [[0, 1]]
    assert Table("a.csv", test_path="b.csv").shared and not Table("a.csv").shared


@pytest.mark.parametrize(
    ("values", "classes", "expected"),
    [
        ([0, 1, 1, 0], None, [[1, 0], [0, 1], [0, 1], [1, 0]]),
        ([3, 7, 7, 3], True, [[1, 0], [0, 1], [0, 1], [1, 0]]),
        ([3, 7, 7, 3], False, [[3], [7], [7], [3]]),
        ([0.5, 7, 7, 3], None, [[0.5], [7], [7], [3]]),
        (["b", "a", "a", "b"], None, [[0, 1], [1, 0], [1, 0], [0, 1]]),
    ],
)
def test_classes_are_whole_numbers_texts_or_what_is_said(values, classes, expected):
    table_file(Path("a.csv"), [(k, v) for k, v in enumerate(values)], ("x", "y"))
    data = Table("a.csv", test_path="a.csv", classes=classes).draw(rng())
    assert data.y_train.tolist() == expected and data.classes == (classes or len(expected[0]) > 1)


GOOD = [(1, 2, 0), (3, 4, 1), (5, 6, 0), (7, 8, 1)]


@pytest.mark.parametrize(
    ("rows", "head", "keys", "message"),
    [
        (GOOD, ("a", "b", "label"), {}, "unknown column 'y' (allowed: a, b, label), for task.tar"),
        (GOOD, ("a", "b", "y"), {"features": ["a", "c"]}, "unknown column 'c' (allowed: a, b, y)"),
        (
            [*GOOD[:2], (5, "six", 0)],
            ("a", "b", "y"),
            {},
            "row 3 (below the names): column 'b': got 'six'; expected a number",
        ),
        ([*GOOD, (7, "", 0)], ("a", "b", "y"), {}, "row 5 (below the names): column 'b' is empty"),
        ([*GOOD, (7, 8)], ("a", "b", "y"), {}, "row 5 (below the names): column 'y' is empty"),
        ([*GOOD, (7, 8, 1, 9)], ("a", "b", "y"), {}, "Expected 3 fields in line 6, saw 4"),
        (GOOD, ("1", "2", "0"), {}, "its first row is '1, 2, 0'; expected the names of the col"),
        (GOOD, ("a", "a", "y"), {}, "column 2 has the name 'a' again; expected one of its own"),
        (GOOD, ("a", "", "y"), {}, "column 2 has no name"),
        ([], ("a", "b", "y"), {}, "has no rows below the names of its columns"),
        (GOOD, ("a", "b", "y"), {"target": ["a", "b", "y"]}, "has no column beside a, b, y"),
        ([(1, 2, "inf"), *GOOD], ("a", "b", "y"), {}, "y holds 1 values that are not finite"),
        ([(1, 2, 5), *GOOD], ("a", "b", "y"), {}, "3 different labels from 0 to 5; expected the"),
        (
            [(1, 2, "u"), (3, 4, "v")],
            ("a", "b", "y"),
            {"classes": False},
            "y is text, but classes is false; expected real numbers",
        ),
    ],
)
def test_mistakes_in_tables_are_said_with_their_place(rows, head, keys, message):
    table_file(Path("bad.csv"), rows, head)
    with pytest.raises(InputError) as refused:
        Table("bad.csv", **keys).draw(rng())
    assert message in str(refused.value)
    assert "bad.csv: " in str(refused.value)


def test_files_that_are_no_tables_are_refused():
    Path("latin.csv").write_bytes("größe,y\n1,0\n".encode("latin-1"))
    Path("empty.csv").write_text("")
    Path("x.xls").write_text("a")
    Path("x.parquet").write_text("PAR1 or so")
    Path("folder.csv").mkdir()
    for name, message in {
        "latin.csv": "byte 2 is no UTF-8",
        "empty.csv": "cannot be read as a table (No columns to parse from file)",
        "x.xls": "is no table; expected .csv, .tsv or .parquet",
        "x.parquet": "cannot be read as Parquet",
        "folder.csv": "is a folder; expected a table",
        "none.csv": "no such file; expected a table",
    }.items():
        with pytest.raises(InputError) as refused:
            Table(name).draw(rng())
        assert str(refused.value).startswith(name) and message in str(refused.value)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"target": 3}, "table: target: got 3; expected the name of a column, or a list"),
        ({"features": ["a", "a"]}, "table: features: got .*; expected the name of a column"),
        ({"classes": "yes"}, "table: classes: got 'yes'; expected true or false"),
        ({"test_path": ""}, "table: test_path: got ''; expected a path"),
    ],
)
def test_keys_of_tables_are_checked(keys, message):
    with pytest.raises(InputError, match=message):
        Table("a.csv", **keys)


def test_parquet_without_pyarrow_names_the_extra(monkeypatch):
    import sys

    Path("a.parquet").write_text("")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"a\.parquet: .*pip install 'neurosim\[parquet\]'"):
        Table("a.parquet").draw(rng())


# --- images --------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", [False, True])
def test_images_come_back_pixel_by_pixel(split):
    image_folder(Path("images"), split)
    task = Images("images", standardise=False)
    data = task.draw(rng())
    assert data.classes and data.outputs == 3 and task.shared == split
    shown = np.concatenate([data.x_train, data.x_test]) * 255
    labels = np.concatenate([data.y_train, data.y_test]).argmax(axis=1)
    found = sorted(zip(shown.round(9).tolist(), labels.tolist(), strict=True))
    one = [(pixels(k, n).ravel().tolist(), k) for k in range(3) for n in range(4)]
    assert found == sorted(one * (2 if split else 1))
    assert len(data.x_test) == (12 if split else 3)


def test_colors_are_kept_or_become_gray():
    """Gray is 0.299 R + 0.587 G + 0.114 B (ITU-R 601), in whole steps."""
    color = np.zeros((2, 2, 3), np.uint8)
    color[0, 0], color[1, 1] = (200, 100, 50), (0, 0, 255)
    for name in ("a", "b"):
        os.makedirs(f"images/{name}")
        for n in range(2):
            Image.fromarray(color).save(f"images/{name}/{n}.png")
    gray = Images("images", standardise=False, test_fraction=0.5).draw(rng()).x_train[0] * 255
    weighed = color.reshape(4, 3) @ [0.299, 0.587, 0.114]
    np.testing.assert_allclose(gray, weighed, atol=1)
    kept = Images("images", color=True, standardise=False, test_fraction=0.5).draw(rng())
    np.testing.assert_allclose(kept.x_train[0] * 255, color.ravel(), rtol=1e-12)


def test_images_of_many_sizes_are_resized_where_that_is_asked():
    image_folder(Path("images"))
    Image.fromarray(np.full((8, 6), 90, np.uint8)).save("images/eel/9.png")
    with pytest.raises(
        InputError, match=r"eel/9\.png: has 8 × 6 pixels, but .*cat/0\.png has 2 × 3"
    ):
        Images("images").draw(rng())
    data = Images("images", size=[4, 5], standardise=False).draw(rng())
    assert data.inputs == 20
    assert any(np.allclose(row * 255, 90) for row in [*data.x_train, *data.x_test])


def stray(path):
    Path(path).write_text("x")


def deep():
    Image.fromarray(np.full((2, 3), 999, np.uint16)).save("images/dog/9.png")


def moving():
    frames = [Image.fromarray(pixels(0, n)) for n in range(3)]
    frames[0].save("images/dog/9.gif", save_all=True, append_images=frames[1:])


def cut():
    Path("images/dog/9.png").write_bytes(Path("images/dog/0.png").read_bytes()[:40])


def lone():
    for name in ("cat", "dog"):
        shutil.rmtree(f"images/{name}")


def hollow():
    Path("images/fox").mkdir()


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda: stray("images/list.txt"), "images: holds list.txt, which is no folder"),
        (lambda: stray("images/dog/notes.txt"), "images/dog/notes.txt: is no image; expected .png"),
        (deep, "images/dog/9.png: has pixels of more than 8 bits (I;16)"),
        (moving, "images/dog/9.gif: has 3 frames; expected one image"),
        (cut, "images/dog/9.png: cannot be read as an image"),
        (lone, "images: holds eel; expected a folder for each of several classes"),
        (hollow, "images/fox: holds no image; expected some of every class"),
        (lambda: shutil.rmtree("images"), "images: no such folder; expected one with a folder a"),
    ],
)
def test_mistakes_in_folders_of_images_are_said_by_file(harm, message):
    image_folder(Path("images"))
    harm()
    with pytest.raises(InputError) as refused:
        Images("images").draw(rng())
    assert message in str(refused.value)


def test_hidden_files_are_no_images():
    image_folder(Path("images"))
    stray("images/.DS_Store")
    stray("images/cat/.thumbs")
    assert Images("images").draw(rng()).outputs == 3


def test_classes_that_are_tested_only_are_refused():
    image_folder(Path("images"), split=True)
    shutil.copytree("images/test/cat", "images/test/ape")
    with pytest.raises(
        InputError, match="y_test has the label 'ape', which y has not; expected 'c"
    ):
        Images("images").draw(rng())


@pytest.mark.parametrize("size", [[28], 28, [0, 3], "small"])
def test_sizes_of_images_are_rows_and_columns(size):
    with pytest.raises(InputError, match=r"images: size"):
        Images("images", size=size)


# --- arrays of other programs --------------------------------------------------------------------


def test_matlab_counts_from_one():
    """All its numbers are floating-point, and its vectors are matrices."""
    labels = np.array([1.0, 2, 3] * 4)
    for shape in ((12, 1), (1, 12)):
        savemat("m.mat", {"x": FEATURES, "y": labels.reshape(shape)})
        data = Arrays("m.mat", classes=True).draw(rng())
        assert samples(data) == EXPECTED
    numbers = Arrays("m.mat").draw(rng())
    assert not numbers.classes and set(numbers.y_train.ravel()) == {1, 2, 3}


def test_a_folder_of_npy_is_an_archive():
    Path("npy").mkdir()
    for name, array in (("x", FEATURES), ("y", np.array([0, 1, 2] * 4))):
        np.save(f"npy/{name}.npy", array)
    assert samples(Arrays("npy").draw(rng())) == EXPECTED


def test_mistakes_in_files_of_other_programs_are_said():
    for folder, held in (("void", ()), ("mixed", ("x.npy", "y.txt")), ("bad", ("x.npy", "y.npy"))):
        Path(folder).mkdir()
        for name in held:
            stray(f"{folder}/{name}")
    np.save("objects.npy", np.array([{}]), allow_pickle=True)
    Path("objects").mkdir()
    shutil.move("objects.npy", "objects/x.npy")
    stray("text.mat")
    savemat("struct.mat", {"x": {"a": 1}, "y": np.ones(3)})
    savemat("more.mat", {"x": FEATURES, "z": np.ones(3)})
    Path("t.csv").write_text("a,y\n1,0\n")
    for name, message in {
        "void": "void: holds nothing; expected x.npy, y.npy and nothing else but",
        "mixed": "mixed: holds y.txt; expected x.npy, y.npy",
        "bad": "bad/x.npy: cannot be read as an .npy file of plain numbers",
        "objects": "x.npy: holds objects, which are never read",
        "text.mat": "text.mat: cannot be read as a .mat of MATLAB",
        "none.mat": "none.mat: no such file; expected a .mat",
        "struct.mat": "struct.mat: x has type [('a', 'O')]; expected real numbers",
        "more.mat": "more.mat: unknown array 'z'",
        "t.csv": "t.csv: is a table; task.name = 'table' reads those",
    }.items():
        with pytest.raises(InputError) as refused:
            Arrays(name).draw(rng())
        assert message in str(refused.value)


def test_files_of_matlab_7_3_are_told_from_others(tmp_path):
    """They are HDF5 behind a header of MATLAB's own."""
    head = b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM"
    Path("new.mat").write_bytes(head.ljust(512, b"\0") + b"\x89HDF\r\n\x1a\n")
    with pytest.raises(InputError, match=r"new\.mat: is a \.mat of version 7\.3; .*'-v7'"):
        Arrays("new.mat").draw(rng())


# --- in protocols --------------------------------------------------------------------------------


def test_paths_of_tasks_are_meant_from_the_protocol():
    Path("mine").mkdir()
    table_file(Path("mine/train.csv"))
    table_file(Path("mine/test.csv"))
    Path("mine/p.toml").write_text(
        'batch = 3\n[model]\nuse = "mixture-two-phase"\nlayers = [2, 4, 3]\n[task]\n'
        'name = "table"\npath = "train.csv"\ntest_path = "test.csv"\ntarget = "kind"\n'
        'standardise = true\n[[stages]]\nname = "training"\nepochs = 1\n[[stages.phases]]\n'
        'name = "free"\n[[stages.phases]]\nname = "learning"\nteaching = "frozen"\n'
        'plastic = ["forward"]\n[record]\npresentations = 0\n'
    )
    report = ns.check(ns.load_protocol("mine/p.toml", {"level": "equilibrium"}))
    assert report["samples"] == {"train": 12, "test": 12}
    assert report["protocol"]["task"]["test_path"] == str(Path("mine/test.csv").resolve())
    there = {"level": "equilibrium", "task.test_path": "mine/test.csv"}
    assert ns.check(ns.load_protocol("mine/p.toml", there))["samples"]["test"] == 12
