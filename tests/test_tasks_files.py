"""The tasks that read a user's files: what comes back, and what is refused by name."""

import gzip
import io
import re
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import neurosim as ns
from neurosim.errors import InputError
from neurosim.tasks import Arrays, Cifar10, IdxFolder
from neurosim.tasks.idx import read_idx

MNIST = Path(__file__).parents[2] / "shared/data/mnist-10k"


def rng(seed=0):
    return np.random.default_rng(seed)


# CIFAR-10's binary files


def test_cifar10_files_come_back_as_written(cifar10_folder):
    data = Cifar10(cifar10_folder, standardise=False).draw(rng())
    assert data.x_train.shape == (20, 3072) and data.x_test.shape == (4, 3072)
    labels = [(number + k) % 4 for number in range(5) for k in range(4)]
    assert data.y_train.argmax(axis=1).tolist() == labels
    assert data.y_test.argmax(axis=1).tolist() == [1, 2, 3, 0] and data.y_test.shape == (4, 10)
    maps = (data.x_train * 255).reshape(20, 3, 32, 32)
    for n, image in enumerate(maps):
        for color in range(3):
            np.testing.assert_allclose(image[color], 12 * (n // 4) + 3 * (n % 4) + color)


def test_cifar10_takes_the_first_images(cifar10_folder):
    part = Cifar10(cifar10_folder, train=6, test=1, standardise=False).draw(rng())
    assert part.y_train.argmax(axis=1).tolist() == [0, 1, 2, 3, 1, 2] and len(part.x_test) == 1
    with pytest.raises(InputError, match=r"cifar10: test: got 5; expected at most the 4 in the"):
        Cifar10(cifar10_folder, test=5).draw(rng())


def test_the_input_can_be_what_is_learned(cifar10_folder):
    data = Cifar10(cifar10_folder, target="input").draw(rng())
    np.testing.assert_array_equal(data.y_train, data.x_train)
    np.testing.assert_array_equal(data.y_test, data.x_test)
    assert not data.classes and data.outputs == Cifar10(cifar10_folder, target="input").outputs


def flat(folder, **changes):
    given = {"task.path": str(folder), "record.presentations": 0} | changes
    return ns.load_protocol("difference-target-propagation-cifar10", given)


def test_cifar10_flat_is_as_its_authors_have_it(cifar10_folder):
    """3072-1000-1000-1000-10, pixels within [0, 1] [Lee et al. 2015, section 3.1]."""
    spec = flat(cifar10_folder).spec
    assert spec.model.layers == [3072, 1000, 1000, 1000, 10]
    assert spec.model.activation.name == "tanh" and spec.model.credit.name == "dtp"
    assert spec.task["standardise"] is False


@pytest.mark.long
def test_colors_are_learned_from_a_folder_of_cifar10(cifar10_folder, tmp_path):
    """Four classes, each a color of its own, by difference target propagation."""
    colors = [(200, 50, 50), (50, 200, 50), (50, 50, 200), (150, 150, 150)]
    noise = np.random.default_rng(3)
    for file in cifar10_folder.glob("*.bin"):
        images = []
        for k in range(20):
            pixels = np.repeat(colors[k % 4], 1024) + noise.integers(-40, 40, 3072)
            images.append(bytes([k % 4]) + pixels.astype(np.uint8).tobytes())
        file.write_bytes(b"".join(images))
    changes = {"model.layers": [3072, 50, 50, 50, 10], "batch": 10, "stages.0.epochs": 12}
    run = ns.run(flat(cifar10_folder, **changes), out=tmp_path / "run.h5", progress=False)
    assert run.metrics["test_error"] < 0.3  # by chance 0.75


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (bytes(3072), r"data_batch_2\.bin: 3072 bytes; expected a multiple of 3073"),
        (b"", r"data_batch_2\.bin: 0 bytes; expected a multiple"),
        (bytes(3073) + b"\x0c" + bytes(3072), r"image 1 has the label 12; expected 0 to 9"),
    ],
)
def test_damaged_cifar10_files_are_refused_by_name(cifar10_folder, content, message):
    (cifar10_folder / "data_batch_2.bin").write_bytes(content)
    with pytest.raises(InputError, match=message):
        Cifar10(cifar10_folder).draw(rng())


def test_missing_cifar10_files_and_folders_are_named(cifar10_folder):
    with pytest.raises(InputError, match=r"nowhere: no such folder; expected one with the binary"):
        Cifar10(cifar10_folder / "nowhere").draw(rng())
    (cifar10_folder / "test_batch.bin").unlink()
    with pytest.raises(
        InputError, match=r"holds data_batch_1\.bin, .*; expected test_batch\.bin as"
    ):
        Cifar10(cifar10_folder).draw(rng())


# IDX files


def test_idx_files_come_back_as_written(idx_folder, idx_images):
    data = IdxFolder(idx_folder, standardise=False).draw(rng())
    x_train, labels_train, x_test, labels_test = idx_images
    np.testing.assert_allclose(data.x_train * 255, x_train.reshape(5, 6), rtol=1e-15)
    np.testing.assert_allclose(data.x_test * 255, x_test.reshape(3, 6), rtol=1e-15)
    assert data.y_train.shape == (5, 3) and data.y_test.shape == (3, 3)
    assert np.array_equal(data.y_train.argmax(axis=1), labels_train)
    assert np.array_equal(data.y_test.argmax(axis=1), labels_test)


def test_idx_takes_the_first_images(idx_folder):
    whole = IdxFolder(idx_folder, standardise=False).draw(rng())
    part = IdxFolder(idx_folder, train=2, test=1, standardise=False).draw(rng())
    assert np.array_equal(part.x_train, whole.x_train[:2])
    assert np.array_equal(part.y_train, whole.y_train[:2])
    assert np.array_equal(part.x_test, whole.x_test[:1])
    with pytest.raises(InputError, match=r"idx: train: got 6; expected at most the 5 in the files"):
        IdxFolder(idx_folder, train=6).draw(rng())


LABELS = bytes([0, 0, 8, 1]) + struct.pack(">I", 5) + bytes([0, 1, 2, 1, 0])
IMAGES = bytes([0, 0, 8, 3]) + struct.pack(">3I", 5, 2, 3) + bytes(30)
# No time of packing: it would be part of the names of the tests, which every worker must agree on.
SQUASHED = gzip.compress(IMAGES, mtime=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("train-labels-idx1-ubyte", IMAGES, "'00 00 08 03'; expected '00 00 08 01'"),
        ("train-images-idx3-ubyte", b"\1" + IMAGES[1:], "starts with the bytes '01 00 08 03'"),
        ("train-images-idx3-ubyte", b"\0\0\x0d" + IMAGES[3:], "'00 00 0d 03'; expected '00 00 08"),
        ("train-images-idx3-ubyte", b"", "starts with the bytes ''"),
        ("train-images-idx3-ubyte", IMAGES[:10], "ends after 10 bytes; expected a header of 16"),
        ("train-images-idx3-ubyte", SQUASHED, r"its name must end in \.gz"),
        ("train-images-idx3-ubyte", IMAGES[:-1], "29 values after the header; expected 30"),
        ("train-images-idx3-ubyte", IMAGES + b"\0", "more than 30 values after the header"),
        ("train-images-idx3-ubyte", IMAGES[:4] + b"\xff" * 12, "the header announces 79228162458"),
        ("train-images-idx3-ubyte", IMAGES[:4] + bytes(12), r"images of shape \(0, 0, 0\)"),
        ("train-labels-idx1-ubyte", LABELS[:4] + bytes(4), "0 labels; expected 5"),
        ("train-labels-idx1-ubyte", LABELS[:7] + bytes([4]) + LABELS[8:-1], "4 labels; expected 5"),
        ("train-images-idx3-ubyte.gz", IMAGES, "no intact gzip file"),
        ("train-images-idx3-ubyte.gz", SQUASHED[:-9], "no intact gzip file"),
        ("train-images-idx3-ubyte.gz", SQUASHED[:-8] + bytes(8), r"no intact gzip file \(CRC"),
        ("train-images-idx3-ubyte.gz", SQUASHED[:10] + b"\xff" * 9, "no intact gzip file"),
        (
            "train-images-idx3-ubyte.gz",
            gzip.compress(IMAGES[:4] + b"\xff" * 12, mtime=0),
            "the header announces 79228162458",
        ),
        (
            "train-images-idx3-ubyte.gz",
            gzip.compress(IMAGES + bytes(10**6), mtime=0),
            "more than 30 values after the header",
        ),
        ("t10k-images-idx3-ubyte", IMAGES[:8] + struct.pack(">2I", 3, 2) + bytes(30), r"\(3, 2\)"),
    ],
)
def test_damaged_idx_files_are_refused_by_name(tmp_path, name, content, message):
    for part in ("train", "t10k"):
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(IMAGES)
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(LABELS)
    (tmp_path / name.removesuffix(".gz")).unlink()
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as refusal:
        IdxFolder(tmp_path).draw(rng())
    assert str(tmp_path) in str(refusal.value)


def test_missing_idx_files_and_folders_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere: no such folder"):
        IdxFolder(tmp_path / "nowhere").draw(rng())
    with pytest.raises(InputError, match=r"holds nothing; expected train-images-idx3-ubyte or"):
        IdxFolder(tmp_path).draw(rng())
    (tmp_path / "emnist.zip").touch()
    with pytest.raises(InputError, match=r"holds emnist\.zip; expected"):
        IdxFolder(tmp_path).draw(rng())


@pytest.mark.parametrize("header", [IMAGES[:16], IMAGES[:4] + struct.pack(">3I", 2**31, 28, 28)])
def test_a_packed_file_cannot_take_more_memory_than_its_header_and_size_warrant(tmp_path, header):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(header + bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(InputError, match="bomb"):
        read_idx(path, 3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    # Buffers of the decompressor, far below the 50 MB packed.
    assert peak < 5_000_000


@pytest.mark.skipif(not MNIST.is_dir(), reason=f"no MNIST files in {MNIST}")
def test_mnist():
    data = IdxFolder(MNIST, train=2000).draw(rng())
    assert data.x_train.shape == (2000, 784) and data.x_test.shape == (10_000, 784)
    labels = data.y_test.argmax(axis=1)
    # The published test labels: how they begin, and how many there are of each digit.
    assert labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    counts = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(labels).tolist() == counts
    assert np.abs(data.x_test).max() < 5


# A user's own arrays


def test_arrays_with_labels_are_split_by_class(npz_archive):
    data = Arrays(npz_archive).draw(rng())
    assert data.classes and data.y_test.sum(axis=0).tolist() == [2, 2, 2, 2]
    with np.load(npz_archive) as file:
        x, y = file["x"], file["y"]
    label_of = {tuple(row): label for row, label in zip(x, y, strict=True)}
    rows = [*map(tuple, data.x_train), *map(tuple, data.x_test)]
    assert sorted(rows) == sorted(label_of)
    targets = [*data.y_train.argmax(axis=1), *data.y_test.argmax(axis=1)]
    assert targets == [label_of[row] for row in rows]
    other = Arrays(npz_archive, split_seed=1).draw(rng())
    assert not np.array_equal(data.x_train, other.x_train)


def test_arrays_are_standardised_feature_by_feature(npz_archive):
    x = Arrays(npz_archive, standardise=True).draw(rng()).x_train
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(x.std(axis=0), 1, atol=1e-12)


@pytest.mark.parametrize(
    ("y", "classes", "targets"),
    [
        (np.array([0, 1, 1, 0], np.uint8), True, [[1, 0], [0, 1], [0, 1], [1, 0]]),
        (np.array([True, False, True, True]), True, [[0, 1], [1, 0], [0, 1], [0, 1]]),
        (np.array([0.0, 1.5, 1.0, 0.0]), False, [[0], [1.5], [1], [0]]),
        (np.array([[3, 4]] * 4), False, [[3, 4]] * 4),
    ],
)
def test_arrays_with_their_own_test_split(tmp_path, y, classes, targets):
    path = tmp_path / "mine.npz"
    x = np.arange(12).reshape(4, 3)
    np.savez(path, x=x, y=y, x_test=x[2:], y_test=y[2:])
    data = Arrays(path).draw(rng())
    assert data.classes is classes
    assert np.array_equal(data.x_train, x) and np.array_equal(data.x_test, x[2:])
    assert np.array_equal(data.y_train, targets) and np.array_equal(data.y_test, targets[2:])


X, Y = np.ones((4, 3)), np.array([0, 1, 1, 0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": X}, "array 'y' is missing; it holds x; expected x, y"),
        ({"x": X, "y": Y, "x_test": X}, "array 'y_test' is missing"),
        ({"x": X, "y": Y, "xtest": X}, "unknown array 'xtest'; did you mean 'x_test'"),
        ({"x": np.array([[{}]]), "y": Y}, "cannot be read as an .npz file of plain numbers"),
        ({"x": X.astype(str), "y": Y}, "x has type <U32; expected real numbers"),
        ({"x": X + 1j, "y": Y}, "x has type complex128"),
        ({"x": np.ones(4), "y": Y}, r"x has shape \(4,\); expected \(n, n_in\)"),
        ({"x": X, "y": np.ones((4, 2, 2))}, r"y has shape \(4, 2, 2\)"),
        ({"x": X, "y": Y, "x_test": X[0], "y_test": Y}, r"x_test has shape \(3,\)"),
        ({"x": X[:0], "y": Y[:0]}, r"x has shape \(0, 3\)"),
        ({"x": X * np.nan, "y": Y}, "x holds 12 values that are not finite"),
        ({"x": X, "y": Y + np.inf}, "y holds 4 values that are not finite"),
        ({"x": X, "y": Y[:3]}, r"x has shape \(4, 3\) and y \(3,\); expected as many samples"),
        (
            {"x": X, "y": Y, "x_test": X[:, :2], "y_test": Y},
            r"x has shape \(4, 3\) and x_test \(4, 2\); expected as many features",
        ),
        (
            {"x": X, "y": X, "x_test": X, "y_test": X[:, :2]},
            r"y has shape \(4, 3\) and y_test \(4, 2\); expected as many targets",
        ),
        ({"x": X, "y": Y, "x_test": X, "y_test": Y / 2}, "types int64 and float64; expected int"),
        ({"x": X, "y": Y - 1}, "y has 2 different labels from -1 to 0; expected the labels 0 …"),
        ({"x": X, "y": Y * 10**9}, "2 different labels from 0 to 1000000000"),
    ],
)
def test_unfit_arrays_are_refused(tmp_path, arrays, message):
    path = tmp_path / "mine.npz"
    np.savez(path, **arrays)
    with pytest.raises(InputError, match=message) as refusal:
        Arrays(path).draw(rng())
    assert str(path) in str(refusal.value)


def test_files_that_are_no_archive_are_refused(tmp_path, npz_archive):
    np.save(tmp_path / "bare.npy", X)
    (tmp_path / "text.npz").write_text("x, y")
    (tmp_path / "cut.npz").write_bytes(npz_archive.read_bytes()[:-30])
    with zipfile.ZipFile(tmp_path / "raw.npz", "w") as raw:
        raw.writestr("x", "1, 2")
        raw.writestr("y", "1, 2")
    for name, message in {
        "nowhere.npz": "no such file",
        "bare.npy": "holds a bare array; expected an .npz file",
        "text.npz": "cannot be read as an .npz file",
        "cut.npz": "cannot be read as an .npz file",
        "raw.npz": "cannot be read as an .npz file",
    }.items():
        with pytest.raises(InputError, match=re.escape(message)):
            Arrays(tmp_path / name).draw(rng())


def test_every_damaged_byte_is_refused_or_harmless(tmp_path):
    path, raw = tmp_path / "mine.npz", io.BytesIO()
    np.savez(raw, x=X, y=Y)
    refused = 0
    for position, byte in enumerate(raw.getvalue()):
        content = bytearray(raw.getvalue())
        content[position] = byte ^ 0xFF
        path.write_bytes(content)
        try:
            Arrays(path, test_fraction=0.5).draw(rng())
        except InputError:
            refused += 1
    # At least what the checksums cover: the values, and 128 bytes of header for each array.
    assert refused >= X.nbytes + Y.nbytes + 2 * 128
