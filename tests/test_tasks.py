"""The tasks: what they draw against independent oracles, and what they refuse."""

import dataclasses
import math

import numpy as np
import pytest
from own_data import image_folder, table_file

from neurosim.errors import InputError
from neurosim.tasks import (
    TASKS,
    Arrays,
    Bars,
    Cifar10,
    Data,
    Digits,
    IdxFolder,
    Images,
    StudentTeacher,
    Table,
    Xor,
    YinYang,
    checks,
    near_teacher,
)
from neurosim.tasks.data import one_hot, split, standardise


def rng(seed=0):
    return np.random.default_rng(seed)


# What every task must do


@pytest.fixture(params=TASKS)
def task(request, idx_folder, npz_archive, tmp_path):
    tasks = {
        "student-teacher": lambda: StudentTeacher((5, 4, 3), train=30, test=20),
        "bars": Bars,
        "xor": Xor,
        "yin-yang": lambda: YinYang(train=30, test=20),
        "digits": Digits,
        "idx": lambda: IdxFolder(idx_folder),
        "cifar10": lambda: Cifar10(request.getfixturevalue("cifar10_folder")),
        "arrays": lambda: Arrays(npz_archive),
        "table": lambda: Table(table_file(tmp_path / "mine.csv"), target="kind"),
        "images": lambda: Images(image_folder(tmp_path / "images")),
    }
    return tasks[request.param]()


def arrays_of(data):
    return [data.x_train, data.y_train, data.x_test, data.y_test, *(data.teacher or ())]


def same(one, other):
    pairs = list(zip(arrays_of(one), arrays_of(other), strict=True))
    assert len(pairs) >= 4
    return all(np.array_equal(a, b) for a, b in pairs)


def test_a_task_is_a_function_of_its_generator(task):
    assert same(task.draw(rng(3)), task.draw(rng(3)))


def test_shared_says_whether_all_seeds_get_the_same_data(task):
    assert same(task.draw(rng(3)), task.draw(rng(4))) == task.shared


def test_sizes_known_in_advance_are_those_of_the_data(task):
    data = task.draw(rng())
    assert task.inputs in (None, data.inputs)
    assert task.outputs in (None, data.outputs)
    assert all(array.dtype == np.float64 for array in arrays_of(data))


@pytest.mark.parametrize("name", TASKS)
def test_a_task_says_what_it_is_and_where_it_comes_from(name):
    for line in (TASKS[name].summary, TASKS[name].source):
        assert line and "\n" not in line


# Data and the shared steps


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x_train": np.ones(4)}, r"x_train has shape \(4,\); expected two axes"),
        ({"x_test": np.empty((0, 2))}, r"x_test has shape \(0, 2\)"),
        ({"y_test": np.array([[0, np.nan, 1]])}, "y_test holds 1 values that are not finite"),
        ({"y_train": np.eye(3)}, "samples of x_train and y_train are 4 and 3"),
        ({"x_test": np.ones((1, 5))}, "features of x_train and x_test are 2 and 5"),
        ({"y_test": np.array([[1, 1, 0]])}, "y_test is not one-hot"),
        ({"y_test": np.array([[0, 0.5, 0.5]])}, "y_test is not one-hot"),
    ],
)
def test_data_that_do_not_fit_are_refused(changes, message):
    fitting = {
        "x_train": np.ones((4, 2)),
        "y_train": np.eye(3)[[0, 1, 2, 2]],
        "x_test": np.ones((1, 2)),
        "y_test": np.eye(3)[:1],
    }
    assert Data(**fitting, classes=True).outputs == 3
    with pytest.raises(InputError, match=message):
        Data(**(fitting | changes), classes=True)


def test_one_hot():
    assert one_hot(np.array([2, 0]), 3).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_standardisation_is_that_of_scikit_learn_but_for_constant_features():
    from sklearn.preprocessing import StandardScaler

    x_train, x_test = rng(5).normal(4, 3, size=(50, 6)), rng(6).normal(4, 3, size=(20, 6))
    x_train[:, 2] = 7.1
    scaler = StandardScaler().fit(x_train)
    varies = np.arange(6) != 2
    for ours, x in zip(standardise(x_train, x_test), (x_train, x_test), strict=True):
        # Rounding of sums of 50 numbers.
        np.testing.assert_allclose(ours[:, varies], scaler.transform(x)[:, varies], atol=1e-12)
        assert not ours[:, 2].any()


def test_a_common_scale_keeps_the_ratios_of_the_variances():
    spread = np.array([1.0, 2.0, 0.0, 5.0])
    x_train, x_test = rng(7).normal(4, 1, (60, 4)) * spread, np.full((1, 4), 4.0)
    z_train, z_test = standardise(x_train, x_test, common_scale=True)
    varies = spread > 0
    assert z_train[:, varies].var(axis=0).mean() == pytest.approx(1, abs=1e-12)
    before, after = x_train.var(axis=0)[varies], z_train.var(axis=0)[varies]
    np.testing.assert_allclose(after / after[0], before / before[0], rtol=1e-12)
    np.testing.assert_allclose(z_train.mean(axis=0), 0, atol=1e-12)
    assert not z_train[:, 2].any() and not z_test[:, 2].any()


@pytest.mark.parametrize("stratified", [False, True])
def test_a_split_is_a_reproducible_partition(stratified):
    labels = np.repeat([0, 1, 2], [50, 30, 5])

    def halves(seed, part=0.2):
        return split("part", 85, part, rng(seed), labels if stratified else None)

    train, test = halves(4)
    assert sorted([*train, *test]) == list(range(85))
    assert len(test) == 17
    again = halves(4)
    assert np.array_equal(train, again[0]) and np.array_equal(test, again[1])
    assert not np.array_equal(np.sort(test), np.sort(halves(5)[1]))
    if stratified:
        assert np.bincount(labels[test]).tolist() == [10, 6, 1]
    rest, held = halves(4, 19)
    assert sorted([*rest, *held]) == list(range(85)) and len(held) == 19
    if stratified:  # 19/85 of each class is 11.2, 6.7 and 1.1
        assert np.bincount(labels[held]).tolist() == [11, 7, 1]


@pytest.mark.parametrize(
    ("part", "words"),
    [
        (0.1, "part = 0.1 of 3 samples holds out 0 and leaves 3 to train on; expected at least"),
        (3, "part = 3 of 3 samples holds out 3 and leaves 0 to train on; expected at least"),
    ],
)
def test_a_split_with_an_empty_side_is_refused(part, words):
    with pytest.raises(InputError, match=words):
        split("part", 3, part, rng())


def test_a_validation_part_is_taken_from_the_training_samples_alone(task):
    if isinstance(task, Bars | Xor):  # all that there is to learn is tested
        return
    if hasattr(task, "standardise"):
        task = dataclasses.replace(task, standardise=False)
    whole = task.draw(rng(3)).x_train
    for part in (0.4, 2):
        data = dataclasses.replace(task, validation=part).draw(rng(3))
        both = np.concatenate([data.x_train, data.x_test])
        assert np.array_equal(*(a[np.lexsort(a.T)] for a in (both, whole)))
        exact = part * len(whole) if part < 1 else part
        rounded = data.outputs / 2 if part < 1 and data.classes else 0.5
        assert abs(len(data.x_test) - exact) <= (0 if part == 2 else rounded)


def test_every_seed_holds_out_as_many_as_seeds_are_run_side_by_side(task):
    if isinstance(task, Bars | Xor):
        return
    sizes = {len(dataclasses.replace(task, validation=0.3).draw(rng(k)).x_test) for k in range(5)}
    assert len(sizes) == 1


def test_every_seed_has_a_split_of_its_own_unless_told_which():
    one, other = (Digits(split_seed=4).draw(rng(seed)) for seed in (0, 1))
    assert same(one, other) and Digits(split_seed=4).shared
    one, other = (Digits(standardise=False).draw(rng(seed)) for seed in (0, 1))
    assert not np.array_equal(one.x_test, other.x_test) and not Digits().shared
    for data in (one, other):  # each a split of the same images
        together = np.concatenate([data.x_train, data.x_test])
        reference = np.concatenate([one.x_train, one.x_test])
        assert np.array_equal(*(a[np.lexsort(a.T)] for a in (together, reference)))


@pytest.mark.parametrize("part", [0, 1.0, 1.5, -2, True, "0.2"])
def test_a_validation_part_that_is_none_is_refused(part):
    with pytest.raises(InputError, match=r"digits: validation: got .*; expected a share between"):
        Digits(validation=part)


# Digits


def test_digits_are_those_of_scikit_learn():
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    data = Digits(standardise=False).draw(rng())
    x = np.vstack([data.x_train, data.x_test]) * 16
    y = np.vstack([data.y_train, data.y_test]).argmax(axis=1)
    ours, theirs = np.column_stack([x, y]), np.column_stack([pixels, labels])
    assert np.array_equal(ours[np.lexsort(ours.T)], theirs[np.lexsort(theirs.T)])
    held_out = np.bincount(data.y_test.argmax(axis=1))
    np.testing.assert_array_equal(held_out, np.round(0.2 * np.bincount(labels)))


def test_digits_are_standardised_on_the_training_split():
    raw, data = Digits(standardise=False).draw(rng()), Digits().draw(rng())
    varies = np.ptp(raw.x_train, axis=0) > 0
    assert 0 < np.count_nonzero(~varies) < 10
    np.testing.assert_allclose(data.x_train.mean(axis=0), 0, atol=1e-12)
    assert data.x_train[:, varies].var(axis=0).mean() == pytest.approx(1, abs=1e-12)
    assert not data.x_train[:, ~varies].any() and not data.x_test[:, ~varies].any()
    # No almost constant pixel is blown up.
    assert np.abs(data.x_test).max() < 5


def test_digits_split_depends_on_its_own_seed():
    assert not same(Digits().draw(rng()), Digits(split_seed=1).draw(rng()))


# Parameters


@pytest.mark.parametrize(
    ("task", "parameters", "message"),
    [
        (StudentTeacher, {"layers": (6,)}, r"layers: got \(6,\); expected sizes n_0 … n_L"),
        (StudentTeacher, {"layers": (6, 0)}, r"layers\[1\]: got 0; expected a whole number of at"),
        (StudentTeacher, {"train": 0}, "student-teacher: train: got 0"),
        (YinYang, {"test": 0}, "yin-yang: test: got 0"),
        (StudentTeacher, {"test": True}, "student-teacher: test: got true"),
        (StudentTeacher, {"conditioning": -1.0}, r"conditioning: got -1\.0"),
        (StudentTeacher, {"conditioning": math.nan}, "conditioning: got nan"),
        (StudentTeacher, {"activation": "tahn"}, "did you mean 'tanh'"),
        (StudentTeacher, {"activation": ("tanh", 2)}, r"activation: got \('tanh', 2\)"),
        (StudentTeacher, {"activation": ("leaky-relu", "a")}, "slope of the leaky ReLU: got 'a'"),
        (YinYang, {"train": -5}, "yin-yang: train: got -5"),
        (Digits, {"test_fraction": 1.0}, r"digits: test_fraction: got 1\.0; expected a number bet"),
        (Digits, {"split_seed": -1}, "digits: split_seed: got -1"),
        (Cifar10, {"path": ".", "test": 0}, "cifar10: test: got 0"),
        (IdxFolder, {"path": ""}, "idx: path: got ''; expected a path"),
        (IdxFolder, {"path": ".", "train": 0}, "idx: train: got 0"),
        (Arrays, {"path": "a.npz", "test_fraction": 0.0}, r"arrays: test_fraction: got 0\.0"),
    ],
)
def test_parameters_are_checked(task, parameters, message):
    defaults = {"layers": (6, 6, 6)} if task is StudentTeacher else {}
    with pytest.raises(InputError, match=message):
        task(**(defaults | parameters))


@pytest.mark.parametrize(
    ("check", "value", "message"),
    [
        (checks.layer_sizes, "666", "here: got '666'; expected sizes n_0 … n_L"),
        (
            checks.layer_sizes,
            (6, 6.0),
            r"here\[1\]: got 6\.0; expected a whole number of at least 1",
        ),
        (checks.switch, "yes", "here: got 'yes'; expected true or false"),
        (checks.path, 3, "here: got 3; expected a path"),
        (checks.real, "1", "here: got '1'; expected a finite number of at least 0"),
        (checks.fraction, True, "here: got true; expected a number between 0 and 1"),
    ],
)
def test_parameters_of_a_wrong_type_are_refused(check, value, message):
    with pytest.raises(InputError, match=message):
        check("here", value)


def test_a_negative_distance_is_refused():
    with pytest.raises(InputError, match=r"near-teacher: distance: got -1\.0"):
        near_teacher([np.eye(2)], -1.0, 0.4, rng())


def test_an_activation_must_be_elementwise_and_finite():
    with pytest.raises(InputError, match=r"into \(\); expected an elementwise function"):
        StudentTeacher((6, 6, 6), activation=np.sum).draw(rng())
    with pytest.raises(InputError, match="gave 11520 values that are not finite"):
        StudentTeacher((6, 6, 6), activation=lambda a: np.full_like(a, math.inf)).draw(rng())
