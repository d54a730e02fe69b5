"""The tasks: what they draw against independent oracles, and what they refuse."""

import dataclasses
import math

import jax.numpy as jnp
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
from neurosim.tasks.student_teacher import TRANSFERS
from neurosim.tasks.yin_yang import region


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


# Student-teacher


def forward_by_hand(teacher, x, slope):
    """The teacher unit by unit in plain Python, for one sample."""
    h = list(x)
    for i, w in enumerate(teacher):
        h = [math.fsum(weight * below for weight, below in zip(row, h, strict=True)) for row in w]
        if i < len(teacher) - 1:
            h = [a if a > 0 else slope * a for a in h]
    return h


@pytest.mark.parametrize("layers", [(6, 6, 6), (6, 6, 4), (3, 5, 4, 2), (2, 3)])
def test_targets_are_the_output_of_the_teacher(layers):
    data = StudentTeacher(layers, train=7, test=3).draw(rng(8))
    assert [w.shape for w in data.teacher] == list(zip(layers[1:], layers[:-1], strict=True))
    x_all, y_all = np.vstack([data.x_train, data.x_test]), np.vstack([data.y_train, data.y_test])
    assert len(x_all) == 10
    for x, y in zip(x_all, y_all, strict=True):
        np.testing.assert_allclose(y, forward_by_hand(data.teacher, x, 0.35), rtol=1e-12)


def test_inputs_are_standard_normal():
    x = StudentTeacher((6, 6, 6), train=20_000).draw(rng(9)).x_train
    # Five standard errors of the mean and of the variance of 120 000 numbers.
    assert abs(x.mean()) < 5 / math.sqrt(x.size)
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / x.size)


@pytest.mark.parametrize("conditioning", [0.4, 2.0])
@pytest.mark.parametrize("layers", [(6, 6, 6), (6, 6, 4), (2, 4, 4)])
def test_teachers_and_students_are_as_well_conditioned_as_asked(layers, conditioning):
    def products(weights):
        return [math.prod(np.linalg.svd(w, compute_uv=False)[[0, -1]]) for w in weights]

    task = StudentTeacher(layers, train=1, test=1, conditioning=conditioning)
    generator = rng(10)
    for _ in range(20):
        teacher = task.draw(generator).teacher
        student = near_teacher(teacher, 8.0, conditioning, generator)
        assert len(teacher) == len(student) == 2
        assert min(products(teacher) + products(student)) > conditioning


def test_the_condition_changes_something():
    def smallest(conditioning):
        task = StudentTeacher((6, 6), train=1, test=1, conditioning=conditioning)
        teachers = [task.draw(rng(seed)).teacher[0] for seed in range(50)]
        return min(math.prod(np.linalg.svd(w, compute_uv=False)[[0, -1]]) for w in teachers)

    assert smallest(0.0) < 0.4 < smallest(0.4)


@pytest.mark.parametrize("distance", [0.5, 8.0])
def test_each_student_layer_lies_at_the_distance_from_its_teacher_layer(distance):
    teacher = StudentTeacher((6, 6, 4), train=1, test=1).draw(rng(11)).teacher
    student = near_teacher(teacher, distance, 0.4, rng(12))
    for w, ours in zip(teacher, student, strict=True):
        assert math.dist(w.ravel(), ours.ravel()) == pytest.approx(distance, rel=1e-12)


def test_teacher_scale_makes_the_published_distance_typical():
    """The thesis: 8.0 is "approximately the mean of the Frobenius distance between two random
    Gaussian square matrices of dimension 6". For unit variance the mean is √2 E χ_36 = 8.43."""
    task = StudentTeacher((6, 6, 6), train=1, test=1, conditioning=0.0)
    pairs = [task.draw(rng(seed)).teacher for seed in range(400)]
    mean = np.mean([np.linalg.norm(a - b) for a, b in pairs])
    # Five standard errors: a distance has standard deviation 1, as χ has 1/√2.
    expected = math.sqrt(2) * math.sqrt(2) * math.exp(math.lgamma(18.5) - math.lgamma(18))
    assert mean == pytest.approx(expected, abs=5 / math.sqrt(400))
    assert mean == pytest.approx(8.0, abs=0.7)


def test_more_training_samples_keep_teacher_and_test_set():
    few, many = (StudentTeacher((4, 4), train=n, test=5).draw(rng(13)) for n in (3, 9))
    assert np.array_equal(few.teacher, many.teacher)
    assert np.array_equal(few.x_test, many.x_test)
    assert np.array_equal(few.x_train, many.x_train[:3])


def test_a_condition_out_of_reach_is_an_error():
    with pytest.raises(InputError, match=r"teacher layer 1, shape \(2, 3\).*conditioning = 1e\+06"):
        StudentTeacher((3, 2), conditioning=1e6).draw(rng())
    with pytest.raises(InputError, match=r"near-teacher: layer 1, shape \(2, 2\).*so lower it"):
        near_teacher([np.zeros((2, 2))], 1.0, 1.1, rng())


def test_transfer_functions_are_those_of_the_networks():
    from neurosim.functions.activations import ACTIVATIONS

    assert set(TRANSFERS) == set(ACTIVATIONS) - {"bernoulli"}  # a teacher does not draw
    a = np.linspace(-30, 30, 121)
    for name, transfer in TRANSFERS.items():
        # float32 on the other side.
        found = ACTIVATIONS[name]()(jnp.asarray(a))
        np.testing.assert_allclose(transfer(a), found, rtol=1e-5, atol=1e-6)


def test_the_hidden_activation_can_be_a_name_a_slope_or_a_function():
    def targets(activation):
        return StudentTeacher((3, 3, 2), 5, 2, activation).draw(rng(14)).y_train

    assert np.array_equal(targets("leaky-relu"), targets(("leaky-relu", 0.35)))
    assert np.array_equal(targets("tanh"), targets(np.tanh))
    assert np.array_equal(targets(["leaky-relu", 1.0]), targets("linear"))
    assert not np.array_equal(targets("linear"), targets("leaky-relu"))


# Yin-Yang


def symbol(x, y):
    """The Yin-Yang symbol as one draws it: two halves, a lobe of each reaching into the other."""
    right, left = math.dist((x, y), (0.75, 0.5)), math.dist((x, y), (0.25, 0.5))
    if min(right, left) < 0.1:
        return "dot"
    if left < 0.25:
        return "yin"
    if right < 0.25:
        return "yang"
    return "yin" if y > 0.5 else "yang"


NAMES = np.array(["yang", "yin", "dot"])


def disc(n, seed):
    points = rng(seed).random((n, 2))
    return points[np.hypot(*(points - 0.5).T) < 0.5].T


def test_regions_are_those_of_the_drawn_symbol():
    x, y = disc(5000, 15)
    expected = [symbol(*point) for point in zip(x, y, strict=True)]
    assert NAMES[region(x, y)].tolist() == expected


@pytest.mark.parametrize(
    ("point", "name"),
    [
        ((0.5, 0.9), "yin"),
        ((0.5, 0.1), "yang"),
        ((0.25, 0.35), "yin"),
        ((0.75, 0.65), "yang"),
        ((0.25, 0.5), "dot"),
        ((0.75, 0.5), "dot"),
    ],
)
def test_known_points(point, name):
    x, y = np.array([point]).T
    assert NAMES[region(x, y)] == [name]


def test_areas_are_those_of_the_symbol():
    x, y = disc(200_000, 16)
    share = np.bincount(region(x, y)) / len(x)
    # Two dots of area 0.01 π; the rest of 0.25 π halved. Five binomial standard errors.
    np.testing.assert_allclose(share, [0.46, 0.46, 0.08], atol=5 * math.sqrt(0.25 / len(x)))


def test_samples_are_uniform_over_classes_and_within_them():
    data = YinYang(train=30_000).draw(rng(17))
    x, y, x_mirror, y_mirror = data.x_train.T
    np.testing.assert_array_equal([x + x_mirror, y + y_mirror], 1)
    assert (np.hypot(x - 0.5, y - 0.5) <= 0.5).all()
    labels = data.y_train.argmax(axis=1)
    assert np.array_equal(labels, region(x, y))

    def error(n):
        return 5 * math.sqrt(0.25 / n)

    np.testing.assert_allclose(np.bincount(labels) / len(x), 1 / 3, atol=error(len(x)))
    yin, yang, dot = ([x[labels == c], y[labels == c]] for c in (1, 0, 2))
    # Within yin the left lobe has (0.25² - 0.1²) π of 0.115 π; yang is yin turned by 180°; half
    # of the dots lie left, and half of each dot within 0.1/√2 of its centre.
    lobe = np.mean(np.hypot(yin[0] - 0.25, yin[1] - 0.5) < 0.25)
    assert lobe == pytest.approx(0.0525 / 0.115, abs=error(len(yin[0])))
    lobe = np.mean(np.hypot(yang[0] - 0.75, yang[1] - 0.5) < 0.25)
    assert lobe == pytest.approx(0.0525 / 0.115, abs=error(len(yang[0])))
    assert np.mean(dot[0] < 0.5) == pytest.approx(0.5, abs=error(len(dot[0])))
    radius = np.hypot(np.abs(dot[0] - 0.5) - 0.25, dot[1] - 0.5)
    assert np.mean(radius < 0.1 / math.sqrt(2)) == pytest.approx(0.5, abs=error(len(radius)))


def test_a_gain_multiplies_the_teacher_and_nothing_else():
    plain, scaled = (StudentTeacher((5, 4, 3), 6, 5, gain=g).draw(rng(3)) for g in (1.0, 0.5))
    for one, other in zip(plain.teacher, scaled.teacher, strict=True):
        np.testing.assert_array_equal(other, 0.5 * one)
    np.testing.assert_array_equal(plain.x_train, scaled.x_train)
    # A piecewise linear network of two layers is homogeneous of degree two in its weights.
    np.testing.assert_allclose(scaled.y_test, 0.25 * plain.y_test, rtol=1e-14)


def test_bars_are_all_rows_columns_and_diagonals():
    data = Bars(side=3).draw()
    images = {
        tuple(x.astype(int)): int(y.argmax())
        for x, y in zip(data.x_train, data.y_train, strict=True)
    }
    assert len(images) == 8 and np.array_equal(data.x_train, data.x_test)
    assert [images[k] for k in [(1, 1, 1) + (0,) * 6, (0, 1, 0) * 3]] == [0, 1]
    assert images[1, 0, 0, 0, 1, 0, 0, 0, 1] == images[0, 0, 1, 0, 1, 0, 1, 0, 0] == 2
    # Rows and columns have the same sum: a linear readout that tells them apart there is not.
    assert np.array_equal(data.x_train[:3].sum(axis=0), data.x_train[3:6].sum(axis=0))


def test_yin_yang_test_set_does_not_depend_on_the_training_size():
    few, many = (YinYang(train=n, test=50).draw(rng(18)) for n in (10, 100))
    assert np.array_equal(few.x_test, many.x_test)


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
