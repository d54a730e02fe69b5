"""Circuits as text: what expressions may say, what cells are, and that they are the models."""

import re
from dataclasses import replace
from functools import partial

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small_spikes import SMALL
from tiny_networks import DYNAMICS, SIZES, network, samples, weights
from tiny_runs import TINY

import neurosim as ns
from neurosim.circuits.cells import Cell
from neurosim.circuits.description import FUNCTIONS
from neurosim.circuits.expressions import ExpressionError, parse
from neurosim.dynamics.base import Drive, Target, field, residual, rest
from neurosim.dynamics.cells import ELEMENTARY, Cells
from neurosim.levels.rate import Rate

# ------------------------------------------------------------------------------- expressions

REFUSED = {
    "__import__('os').system('true')": "is not allowed",
    "f.__class__": "is not allowed",
    "(1).real": "is not allowed",
    "exp.__globals__": "is not allowed",
    "__builtins__": "is not allowed",
    "_hidden": "is not allowed",
    "[x for x in f]": "is not allowed",
    "lambda: 0": "is not allowed",
    "f if g else h": "is not allowed",
    "f[0]": "is not allowed",
    "'text'": "is not allowed",
    "f'{g}'": "is not allowed",
    "True": "is not allowed",
    "1j": "is not allowed",
    "f and g": "is not allowed",
    "f // g": "is not allowed",
    "f @ g": "is not allowed",
    "exp(*f)": "is not allowed",
    "exp(x=f)": "is not allowed",
    "f := g": "is no expression",
    "a = b": "is no expression",
    "": "is no expression",
    "f; g": "is no expression",
    "open('/etc/passwd')": "'open' is no function",
    "eval('1')": "'eval' is no function",
    "getattr(f, 'x')": "'getattr' is no function",
    "0 < f < 1": "one comparison",
    "9**9**9": "exponent",
    "f**1000": "exponent",
    "f**-1000": "exponent",
    "1" + "0" * 400: "a number of 401 digits",
    "f + " * 300 + "f": "characters",
    "(" * 60 + "f" + ")" * 60 + " + " + "-" * 60 + "f": "nested",
    "-" * 90 + "f": "nested",
}


@pytest.mark.parametrize("text", REFUSED)
def test_what_is_no_arithmetic_is_refused_in_words(text):
    with pytest.raises(ExpressionError, match=re.escape(REFUSED[text])):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(1 - mu)*f + mu*g", 0.9 * 3 + 0.1 * -2),
        ("-f**2/4", -2.25),
        ("exp(log(f))", 3.0),
        ("clip(f, 0, 1) + int(g < 0)", 2.0),
        ("abs(g) >= 2", 1.0),
    ],
)
def test_arithmetic_is_what_it_says(text, value):
    found = parse(text)({"mu": 0.1, "f": jnp.float32(3), "g": jnp.float32(-2)}, ELEMENTARY)
    assert float(found) == pytest.approx(value, rel=1e-6)


def test_names_and_functions_are_told_apart():
    found = parse("exp(a) + slope(basal)*exp", frozenset({"slope"}))
    assert found.names == {"a", "basal", "exp"}
    assert found.functions == {"exp", "slope"}


# -------------------------------------------------------------------------------------- cells

MIXTURE = """
basal    = forward + bias                          # dendrites follow at once
apical   = feedback
f        = s(basal)
g        = t(apical)
dsoma/dt = ((1 - mu)*f + mu*g - soma)/tau_soma     # [T 6.1]
up       = soma
down     = soma
teacher  = soma
"""
DENDRITES = MIXTURE.replace(
    "basal    = forward + bias", "dbasal/dt = (forward + bias - basal)/tau_basal : 1"
).replace("apical   = feedback", "dapical/dt = (feedback - apical)/tau_apical")
MULTIPLEXING = """
dbasal/dt  = (forward + bias - basal)/tau_basal    # [T 6.43]
dapical/dt = (feedback - apical)/tau_apical        # [T 6.44]
f          = s(basal)                              # event rate
g          = t(apical)                             # burst probability
up         = f
down       = g
teacher    = g
"""
TEACHING = "g = target"
TEXTS = {"mixture": MIXTURE, "dendrites": DENDRITES, "multiplexing": MULTIPLEXING}


def cells(family: str) -> Cells:
    parameters = {"mu": 0.2, "tau_soma": 0.02, "tau_basal": 0.005, "tau_apical": 0.01}
    if family == "multiplexing":
        parameters |= {"tau_basal": 0.01, "tau_apical": 0.02}
    hidden = Cell.read(TEXTS[family], FUNCTIONS)
    roles = ("basal", "f", "g", "up", "down", "teacher")
    output = Cell.read(TEACHING, FUNCTIONS, hidden).restricted(roles)
    decay = "1" if family == "multiplexing" else "(mu/(1 - mu))**(L + 1 - i)"
    return Cells(hidden, output, parameters, parse(decay))


@pytest.fixture
def double_precision():
    with jax.enable_x64(True):
        yield


def states(dynamics, net, seed=0):
    """A random state, of the compartments in an order that both name alike."""
    shape = rest(dynamics, net, jnp.float64)
    rng = np.random.default_rng(seed)
    return {
        name: tuple(jnp.asarray(rng.standard_normal(v.shape)) for v in shape[name])
        for name in sorted(shape)
    }


TARGETS = {
    "none": lambda y: Target("none"),
    "following": lambda y: Target("following", 0.1, y),
    "fixed": lambda y: Target("fixed", value=y),
}


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("teaching", TARGETS)
@pytest.mark.parametrize("activation", ["linear", "leaky", "tanh"])
@pytest.mark.parametrize("family", TEXTS)
def test_text_is_the_shipped_dynamics(family, activation, teaching):
    """Fields bit for bit; what compartments are drawn to, to the rounding of v − F/F'."""
    ours, theirs, net = cells(family), DYNAMICS[family](), network(activation)
    x, y = (a[0] for a in samples())
    given = weights()
    drive = Drive(x, net.potential(given, 1, x), TARGETS[teaching](y))
    state = states(theirs, net)
    scale = 0.3 if activation == "tanh" else 1.0  # inverses of tanh want activity below 1
    state = jax.tree.map(lambda v: scale * jnp.tanh(v), state)
    assert set(rest(ours, net, x.dtype)) == set(state)
    fields = [field(d, net, given, drive, state) for d in (ours, theirs)]
    pulls = [residual(d, net, given, drive, state) for d in (ours, theirs)]
    for name in state:
        for a, b in zip(fields[0][name], fields[1][name], strict=True):
            assert np.isfinite(a).all()
            np.testing.assert_array_equal(a, b)
        for a, b in zip(pulls[0][name], pulls[1][name], strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-14)
    read = [d.read(net, given, drive, state) for d in (ours, theirs)]
    for a, b in zip(jax.tree.leaves(read[0]), jax.tree.leaves(read[1]), strict=True):
        np.testing.assert_array_equal(a, b)
    for i in range(1, net.depth + 1):
        assert float(ours.attenuation(net, i)) == float(theirs.attenuation(net, i))
    for name, tau in theirs.time_constants.items():
        assert float(ours.time_constants[name]) == pytest.approx(tau, rel=1e-14)


@pytest.mark.usefixtures("double_precision")
def test_a_nonlinear_compartment_is_drawn_where_newton_goes():
    """dv/dt = u − v³ from v = 1: F = u − 1, F' = −3."""
    moving = "dsoma/dt = ((1 - mu)*f + mu*g - soma)/tau_soma     # [T 6.1]"
    assert moving in MIXTURE
    hidden = Cell.read(MIXTURE.replace(moving, "dsoma/dt = forward - soma**3"), FUNCTIONS)
    dynamics = Cells(hidden, hidden.restricted(["up"]), {}, parse("1"))
    net, (x, _) = network("linear"), samples()
    drive = Drive(x[0], net.potential(weights(), 1, x[0]), Target("none"))
    state = {"soma": tuple(jnp.ones(n) for n in SIZES[1:])}
    found = dynamics.pull(net, weights(), drive, state, "soma", 1)
    np.testing.assert_allclose(found, 1 + (drive.basal - 1) / 3, rtol=1e-14)


def test_what_nobody_needs_is_no_part_of_a_cell():
    hidden = Cell.read(DENDRITES, FUNCTIONS)
    output = Cell.read(TEACHING, FUNCTIONS, hidden)
    assert hidden.states == output.states == ("basal", "apical", "soma")
    assert output.restricted(["up", "g"]).states == ("basal", "soma")


def test_instant_quantities_in_a_circle_are_an_algebraic_loop():
    text = "a = b + 1\nb = 2*c\nc = a\ndv/dt = -v + a"
    with pytest.raises(ExpressionError, match="an algebraic loop: a -> b -> c -> a"):
        Cell.read(text, ()).needed(["v"])
    through_time = Cell.read("a = v + 1\ndv/dt = a - 2*v", ())
    assert set(through_time.needed(["a"])) == {"a", "v"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a == 1", "is no equation"),
        ("just words", "is no equation"),
        ("a + b = 1", "is no equation"),
        ("a = open(1)", "'open' is no function"),
        ("basal = 1\nbasal = 2", "line 2 of the equations: 'basal' is defined twice"),
    ],
)
def test_lines_that_are_no_equations(line, message):
    with pytest.raises(ExpressionError, match=message):
        Cell.read(line, FUNCTIONS)


# --------------------------------------------------------------------------- models as files

MODEL = f"""
name = "mine"
credit = "two-phase"
layers = [3, 4, 4]
output = "linear"
loss = "squared"
attenuation = "(mu/(1 - mu))**(L + 1 - i)"
[cells.pyramidal]
equations = \"\"\"{MIXTURE}\"\"\"
[cells.output]
like = "pyramidal"
equations = "g = target"
[parameters]
mu = 0.2
tau_soma = "20 ms"
[weights]
init = "xavier"
[forward]
rate = 0.05
depth_compensation = true
[feedback]
rule = "white-noise"
rate = 0.05
"""


@pytest.fixture
def protocol(tmp_path):
    """A protocol of a model file of one's own; and the same with the shipped mixture."""

    def made(model=MODEL, **changes):
        (tmp_path / "mine.toml").write_text(model)
        own = TINY.replace('use = "mixture-two-phase"', f'use = "{tmp_path / "mine.toml"}"')
        own = own.replace('mu = 0.2\noutput = "linear"\nloss = "squared"\n', "")
        (tmp_path / "run.toml").write_text(own)
        return ns.load_protocol(tmp_path / "run.toml", changes)

    return made


@pytest.mark.parametrize("level", ["equilibrium", "rate"])
def test_a_model_of_text_learns_as_the_shipped_one(protocol, tmp_path, level):
    """After ten presentations; at the equilibrium level to the rounding of v − F/F'."""
    (tmp_path / "shipped.toml").write_text(TINY)
    same = {"model.weights.init": "xavier", "model.feedback.rate": 0.05}
    shipped = ns.load_protocol(tmp_path / "shipped.toml", same)
    found = []
    for number, given in enumerate((protocol(), shipped)):
        out = tmp_path / f"{number}.h5"
        found.append(ns.run(given, level=level, out=out).metrics["test_loss"])
    assert found[0] == pytest.approx(found[1], rel=1e-12 if level == "equilibrium" else 1e-15)


def test_a_run_of_text_resumes_and_is_analyzed_from_its_trace_alone(protocol, tmp_path):
    run = ns.run(protocol(), out=tmp_path / "mine.h5")
    (tmp_path / "mine.toml").unlink()
    found = ns.analyze(run.path)
    assert found.phases[0].stable == 1.0
    with h5py.File(run.path) as file:
        assert "dsoma/dt" in str(file["provenance/protocol_json"][()])


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ("mu*g - soma", "nu*g - soma", "equations", "unknown name 'nu' (allowed: apical"),
        ("g        = t(apical)", "g = target", "equations", "unknown name 'target'"),
        ("up       = soma\n", "", "equations", "up is not defined; expected a line 'up = ...'"),
        ("f        = s(basal)", "f = s(basal) + f", "equations", "an algebraic loop: f -> f"),
        ("f        = s(basal)", "f = s(basal).real", "equations", "is not allowed"),
        ("apical   = feedback", "i = feedback\napical = i", "equations", "'i' has another meaning"),
        (
            "up       = soma\ndown     = soma",
            "up = f + g\ndown = f",
            "pyramidal",
            "loop: up takes feedback",
        ),
        ('"g = target"', '"g = target\\nup = g"', "output", "loop: up takes target"),
        ('like = "pyramidal"', 'like = "pyramid"', "like", "did you mean 'pyramidal'?"),
        ("[cells.output]", "[cells.outputs]", "cells", "unknown cell 'outputs'"),
        ('tau_soma = "20 ms"', 'tau_soma = "20 mm"', "tau_soma", "is no quantity"),
        ("L + 1 - i)", "L + 1 - k)", "attenuation", "unknown name 'k'"),
        ('credit = "two-phase"', 'credit = "two-phase"\nmu = 0.1', "mu", "parameters.mu"),
        ('credit = "two-phase"', 'credit = "two-phase"\ndynamics = "mixture"', "dynamics", "both"),
    ],
)
def test_mistakes_are_placed_and_put_in_words(protocol, tmp_path, old, new, where, message):
    assert old in MODEL
    with pytest.raises(ns.InputError) as error:
        protocol(MODEL.replace(old, new, 1))
    text = str(error.value)
    assert message in text
    assert where in text
    assert re.search(r"mine\.toml:\d+: ", text)


def test_check_writes_equations_as_they_stand_in_the_file(protocol, tmp_path):
    """And what it writes is the same protocol again."""
    from neurosim.checking import check, in_words

    said = in_words(check(protocol()))
    assert "dsoma/dt = ((1 - mu)*f + mu*g - soma)/tau_soma     # [T 6.1]\n" in said
    (tmp_path / "again.toml").write_text(said)
    assert ns.load_protocol(tmp_path / "again.toml").spec == protocol().spec


# ----------------------------------------------------------------------------- the bridge to Brian2

STEP, STEPS = 1e-3, 200


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("form", ["inverse", "autoencoder"])
@pytest.mark.parametrize("family", TEXTS)
def test_brian_integrates_the_same_text(family, form):
    """Two phases of 100 Euler steps, free and taught, from text for both: 1e-12 of each other."""
    from neurosim.levels.spiking.machine import Machine

    rng = np.random.default_rng(3)
    net = replace(network("tanh" if form == "autoencoder" else "leaky"), form=form)
    dynamics, given = cells(family), weights()
    given = given._replace(b=tuple(0.1 * rng.standard_normal(n) for n in SIZES[1:]))
    x, y = (np.asarray(a[:3]) for a in samples())
    level = Rate("euler", STEP, False, 1e-6, 1e-9, 1e-3)

    def solve(x, y):
        state = rest(dynamics, net, jnp.float64)
        for target in (Target("none"), Target("fixed", value=y)):
            drive = Drive(x, net.potential(given, 1, x), target)
            moved = partial(field, dynamics, net, given, drive)
            state, _, _ = level.integrate(moved, state, STEP * STEPS / 2)
        return state

    expected = jax.jit(jax.vmap(solve))(x, y)
    machine = Machine(dynamics, net, None, STEP, len(x), target="numpy")

    def program():
        machine.rest()
        machine.write_weights(given)
        machine.drive(x @ np.asarray(given.W[0]).T)
        machine.teach(None)
        yield STEPS // 2
        machine.teach(y)
        yield STEPS // 2

    machine.run(program(), STEPS)
    for name, layers in expected.items():
        for i, layer in enumerate(layers, start=1):
            assert np.abs(layer).max() > 1e-2
            np.testing.assert_allclose(machine.array(i, name), layer, rtol=0, atol=1e-12)


def test_text_in_brians_notation_keeps_its_order():
    """Sums and products in the order of the text, whatever stands for the names."""
    text = "((1 - mu)*s(basal) + mu*g - soma)/tau"
    found = parse(text, frozenset(FUNCTIONS)).written({"g": "apical_in"}, {"s": "tanh({})".format})
    assert found == "(((((1.0 - mu) * (tanh(basal))) + (mu * apical_in)) - soma) / tau)"


# ------------------------------------------------------------------------------------------ spikes

OUTPUT = {"like": "pyramidal", "equations": TEACHING}
CELLS = {
    "model.cells": {"pyramidal": {"equations": MIXTURE}, "output": OUTPUT},
    "model.parameters": {"mu": 0.1, "tau_soma": "20 ms"},
    "model.attenuation": "(mu/(1 - mu))**(L + 1 - i)",
    "model.dynamics": None,
    "model.mu": None,
    "model.tau_soma": None,
}


@pytest.mark.parametrize("soma", ["poisson", "lif"])
def test_text_spikes_as_the_shipped_dynamics_spike_by_spike(soma, tmp_path, monkeypatch):
    monkeypatch.setenv("NEUROSIM_CACHE", str(tmp_path / "cache"))
    found = []
    for number, own in enumerate((CELLS, {})):
        given = SMALL | own | {"model.spiking.soma": soma}
        out = tmp_path / f"{number}.h5"
        ns.run(ns.load_protocol("quickstart", given), out=out)
        with h5py.File(out) as file:
            spikes = [file[f"spikes/{name}/timestamps"][()] for name in sorted(file["spikes"])]
            found.append([*spikes, *(file[f"weights/{name}"][()] for name in ("W1", "W2", "Q1"))])
    for ours, theirs in zip(*found, strict=True):
        assert ours.size > 100
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("down     = soma", "down = g", "spikes send one compartment both ways"),
        ("up       = soma", "up = 2*soma", "spikes send one compartment both ways"),
        ("mu*g - soma", "mu*g - soma + 0*feedback", "soma takes feedback, which reaches apical"),
        ("f        = s(basal)", "f = s(basal)*slope(basal)", "f takes slope"),
        (
            "f        = s(basal)",
            "f = s(basal) + a\ndadapt/dt = -adapt\na = adapt",
            "the spiking level has no compartment 'adapt' beside ['apical', 'basal', 'soma']",
        ),
    ],
)
def test_cells_that_cannot_spike_are_refused_in_words(old, new, message):
    assert old in MIXTURE
    cells = {"pyramidal": {"equations": MIXTURE.replace(old, new)}, "output": OUTPUT}
    given = SMALL | CELLS | {"model.cells": cells}
    ns.load_protocol("quickstart", given | {"level": "rate"})
    with pytest.raises(ns.InputError) as error:
        ns.load_protocol("quickstart", given)
    assert message in str(error.value)
