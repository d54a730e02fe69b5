"""Tasks that draw their data, of teachers, discs and bars, against independent oracles."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from neurosim.errors import InputError
from neurosim.tasks import Bars, StudentTeacher, YinYang, near_teacher
from neurosim.tasks.student_teacher import TRANSFERS
from neurosim.tasks.yin_yang import region


def rng(seed=0):
    return np.random.default_rng(seed)


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
