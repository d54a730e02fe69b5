"""Regression onto a random teacher network, and students at a given distance from it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float

from neurosim.errors import InputError, unknown
from neurosim.tasks import checks
from neurosim.tasks.data import Data, hold_out

REDRAWS = 1000
"""Draws of one matrix before its condition counts as unreachable. At the published threshold of
0.4 about 4 of 5 square Gaussian matrices pass, whatever their size."""

LEAKY_SLOPE = 0.35

Transfer = Callable[[np.ndarray], np.ndarray]

TRANSFERS: dict[str, Transfer] = {
    "linear": lambda a: a,
    "leaky-relu": lambda a: np.where(a > 0, a, LEAKY_SLOPE * a),
    "tanh": np.tanh,
    "sigmoid": lambda a: 0.5 * (1 + np.tanh(a / 2)),
    "softplus": lambda a: np.logaddexp(0, a),
    "power": lambda a: np.sign(a) * a**2,
    "sign": lambda a: np.where(a > 0, 1.0, 0.0),
    "soft-threshold": lambda a: np.sign(a) * np.maximum(np.abs(a) - 0.1, 0),
}
"""The transfer functions of `functions.activations` in numpy, so that teachers are float64; but
for those that draw, as a teacher says the same of the same input."""


@dataclass(frozen=True)
class StudentTeacher:
    """Regression onto the output of a random network of the same kind.

    Inputs are N(0, 1). The teacher is h_i = s(W_i h_{i-1}) with a linear output layer and no
    biases; its output is the target. Each W_i is standard normal, redrawn until
    sigma_min sigma_max > `conditioning` (sigma_min over the min(n_i, n_{i-1}) singular values).

    From the text (Meulemans 2019, sections 5.1.3 and 5.2.2): layers 6-6-6, 6-6-4 or 6-6-6-6-6-6,
    leaky ReLU of slope 0.35 and linear output, the condition on Gaussian matrices with 0.4, 60
    mini-batches of 32 (= 1920 training samples; 120 of them with four hidden layers, and 2000
    mini-batches of one sample with exact inverses). From its released code: unit variance of
    weights and inputs, the condition on every layer, 1000 test samples, one training set for all
    epochs. Ours: the bound on the redraws, and the order of the draws (teacher, test, train), by
    which teacher and test set do not depend on `train`.

    Args:
        layers: n_0 … n_L.
        train: number of training samples.
        test: number of test samples.
        activation: hidden transfer function s: `linear`, `leaky-relu` (slope 0.35), `tanh`,
            `sigmoid`, `softplus`, `power` (a square) or `sign`; `("leaky-relu", slope)`; or an
            elementwise numpy function.
        conditioning: the bound on sigma_min sigma_max, at least 0.
        gain: what the teacher's weights are multiplied by, after that; 1/sqrt(n) keeps outputs of
            layers of n units near 1.
        validation: a share of the training samples, or how many of them, that is held out to
            choose by: runs are tested on it instead of the test samples, which stay unseen.
    """

    layers: Sequence[int]
    train: int = 1920
    test: int = 1000
    activation: str | Sequence[Any] | Transfer = ("leaky-relu", LEAKY_SLOPE)
    conditioning: float = 0.4
    gain: float = 1.0
    validation: float | None = None

    summary: ClassVar[str] = "regression onto a random teacher network"
    source: ClassVar[str] = "Meulemans 2019, sections 5.1.3 and 5.2.2"
    shared: ClassVar[bool] = False

    def __post_init__(self) -> None:
        put = object.__setattr__
        put(self, "layers", checks.layer_sizes("student-teacher: layers", self.layers))
        put(self, "train", checks.whole("student-teacher: train", self.train, 1))
        put(self, "test", checks.whole("student-teacher: test", self.test, 1))
        checks.part_or_none("student-teacher: validation", self.validation)
        put(self, "conditioning", checks.real("student-teacher: conditioning", self.conditioning))
        put(self, "gain", checks.real("student-teacher: gain", self.gain))
        if not isinstance(self.activation, str) and isinstance(self.activation, Sequence):
            put(self, "activation", tuple(self.activation))
        _transfer(self.activation)

    @property
    def inputs(self) -> int:
        """n_0."""
        return self.layers[0]

    @property
    def outputs(self) -> int:
        """n_L."""
        return self.layers[-1]

    def draw(self, rng: np.random.Generator) -> Data:
        """A new teacher and new samples.

        Raises:
            InputError: no teacher within `REDRAWS` draws a layer, or an activation that is not
                elementwise or not finite.
        """
        shapes = zip(self.layers[1:], self.layers[:-1], strict=True)
        teacher = tuple(
            self.gain
            * _redraw(
                partial(_gaussian, rng, shape),
                self.conditioning,
                f"student-teacher: teacher layer {i}",
            )
            for i, shape in enumerate(shapes, start=1)
        )
        x_test = rng.standard_normal((self.test, self.inputs))
        x_train = rng.standard_normal((self.train, self.inputs))
        train, test = hold_out(
            (x_train, self._output(teacher, x_train)),
            (x_test, self._output(teacher, x_test)),
            self.validation,
            False,
            rng,
        )
        return Data(*train, *test, classes=False, teacher=teacher)

    def _output(
        self, teacher: tuple[np.ndarray, ...], x: Float[np.ndarray, "n n_in"]
    ) -> Float[np.ndarray, "n n_out"]:
        s, h = _transfer(self.activation), x
        for w in teacher[:-1]:
            a = h @ w.T
            h = np.asarray(s(a))
            if h.shape != a.shape:
                raise InputError(
                    f"student-teacher: activation {self.activation!r} turned shape {a.shape} into "
                    f"{h.shape}; expected an elementwise function"
                )
            if bad := np.count_nonzero(~np.isfinite(h)):
                raise InputError(
                    f"student-teacher: activation {self.activation!r} gave {bad} values that are "
                    "not finite; expected none"
                )
        return h @ teacher[-1].T


def near_teacher(
    teacher: Sequence[np.ndarray], distance: float, conditioning: float, rng: np.random.Generator
) -> tuple[np.ndarray, ...]:
    """Student weights W_i + distance·G/‖G‖_F with G Gaussian, in each layer on its own.

    From the text (Meulemans 2019, section 5.1.3): every student matrix has Frobenius distance 8.0
    from "the corresponding teacher weight matrices", about the mean distance of two random
    6 x 6 matrices. From its released code: the direction is Gaussian and redrawn until
    the student's sigma_min sigma_max > `conditioning`. Ours: the bound on the redraws.

    Args:
        teacher: W_1 … W_L.
        distance: ‖student W_i - teacher W_i‖_F, the same for every layer.
        conditioning: the bound on the student's sigma_min sigma_max.
        rng: where the directions come from.

    Raises:
        InputError: a negative argument, or no such student within `REDRAWS` draws a layer.
    """
    distance = checks.real("near-teacher: distance", distance)
    conditioning = checks.real("near-teacher: conditioning", conditioning)

    def neighbour(w: np.ndarray) -> np.ndarray:
        direction = rng.standard_normal(w.shape)
        return w + distance * direction / np.linalg.norm(direction)

    return tuple(
        _redraw(partial(neighbour, w), conditioning, f"near-teacher: layer {i}")
        for i, w in enumerate(teacher, start=1)
    )


def _gaussian(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_normal(shape)


def _redraw(draw: Callable[[], np.ndarray], conditioning: float, where: str) -> np.ndarray:
    """The first draw with sigma_min sigma_max > `conditioning`."""
    best = 0.0
    for _ in range(REDRAWS):
        w = draw()
        singular_values = np.linalg.svd(w, compute_uv=False)
        product = singular_values[0] * singular_values[-1]
        if product > conditioning:
            return w
        best = max(best, product)
    raise InputError(
        f"{where}, shape {w.shape}: sigma_min sigma_max reached {best:.3g} in {REDRAWS} draws; "
        f"expected more than conditioning = {conditioning:g}, so lower it"
    )


def _transfer(activation: Any) -> Transfer:
    """The numpy function that `activation` names or is."""
    if callable(activation):
        return activation
    match activation:
        case str(name) | (str(name),) if name in TRANSFERS:
            return TRANSFERS[name]
        case ("leaky-relu", slope):
            slope = checks.real("student-teacher: slope of the leaky ReLU", slope)
            return lambda a: np.where(a > 0, a, slope * a)
        case str(name) | (str(name), *_) if name not in TRANSFERS:
            raise InputError(
                f"student-teacher: activation: {unknown('activation', name, TRANSFERS)}"
            )
    raise InputError(
        f"student-teacher: activation: got {activation!r}; expected one of "
        f"{', '.join(TRANSFERS)}, ('leaky-relu', slope) or a function"
    )
