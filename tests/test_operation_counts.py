"""What learning costs, counted in the programs that run.

Tables 4.1 to 4.3 of the thesis, and section 3.1 of Baldi, Sadowski & Lu 2018.
"""

from collections import Counter
from functools import cache
from itertools import pairwise
from math import prod

import jax
import jax.numpy as jnp
import pytest
from jax.interpreters import partial_eval

import neurosim as ns
from neurosim.building import assembly
from neurosim.credit import CREDITS
from neurosim.credit.channel import Passage
from neurosim.functions.activations import LeakyReLU, Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.levels.simulator import Batch
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Network, Weights
from neurosim.plasticity.rank_one import Pair, robust_update


def equations(jaxpr):
    """All that a program does once; what loops while something is due is left out."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "while":
            continue
        inner = [
            getattr(part, "jaxpr", part)
            for given in equation.params.values()
            for part in (given if isinstance(given, list | tuple) else [given])
            if hasattr(part, "eqns") or hasattr(part, "jaxpr")
        ]
        if not inner:
            yield equation
        for part in inner:
            yield from equations(part)


def counted(program, *given):
    """Multiplications and additions in products of matrices and vectors that the results need.

    A sum over k products of two numbers has k multiplications and k − 1 additions.
    """
    traced = jax.make_jaxpr(program)(*given)
    needed, _ = partial_eval.dce_jaxpr(traced.jaxpr, [True] * len(traced.jaxpr.outvars))
    found = Counter()
    for equation in equations(needed):
        name, size = equation.primitive.name, prod(equation.outvars[0].aval.shape)
        shapes = [v.aval.shape for v in equation.invars]
        if name == "dot_general":
            (contracted, _), _ = equation.params["dimension_numbers"]
            terms = prod(shapes[0][axis] for axis in contracted)
            found["times"] += size * terms
            found["plus"] += size * (terms - 1)
        elif name == "mul" and all(prod(shape) < size for shape in shapes) and size > 1:
            found["times"] += size  # an outer product, written with axes of length 1
    return found


def all_counted(program, *given):
    """The same with what is done element by element; numbers alone do not count."""
    found = counted(program, *given)
    for equation in equations(jax.make_jaxpr(program)(*given).jaxpr):
        shapes = [v.aval.shape for v in equation.invars]
        size = prod(equation.outvars[0].aval.shape)
        whole = size > 1 and any(prod(shape) == size for shape in shapes)
        if whole and equation.primitive.name == "mul":
            found["times"] += size
        elif whole and equation.primitive.name in ("add", "sub"):
            found["plus"] += size
    return dict(found)


# ------------------------------------------------------------------------- single operations


def products(n):
    """Operations of table 4.1, (multiplications, additions)."""
    return {
        "matrix and vector": (n**2, n * (n - 1)),
        "outer": (n**2, 0),
        "inner": (n, n - 1),
        "elements": (n, 0),
        "sum of matrices": (0, n**2),
        "leaky ReLU": (n, 0),
    }


@pytest.mark.parametrize("n", [3, 8])
def test_what_programs_are_made_of_costs_what_table_4_1_says(n):
    """The potential of a layer, its transfer function and an error times its slope; and the update
    of a matrix and its inverse, which has one share of all and one division more."""
    of, a, W = products(n), jnp.ones(n), jnp.eye(n)
    network = Network((n, n), (LeakyReLU(),), "inverse", Loss("half-squared", "linear"))
    for name, program, given in (
        ("matrix and vector", lambda W, h: network.potential(Weights((W,), (), ()), 1, h), (W, a)),
        ("leaky ReLU", LeakyReLU(), (a,)),
        ("elements", Passage().sent, (a, a)),
    ):
        found = Counter(all_counted(program, *given))
        assert (found["times"], found["plus"]) == of[name]
    found = all_counted(lambda W, u, v: robust_update(Pair(W, W), u, v, 0.5), W, a, a)
    parts = ["matrix and vector"] * 2 + ["inner"] + ["outer"] * 2 + ["sum of matrices"] * 2
    times, plus = (sum(of[part][k] for part in parts) for k in (0, 1))
    assert found == {"times": times + n**2, "plus": plus}


# ------------------------------------------------------------------- a layer of the presentation


@cache
def of_presentation(credit, n, depth):
    """What one presentation of one sample computes: forward pass, teaching, new weights."""
    layers = [n] * (depth + 1)
    changes = {
        "model.credit": credit,
        "model.layers": layers,
        "model.projections.W.init": "orthogonal",
        "task.layers": layers,
        "batch": 1,
        "stages.0.phases.0.plastic": ["forward"],
        "record.samples": 1,
        "record.decomposition": False,
    }
    spec = ns.load_protocol("target-propagation", changes).spec
    engine = assembly.engine(spec, spec.stages[0], 10)
    W = [jnp.eye(n)] * depth
    weights = {"W": W} if credit == "backprop" else {"Q": W[1:], "W": W}
    states = engine.begin(assembly.stack([weights]), 0)
    batch = Batch(jnp.ones((1, 1, n)), jnp.ones((1, 1, n)), jnp.zeros((1, 1), int))
    keys = jax.random.split(jax.random.key(0), 1)

    def weights_after(states):
        return engine._present(states, batch, keys, jnp.int32(0))[0].weights

    return counted(weights_after, states)


def of_layer(credit, n):
    """What one more layer adds."""
    more, fewer = (of_presentation(credit, n, depth) for depth in (4, 3))
    return {name: more[name] - fewer[name] for name in more}


@pytest.mark.parametrize("n", [3, 8])
def test_backprop_takes_the_products_of_table_4_2(n):
    """Two products of matrix and vector, and an outer one; the table's sum without what is done
    element by element, 2n multiplications, and without the matrix sum, n² additions."""
    times, plus = 3 * n**2 + 2 * n, 3 * n**2 - 2 * n
    assert of_layer("backprop", n) == {"times": times - 2 * n, "plus": plus - n**2}


@pytest.mark.parametrize("n", [3, 8])
def test_exact_inverses_take_one_outer_product_more_than_table_4_3_says(n):
    """Five products of matrix and vector and an inner one, as there; two of the table's three for
    the inverse are W⁻¹u and v^T W⁻¹, and in place of the third stands the one that finds u and v in
    the change of W, which is put together again afterwards: three outer products, not two. Left out
    as above are 2n multiplications and 2n² additions."""
    times, plus = 7 * n**2 + 3 * n, 7 * n**2 - 4 * n - 1
    expected = {"times": times - 2 * n + n**2, "plus": plus - 2 * n**2}
    assert of_layer("tp-ei", n) == expected


# ------------------------------------------------------------------------- the learning channel


SIZES = (784, 100, 100, 100, 100, 10)


def of_channel(name):
    """What it takes to bring the output's error to all hidden layers."""
    depth = len(SIZES) - 1
    network = Network(
        SIZES, (*[Tanh()] * (depth - 1), Linear()), "inverse", Loss("cross-entropy", "softmax")
    )
    W = tuple(jnp.zeros((n, below)) for below, n in pairwise(SIZES))
    above = {"layers": SIZES[2:], "direct": [SIZES[-1]] * (depth - 1), "none": []}
    heard = above[CREDITS[name].wiring]
    Q = tuple(jnp.zeros(shape) for shape in zip(SIZES[1:], heard, strict=False))
    h = tuple(map(jnp.zeros, SIZES[1:]))

    def teaching(W, Q, h):
        now = Readout(h, h, ())
        return CREDITS[name].assign(network, Weights(W, (), Q), now, jnp.zeros(SIZES[-1]))

    def answer(W, x):
        return network.forward_pass(Weights(W, (), ()), x)

    return counted(teaching, W, Q, h)["times"], counted(answer, W, jnp.zeros(784))["times"]


@pytest.mark.parametrize("name", ["backprop", "sbp", "rbp", "srbp", "arbp", "asrbp"])
def test_errors_cost_as_many_multiplications_as_their_channel_has_weights(name):
    """Σ N_k N_{k+1} over the hidden layers through them, or along the forward weights; past them
    N_L Σ N_k [B 15]. A forward pass takes all the W of [B 14], whose first term no error pays."""
    through = sum(a * b for a, b in pairwise(SIZES[1:]))
    past = SIZES[-1] * sum(SIZES[1:-1])
    assert (through, past) == (31_000, 4_000)
    expected = past if name in ("srbp", "asrbp") else through
    assert of_channel(name) == (expected, through + 784 * 100)
