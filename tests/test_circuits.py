"""Circuits as text: what expressions may say, what cells are, and that they are the models."""

import re
import subprocess
import sys
from functools import partial
from pathlib import Path

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_networks import SIZES, network, samples, weights
from tiny_runs import TINY

import neurosim as ns
from neurosim import build, circuitry
from neurosim.circuits.cells import Cell
from neurosim.circuits.description import FUNCTIONS
from neurosim.circuits.expressions import ExpressionError, parse
from neurosim.circuits.populations import Group
from neurosim.circuits.reading import problems
from neurosim.circuits.starts import problems as start_problems
from neurosim.circuits.wires import wire
from neurosim.dynamics.base import Drive, Target, field, residual, rest
from neurosim.dynamics.circuit import ELEMENTARY
from neurosim.levels.equilibrium import Equilibrium
from neurosim.levels.rate import Rate
from neurosim.levels.settling import Problem, Span
from neurosim.loading import load_model
from neurosim.spec import ModelSpec
from neurosim.theory.closed_forms import free_spectrum
from neurosim.theory.fixed_points import phases
from neurosim.theory.linearisation import System

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
    "exp(f, g)": "exp takes 1 argument, got 2",
    "clip(f)": "clip takes 3 arguments, got 1",
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
    found = parse("exp(a) + slope(basal)*exp", FUNCTIONS)
    assert found.names == {"a", "basal", "exp"}
    assert found.functions == {"exp", "slope"}


# -------------------------------------------------------------------------------------- cells


def test_what_nobody_needs_is_no_part_of_a_cell():
    hidden = Cell.read("dbasal/dt = forward - basal\ndsoma/dt = basal - soma\nup = soma", FUNCTIONS)
    assert hidden.states == ("basal", "soma")
    assert hidden.restricted(["basal"]).states == ("basal",)


def test_instant_quantities_in_a_circle_are_an_algebraic_loop():
    text = "a = b + 1\nb = 2*c\nc = a\ndv/dt = -v + a"
    with pytest.raises(ExpressionError, match="an algebraic loop: a -> b -> c -> a"):
        Cell.read(text, {}).needed(["v"])
    through_time = Cell.read("a = v + 1\ndv/dt = a - 2*v", {})
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


# -------------------------------------------------------------------------------------- wires


def test_wires_say_who_reaches_whom():
    found = wire("pyramidal.rate[i-1] ->  forward[ i ]")
    assert (found.pre.population, found.pre.name, found.post.population) == (
        "pyramidal",
        "rate",
        None,
    )
    assert [found.pre.layer.at(i, 3) for i in (1, 2, 3)] == [0, 1, 2]
    assert found.dense
    assert wire("u[L] => e[L-1]").post.layer.at(1, 4) == 3
    assert not wire("u[L] => e[L-1]").runs


@pytest.mark.parametrize(
    "text", ["up -> forward", "up[i] > f[i]", "up[k] -> f[i]", "up[i*2] -> f[i]", "", "a[i] -> "]
)
def test_what_is_no_wire_is_refused_in_words(text):
    with pytest.raises(ExpressionError, match=r"expected such as"):
        wire(text)


# ------------------------------------------------------------------------------------- models

MIXTURE = """
basal    = forward + bias                          # dendrites follow at once
apical   = feedback
f        = s(basal)
g        = t(apical)
dsoma/dt = ((1 - mu)*f + mu*g - soma)/tau_soma     # [T 6.1]
up       = soma
down     = encode(soma, bias)
"""
MULTIPLEXING = """
dbasal/dt  = (forward + bias - basal)/tau_basal    # [T 6.43]
dapical/dt = (feedback - apical)/tau_apical        # [T 6.44]
f          = s(basal)                              # event rate
g          = t(apical)                             # burst probability
up         = f
down       = encode(g, bias)
"""
RULE = "slope(basal)*({0} - {0}_free)"
TEXTS = {
    "mixture": "mixture-two-phase",
    "dendrites": "mixture-dendrites",
    "multiplexing": "multiplexing",
}
"""Family → the model that ships with its text."""

PARAMETERS = {"mu": 0.2, "tau_soma": 0.02, "tau_basal": 0.005, "tau_apical": 0.01}


def model(family: str, **changes) -> ModelSpec:
    """A shipped model with small layers, biases and parameters of its own."""
    given = load_model(TEXTS[family]).model_dump(mode="json", exclude_none=True)
    given["projections"]["W"] |= {"bias": True, "init": "xavier"}
    parameters = PARAMETERS
    if family == "multiplexing":
        parameters = parameters | {"tau_basal": 0.01, "tau_apical": 0.02}
    given |= {"layers": list(SIZES), "parameters": parameters}
    given |= {"output": "linear", "loss": "half-squared"}
    return ModelSpec.model_validate(given | changes)


@pytest.fixture
def double_precision():
    with jax.enable_x64(True):
        yield


def states(dynamics, net, seed=0):
    """A random state."""
    shape, rng = rest(dynamics, net, jnp.float64), np.random.default_rng(seed)
    return jax.tree.map(lambda v: jnp.asarray(rng.standard_normal(v.shape)), shape)


TARGETS = {
    "none": lambda y: Target("none"),
    "following": lambda y: Target("following", 0.1, y),
    "fixed": lambda y: Target("fixed", value=y),
}
TRANSFERS = {
    "linear": (lambda a: a, lambda h: h),
    "leaky": (lambda a: np.where(a > 0, a, 0.35 * a), lambda h: np.where(h > 0, h, h / 0.35)),
    "tanh": (np.tanh, np.arctanh),
}
"""s and s⁻¹ of hidden layers."""


def thesis(family, activation, taught, own, x, state):
    """F of every compartment by T 6.1, or 6.43 to 6.46, and the answer h_L; in NumPy.

    taught: (h_L) → h_L^trgt.
    """
    p, L = model(family).parameters, len(SIZES) - 1
    s, s_inv = ([side] * (L - 1) + [lambda a: a] for side in TRANSFERS[activation])
    W, b, Q = ([np.asarray(array) for array in own[name]] for name in "WbQ")
    found = {name: [] for name in state}

    def compartment(name, i):
        population = "pyramidal" if i < L else "output"
        layers = state.get(f"{population}.{name}")
        return None if layers is None else np.asarray(layers[i - 1 if i < L else 0])

    def moves(name, i, velocity):
        found[f"{'pyramidal' if i < L else 'output'}.{name}"].append(velocity)

    if family == "multiplexing":
        h = [np.asarray(x)] + [s[i - 1](compartment("basal", i)) for i in range(1, L + 1)]
        down = [None] + [compartment("apical", i) for i in range(1, L)] + [taught(h[L])]
    else:
        h = [np.asarray(x)] + [compartment("soma", i) for i in range(1, L + 1)]
        down = h
    for i in range(1, L + 1):
        a = W[i - 1] @ h[i - 1] + b[i - 1]
        g = Q[i - 1] @ (s_inv[i](down[i + 1]) - b[i]) if i < L else taught(h[L])
        if family != "mixture":
            basal, apical = compartment("basal", i), compartment("apical", i)
            moves("basal", i, (a - basal) / p["tau_basal"])
            if i < L:
                moves("apical", i, (g - apical) / p["tau_apical"])
            a, g = basal, apical if i < L else g
        if family != "multiplexing":
            pull = (1 - p["mu"]) * s[i - 1](a) + p["mu"] * g
            moves("soma", i, (pull - h[i]) / p["tau_soma"])
    return found, h[L]


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("teaching", TARGETS)
@pytest.mark.parametrize("activation", TRANSFERS)
@pytest.mark.parametrize("family", TEXTS)
def test_text_is_the_equations_of_the_thesis(family, activation, teaching):
    """Fields with biases at any state, what answers, what draws, and rests where fields vanish."""
    ours, net = build.dynamics(model(family)), network(activation)
    scale = 0.1 if activation == "tanh" else 1.0  # inverses of tanh want activity below 1
    x, y = (scale * a[0] for a in samples())
    rng = np.random.default_rng(7)
    own = {"W": weights().W, "Q": weights().Q}
    own["b"] = tuple(jnp.asarray(0.1 * rng.standard_normal(n)) for n in SIZES[1:])
    target = TARGETS[teaching](y)

    def taught(h):
        value = {"none": h, "following": h - 0.1 * (h - np.asarray(y)), "fixed": np.asarray(y)}
        return value[teaching]

    state = jax.tree.map(lambda v: scale * jnp.tanh(v), states(ours, net))
    told = ours, net, own, ours.drive(net, own, x, target), state
    velocity, answer = thesis(family, activation, taught, own, x, state)
    found, drawn = field(*told), residual(*told)
    assert set(found) == set(velocity)
    p, mixes = model(family).parameters, family != "multiplexing"
    for name in velocity:
        tau = p["tau_" + name.partition(".")[2]]
        for k, expected in enumerate(velocity[name], start=1):
            np.testing.assert_allclose(found[name][k - 1], expected, rtol=1e-12, atol=1e-12)
            np.testing.assert_allclose(drawn[name][k - 1], expected * tau, rtol=1e-12, atol=1e-13)
            layer = k if name.startswith("pyramidal") else net.depth
            shrunk = (0.2 / 0.8) ** (net.depth + 1 - layer) if mixes else 1.0
            assert float(ours.expected(net, name, k)) == pytest.approx(shrunk, rel=1e-14)
    np.testing.assert_allclose(ours.read(*told[1:]).rate[-1], answer, rtol=1e-14)
    problem = Problem(ours, net, own, ours.drive(net, own, x, target), 0.1, y)
    start = rest(ours, net, jnp.float64)
    at_rest, report, _ = Equilibrium(1e-13, 400, 20).settle(problem, start, Span(0.0, True))
    assert bool(report.settled)
    velocity, _ = thesis(family, activation, taught, own, x, at_rest)
    for name, layers in velocity.items():
        for v in layers:
            np.testing.assert_allclose(v * p["tau_" + name.partition(".")[2]], 0, atol=1e-12)


@pytest.mark.usefixtures("double_precision")
def test_a_nonlinear_compartment_is_drawn_where_newton_goes():
    """dv/dt = u − v³ from v = 1: F = u − 1, F' = −3."""
    cubic = model(
        "mixture",
        cells={
            "pyramidal": {"equations": "dsoma/dt = forward - soma**3\nup = soma"},
            "output": {"like": "pyramidal"},
        },
        projections={"W": {"wire": "up[i-1] -> forward[i]"}},
    )
    dynamics, net, (x, _) = build.dynamics(cubic), network("linear"), samples()
    own = {"W": weights().W}
    drive = dynamics.drive(net, own, x[0], Target("none"))
    state = jax.tree.map(jnp.ones_like, rest(dynamics, net, jnp.float64))
    found = dynamics.at(net, own, drive, state).pull("pyramidal.soma", 1)
    np.testing.assert_allclose(found, 1 + (drive.basal["W1"] - 1) / 3, rtol=1e-14)


@pytest.mark.usefixtures("double_precision")
def test_sigma_is_held_under_steps_and_written_noise_is_as_written():
    """Heun with a = dt/τ: v ← (1 − a + a²/2) v + (1 − a/2) s√dt ξ has variance σ² exactly."""
    noisy = model(
        "mixture",
        cells={
            "pyramidal": {"equations": "dsoma/dt = (forward - soma)/tau_soma\nup = soma"},
            "output": {"equations": "dsoma/dt = (forward - soma)/tau_soma + 3*xi\nup = soma"},
        },
        projections={"W": {"wire": "up[i-1] -> forward[i]"}},
        noise={"pyramidal.soma": 0.5},
    )
    dynamics, net, dt = build.dynamics(noisy), network("linear"), 0.01
    state = rest(dynamics, net, jnp.float64)
    level = Rate("heun", dt, False, 1e-6, 1e-9, 1e-3)
    spread = level.noise(dynamics, net, state, jax.random.key(0)).spread
    a = dt / dynamics.parameters["tau_soma"]
    for s in spread["pyramidal.soma"]:
        variance = ((1 - a / 2) * s) ** 2 * dt / (1 - (1 - a + a**2 / 2) ** 2)
        assert float(variance) == pytest.approx(0.5**2, rel=1e-12)
    assert [float(s) for s in spread["output.soma"]] == [3.0]


# --------------------------------------------------------------------------- models as files

MODEL = f"""
name = "mine"
layers = [3, 4, 4]
output = "linear"
loss = "squared"
attenuation = "(mu/(1 - mu))**(L + 1 - i)"

[cells.pyramidal]
equations = \"\"\"{MIXTURE.replace(" + bias", "").replace("bias)", "0)")}\"\"\"

[cells.output]
like = "pyramidal"
equations = "g = teach*target + (1 - teach)*soma"

[populations]
pyramidal = "hidden"
output    = "output"

[projections.W]
wire = "up[i-1] -> forward[i]"
post = "slope(basal)*(soma - soma_free)"           # [T 6.35]
rate = "0.05*((1 - mu)/mu)**(L + 1 - i)"

[projections.Q]
wire = "down[i+1] -> feedback[i]"
init = "pinv(W[i+1])"
post = "t_slope(apical)*(soma - g)"                # [T 6.37]
rate = 0.05

[parameters]
mu       = 0.2
tau_soma = "20 ms"
"""
SHIPPED = {"model.projections.W.init": "xavier", "model.projections.Q.rate": 0.05}

CHANGED = ["parameters.mu = 0.2\n", 'output = "linear"\n', 'loss = "squared"\n']
CHANGED += ["projections.W.rate = 0.05\n"]
"""What `TINY` says of the shipped model, and `MODEL` of itself."""


@pytest.fixture
def protocol(tmp_path):
    """A protocol of a model file of one's own."""

    def made(model=MODEL, **changes):
        (tmp_path / "mine.toml").write_text(model)
        own = TINY.replace('use = "mixture-two-phase"', f'use = "{tmp_path / "mine.toml"}"')
        for line in CHANGED:
            assert line in own
            own = own.replace(line, "")
        own = own.replace('"feedback"', '"Q"').replace('"forward"', '"W"')
        (tmp_path / "run.toml").write_text(own)
        return ns.load_protocol(tmp_path / "run.toml", changes)

    return made


NAMED = 'post = "t_slope(apical)*(soma - g)"                # [T 6.37]'
PREDICTS = "t_slope(apical)*(soma - apical_rate)"
COMPENSATED = [
    ("(soma - soma_free)", "((soma - soma_free)/attenuation)"),
    ('"0.05*((1 - mu)/mu)**(L + 1 - i)"', "0.05"),
]
"""The same depth compensation as the shipped rule has, to the last bit."""


@pytest.mark.parametrize(
    "rule",
    [
        "reconstruction",
        "white-noise",
        pytest.param("tied", marks=pytest.mark.long),
        pytest.param("difference", marks=pytest.mark.long),
    ],
)
def test_a_model_of_text_learns_as_the_shipped_one(protocol, tmp_path, rule):
    """Ten presentations of two phases, of W by memory of the free one and of Q: bit for bit."""
    (tmp_path / "shipped.toml").write_text(TINY)
    shut = {"stages.0.phases.0.plastic": []} if rule == "tied" else {}
    named = {"post": PREDICTS} if rule == "reconstruction" else {"rule": rule}
    shipped = SHIPPED | {f"model.projections.Q.{k}": v for k, v in named.items()} | shut
    shipped = ns.load_protocol(tmp_path / "shipped.toml", shipped)
    text = MODEL if rule == "reconstruction" else MODEL.replace(NAMED, f'rule = "{rule}"')
    for old, new in COMPENSATED:
        assert old in text
        text = text.replace(old, new)
    own = protocol(text, **shut)
    traces = []
    for number, given in enumerate((own, shipped)):
        run = ns.run(given, level="rate", out=tmp_path / f"{number}.h5")
        with h5py.File(run.path) as file:
            names = "weights/W1", "weights/W2", "weights/Q1", "traces/layer1/soma", "signals/angle"
            traces.append([file[name][()] for name in names])
    for ours, theirs in zip(*traces, strict=True):
        np.testing.assert_array_equal(ours, theirs)


CHECK = """
import sys
from neurosim.cli import app
try:
    app(["check", sys.argv[1]])
finally:
    assert "jax" not in sys.modules
"""


def test_check_says_how_slow_a_circuit_is_and_imports_no_jax(protocol, tmp_path):
    """The free phase of two layers with exact inverses; a phase too short for it is doubtful."""
    protocol()
    command = [sys.executable, "-c", CHECK, str(tmp_path / "run.toml")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "# slowest time constant: 41 ms" in done.stdout.splitlines()
    assert ns.check(tmp_path / "run.toml")["slowest_s"] == pytest.approx(
        -0.02 / free_spectrum(0.2, 2)[0]
    )
    with pytest.warns(ns.NeurosimWarning, match="the transient is still about .* of layer 1"):
        protocol(**{"stages.0.phases.0.duration": "150 ms"})


@pytest.mark.long
def test_online_plasticity_of_text_is_that_of_the_shipped_one(protocol, tmp_path):
    """Weights that flow, and a slow memory of the free phase."""
    online = {
        "plasticity": "online",
        "model.tau_memory": "50 ms",
        "stages.0.presentations": 3,
        "record.presentations": 0,
    }
    (tmp_path / "shipped.toml").write_text(TINY)
    rates = {"model.projections.W.rate": "0.2 Hz", "model.projections.Q.rate": "0.1 Hz"}
    rates |= {"model.projections.Q.post": PREDICTS}
    shipped = ns.load_protocol(tmp_path / "shipped.toml", SHIPPED | online | rates)
    rates = {
        "model.projections.W.rate": "0.2*((1 - mu)/mu)**(L + 1 - i) Hz",
        "model.projections.Q.rate": "0.1 Hz",
    }
    ends = []
    for number, given in enumerate((protocol(**online, **rates), shipped)):
        run = ns.run(given, out=tmp_path / f"{number}.h5")
        with h5py.File(run.path) as file:
            ends.append([file[f"weights/{name}"][()] for name in ("W1", "W2", "Q1")])
    for ours, theirs in zip(*ends, strict=True):
        assert np.abs(ours[1] - ours[0]).max() > 1e-3
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-14)


def test_a_run_of_text_resumes_and_is_analyzed_from_its_trace_alone(protocol, tmp_path):
    run = ns.run(protocol(), level="equilibrium", out=tmp_path / "mine.h5")
    (tmp_path / "mine.toml").unlink()
    found = ns.analyze(run.path)
    assert [phase.teaching for phase in found.phases] == ["none", "frozen", "clamped"]
    for phase in found.phases:
        assert phase.stable == 1.0
        assert phase.residual < 1e-10
    with h5py.File(run.path) as file:
        assert "dsoma/dt" in str(file["provenance/protocol_json"][()])


@pytest.mark.long
def test_every_command_takes_what_circuits_leave_behind(tmp_path, monkeypatch):
    """Populations beside those of layers, several seeds, figures: no command falls over them."""
    from typer.testing import CliRunner

    from neurosim.cli import app

    monkeypatch.chdir(tmp_path)
    path = next(path for path in CIRCUITS if path.stem == "controller")
    text = THREE.format(path=path, layers=load_model(path).layers, plastic=["W"])
    Path("three.toml").write_text(text)
    given = [
        "--set",
        "stages.0.phases.0.duration=50 ms",
        "--set",
        "stages.0.phases.1.duration=50 ms",
    ]
    given += ["--set", "record.every=10 ms"]
    for command in (
        ["run", "three.toml", "--level", "rate", "--seeds", "0:2", "--out", "a.h5", *given],
        ["inspect", "a.h5"],
        ["inspect", "a.h5", "--plot", "overview"],
        ["compare", "a.h5", "a.h5"],
        ["analyze", "a.h5", "--samples", "1", "--starts", "0"],
        ["check", "three.toml"],
    ):
        done = CliRunner().invoke(app, command, catch_exceptions=False)
        assert done.exit_code == 0, done.output
    assert {path.suffix for path in Path().iterdir()} >= {".h5", ".png"}


@pytest.mark.parametrize(
    ("old", "new", "where", "message"),
    [
        ("mu*g - soma", "nu*g - soma", "equations", "unknown name 'nu' (allowed: "),
        ("g        = t(apical)", "g = target", "equations", "only cells that answer, output"),
        ("up       = soma\n", "", "readout", "unknown quantity of output 'up'"),
        ("f        = s(basal)", "f = s(basal) + f", "equations", "an algebraic loop: f"),
        ("f        = s(basal)", "f = s(basal).real", "equations", "is not allowed"),
        ("f        = s(basal)", "f = s(basal, 1)", "equations", "s takes 1 argument, got 2"),
        ("apical   = feedback", "i = feedback\napical = i", "equations", "'i' has another meaning"),
        ("up       = soma", "up = f + g", "equations", "an algebraic loop"),
        ('like = "pyramidal"', 'like = "pyramid"', "like", "did you mean 'pyramidal'?"),
        ('output    = "output"', 'outputs = "output"', "outputs", "unknown cell 'outputs'"),
        ('tau_soma = "20 ms"', 'tau_soma = "20 mm"', "parameters", "unknown unit 'mm'"),
        ("mu       = 0.2", 'mu       = "2 mm"', "parameters.mu", "is no quantity"),
        ('tau_soma = "20 ms"', 'tau_soma = "20 mV"', "parameters", "has the wrong dimension"),
        ("mu       = 0.2", "target = 0.2", "target", "has a meaning of its own"),
        ('+ 1 - i)"\n\n[cells', '+ 1 - k)"\n\n[cells', "attenuation", "unknown name 'k'"),
        ('+ 1 - i)"\n\n[projections.Q', '+ 1 - k)"\n\n[projections.Q', "rate", "name 'k'"),
        ("[projections.Q]", "[projections.Q2]", "Q2", "no digit last"),
        ("[projections.Q]", "[projections.b]", "b", "has a meaning of its own"),
        ('output    = "output"', 'layer = "output"', "layer", "has a meaning of its own"),
        ('name = "mine"', 'name = "mine"\nmu = 0.1', "mu", "parameters.mu"),
        ('name = "mine"', 'name = "mine"\ndynamics = "mixture"', "dynamics", "[cells]"),
        (
            'name = "mine"',
            'name = "mine"\nreadout = "output.some"',
            "readout",
            "did you mean 'soma'?",
        ),
        ('name = "mine"', 'name = "mine"\ncut = "output.sama"', "cut", "'output.soma'?"),
        ("up[i-1] -> forward[i]", "up[i-1] -> forwards[i]", "wire", "did you mean 'forward'?"),
        ("up[i-1] -> forward[i]", "up[i-1] forward[i]", "wire", "is no wire"),
        ("up[i-1] -> forward[i]", "pyramid.up[i-1] -> forward[i]", "wire", "'pyramidal'?"),
        ("up[i-1] -> forward[i]", "up[i-1] => forward[i]", "wire", "'=>' is one to one, but"),
        ("down[i+1] -> feed", "down[i-3] -> feed", "wire", "connects nothing"),
        ("pinv(W[i+1])", "pinv(V[i+1])", "init", "unknown projection with weights 'V'"),
        ("pinv(W[i+1])", "pinv(W[i+1]", "init", "is no expression"),
        ("pinv(W[i+1])", "orthogonall", "init", "did you mean 'orthogonal'?"),
        ("pinv(W[i+1])", "-Q[i]", "init", "waits for itself: Q -> Q"),
        ("(soma - soma_free)", "(soma - xi)", "post", "unknown name 'xi'"),
        ('output    = "output"', "output = { layers = [1, 2] }", "equations", "output layer alone"),
        ("(soma - soma_free)", "(soma - some_free)", "post", "unknown name 'some_free'"),
        ("(soma - soma_free)", "(soma - target)", "post", "unknown name 'target'"),
        (
            "soma - soma_free",
            "soma - soma_fre",
            "plastic",
            "phase 'fre', which does not come before",
        ),
        ("t_slope(apical)*(soma - g)", "soma*up_free", "plastic", "which does not come before"),
    ],
)
def test_mistakes_are_placed_and_put_in_words(protocol, tmp_path, old, new, where, message):
    assert old in MODEL
    with pytest.raises(ns.InputError) as error:
        protocol(MODEL.replace(old, new, 1))
    text = str(error.value)
    assert message in text
    assert where in text
    assert re.search(r"(mine|run)\.toml(:\d+)?: ", text)


def test_starts_that_do_not_fit_are_refused_when_they_are_drawn(protocol, tmp_path):
    wrong = {"W[i+1]": "expected (4, 4)", "pinv(W[i+2])": "asks W for number 3 in layer 1"}
    for text, message in wrong.items():
        given = protocol(MODEL.replace("[3, 4, 4]", "[3, 4, 4]").replace("pinv(W[i+1])", text))
        if text == "W[i+1]":  # square: it fits
            continue
        with pytest.raises(ns.InputError, match=re.escape(message)):
            ns.run(given, out=tmp_path / "none.h5")


def test_starts_that_wait_for_each_other_are_found_whichever_way_the_circle_goes():
    """A and C are made from each other, and from B before that."""
    starts = {"A": "B[i] + C[i]", "B": "orthogonal", "C": "B[i] - A[i]"}
    [(where, message)] = start_problems(starts, ())
    assert where in ("A", "C")
    assert message.startswith("waits for itself: ")
    assert set(message.split(": ")[1].split(" -> ")) == {"A", "C"}


def test_a_rule_sees_the_parameters_of_its_phase(protocol, tmp_path):
    """Twice the factor in the phase that learns, twice the change of the first presentation."""
    text = MODEL.replace("slope(basal)*(soma", "factor*slope(basal)*(soma") + "factor = 1.0\n"
    once = {"stages.0.presentations": 1, "record.presentations": 0}
    changes = []
    for factor in (1.0, 2.0):
        given = protocol(text, **once, **{"stages.0.phases.1.parameters": {"factor": factor}})
        changes.append(
            change(ns.run(given, level="equilibrium", out=tmp_path / "w.h5", force=True), "W1")
        )
    assert np.abs(changes[0]).max() > 0
    np.testing.assert_allclose(changes[1], 2 * changes[0], rtol=1e-12)


def test_check_writes_equations_as_they_stand_in_the_file(protocol, tmp_path):
    """And what it writes is the same protocol again."""
    from neurosim.checking import check, in_words

    said = in_words(check(protocol()))
    assert "dsoma/dt = ((1 - mu)*f + mu*g - soma)/tau_soma     # [T 6.1]\n" in said
    (tmp_path / "again.toml").write_text(said)
    assert ns.load_protocol(tmp_path / "again.toml").spec == protocol().spec


# ----------------------------------------------------------------------------- the bridge to Brian2

CIRCUITS = sorted((Path(__file__).parent / "circuits").glob("*.toml"))
STEP, STEPS = 1e-3, 200


def bridged(spec: ModelSpec, dt: float, seed=0):
    """The largest difference of any state after two phases of Euler steps, at JAX and in Brian2."""
    from neurosim.levels.spiking.machine import Machine

    dynamics, net = build.dynamics(spec), build.network(spec)
    own = build.weights(spec, seed, None, Path())
    rng = np.random.default_rng(3)
    if "b" in own:
        own |= {"b": tuple(0.1 * rng.standard_normal(b.shape) for b in own["b"])}
    x, y = rng.standard_normal((3, spec.layers[0])), rng.standard_normal((3, spec.layers[-1]))
    level = Rate("euler", dt, False, 1e-6, 1e-9, 1e-3)

    def solve(x, y):
        state = rest(dynamics, net, jnp.float64)
        for target in (Target("none"), Target("fixed", value=y)):
            drive = dynamics.drive(net, own, x, target)
            moved = partial(field, dynamics, net, own, drive)
            state, _, _ = level.integrate(moved, state, dt * STEPS / 2)
        return state

    expected = jax.jit(jax.vmap(solve))(x, y)
    machine = Machine(dynamics, net, {}, dt, len(x), target="numpy")

    def program():
        machine.rest()
        machine.write_weights(own)
        machine.drive(own, x)
        machine.teach(None)
        yield STEPS // 2
        machine.teach(y)
        yield STEPS // 2

    machine.run(program(), STEPS)
    worst = 0.0
    for group, name in dynamics.circuit.moving:
        layers = dynamics.circuit.population[group.population].layers
        here = expected[f"{group.population}.{name}"][layers.index(group.layer)]
        assert np.abs(here).max() > 1e-2
        worst = max(worst, float(np.abs(machine.state(group, name) - here).max()))
    return worst


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("form", ["inverse", "autoencoder"])
@pytest.mark.parametrize("family", TEXTS)
def test_brian_integrates_the_same_text(family, form):
    """Two phases of 100 Euler steps, free and taught, from text for both: 1e-12 of each other."""
    activation = (
        {"name": "tanh"} if form == "autoencoder" else {"name": "leaky-relu", "slope": 0.35}
    )
    assert bridged(model(family, form=form, activation=activation), STEP) < 1e-12


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("path", CIRCUITS, ids=lambda path: path.stem)
def test_brian_integrates_circuits_that_are_no_chains(path):
    assert bridged(load_model(path), 1e-4) < 1e-12


VARIED = {
    **PARAMETERS,
    "tau_soma": {"mean": "20 ms", "spread": "4 ms"},
    "mu": {"mean": 0.2, "spread": 0.02},
}


@pytest.mark.usefixtures("double_precision")
def test_cells_that_differ_in_a_parameter_do_so_in_brian_too():
    assert bridged(model("mixture", parameters=VARIED, attenuation="1"), STEP) < 1e-12


@pytest.mark.usefixtures("double_precision")
def test_every_cell_has_its_own_value_of_a_spread_parameter():
    """τ dv/dt = pull − v, cell by cell; drawn by seed, never of the other sign."""
    spec = model("mixture", parameters=VARIED, layers=[4, 200, 200, 3], attenuation="1")
    alike = model("mixture", layers=[4, 200, 200, 3])
    own, other = (build.weights(spec, seed, None, Path()) for seed in (0, 1))
    taus = np.concatenate([own["pyramidal.tau_soma"][0], own["pyramidal.tau_soma"][1]])
    assert taus.mean() == pytest.approx(0.02, abs=4 * 0.004 / 20)
    assert taus.std() == pytest.approx(0.004, rel=0.2)
    assert taus.min() > 0
    assert not np.array_equal(own["output.mu"][0], other["output.mu"][0])
    dynamics, net = build.dynamics(spec), build.network(spec)
    state = states(dynamics, net)
    drive = dynamics.drive(net, own, jnp.ones(4), Target("none"))
    found = field(dynamics, net, own, drive, state)["pyramidal.soma"][0]
    now = dynamics.at(net, own, drive, state)
    group, mu = Group("pyramidal", 1), own["pyramidal.mu"][0]
    mixed = (1 - mu) * now(group, "basal_rate") + mu * now(group, "apical_rate")
    expected = (mixed - state["pyramidal.soma"][0]) / own["pyramidal.tau_soma"][0]
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert set(build.weights(alike, 0, None, Path())) == {"W", "Q", "b"}


@pytest.mark.long
def test_values_of_cells_are_in_the_trace_and_never_learn(protocol, tmp_path):
    spread = {"model.parameters.tau_soma": {"mean": "20 ms", "spread": "4 ms"}}
    run = ns.run(protocol(**spread), out=tmp_path / "spread.h5", level="rate")
    with h5py.File(run.path) as file:
        values = file["weights/pyramidal.tau_soma1"][()]
    np.testing.assert_array_equal(values[0], values[1])
    assert len(np.unique(values[0])) == 4
    found = ns.analyze(run.path, starts=0)  # which builds the network from its trace
    assert len(np.unique(np.round(found.phases[0].eigenvalues.real, 6))) > 4


@pytest.mark.usefixtures("double_precision")
def test_instant_populations_in_a_row_do_not_lag_in_brian():
    """A cell that follows at once, between two that move: sums go in the order of dependence."""
    relayed = model(
        "mixture",
        layers=[3, 4, 4],
        cells={
            "pyramidal": {"equations": "dsoma/dt = (forward + back - soma)/tau_soma\nup = soma"},
            "relay": {"equations": "out = s(soma_in)"},
            "output": {"equations": "dsoma/dt = (forward - soma)/tau_soma\nup = soma"},
        },
        populations={"pyramidal": "hidden", "relay": "hidden", "output": "output"},
        projections={
            "W": {"wire": "up[i-1] -> forward[i]"},
            "R": {"wire": "up[i] => relay.soma_in[i]"},
            "B": {"wire": "relay.out[i] -> back[i]"},
        },
        activation={"name": "tanh"},
    )
    assert bridged(relayed, STEP) < 1e-12


def test_text_in_brians_notation_keeps_its_order():
    """Sums and products in the order of the text, whatever stands for the names."""
    text = "((1 - mu)*s(basal) + mu*g - soma)/tau"
    found = parse(text, FUNCTIONS).written({"g": "apical_in"}, {"s": "tanh({})".format})
    assert found == "(((((1.0 - mu) * (tanh(basal))) + (mu * apical_in)) - soma) / tau)"


# ---------------------------------------------------------------------------- no chains of layers


def settled(spec: ModelSpec, own, x, target, tolerance=1e-13, **parameters):
    """(a look at every quantity at the fixed point, how it was reached)."""
    dynamics, net = build.dynamics(spec), build.network(spec)
    changed = {name: jnp.asarray(value) for name, value in parameters.items()}
    drive = dynamics.drive(net, own, x, target)
    drive = Drive(drive.x, drive.basal, drive.target, changed)
    problem = Problem(dynamics, net, own, drive, 1.0, jnp.zeros(spec.layers[-1]))
    start = rest(dynamics, net, jnp.float64)
    state, report, _ = Equilibrium(tolerance, 200, 0).settle(problem, start, Span(0.0, True))
    assert bool(report.settled)
    return dynamics.at(net, own, drive, state), report


@pytest.fixture
def circuit():
    def made(name, **changes):
        path = next(path for path in CIRCUITS if path.stem == name)
        spec = load_model(path, changes)
        assert problems(circuitry.tables(spec)) == []
        return spec, build.weights(spec, 0, None, Path())

    return made


@pytest.mark.usefixtures("double_precision")
def test_self_predicting_dendrites_are_silent_and_then_speak_the_backprop_error(circuit):
    """Apical potentials: 0 without nudging; B s'(v̂)(1 − λ_I)(u − v̂) with it, to first order.

    Sacramento et al. 2018: the deviation is linear in the nudging λ.
    """
    spec, own = circuit("microcircuit", output_activation="softplus")
    p, net = spec.parameters, build.network(spec)
    x = jnp.asarray(np.random.default_rng(0).standard_normal(5))
    free, _ = settled(spec, own, x, Target("none"))
    for layer in (1, 2):
        assert jnp.abs(free(Group("pyramidal", layer), "apical")).max() < 1e-13
    answer, share = Group("output", 3), p["g_s"] / (p["g_l"] + p["g_d"] + p["g_s"])
    deviations = []
    for strength in (1e-2, 1e-3, 1e-4):
        nudging = strength * (p["g_l"] + p["g_b"]) / (1 - strength)
        target = Target("fixed", value=jnp.asarray([2.0, 0.0, -1.0]))
        now, _ = settled(spec, own, x, target, nudging=nudging)
        predicted = p["g_b"] / (p["g_l"] + p["g_b"]) * now(answer, "basal")
        error = net.slope(3, predicted) * (1 - share) * (now(answer, "soma") - predicted)
        expected = own["B"][1] @ error
        apical = now(Group("pyramidal", 2), "apical")
        deviations.append(float(jnp.linalg.norm(apical - expected) / jnp.linalg.norm(expected)))
    assert deviations[0] < 0.02
    np.testing.assert_allclose(np.divide(deviations[:-1], deviations[1:]), 10, rtol=0.1)


@pytest.mark.usefixtures("double_precision")
def test_a_target_is_frozen_where_the_free_phase_left_the_answer():
    """Under the parameters of that phase, whatever the taught one changes."""
    shifted = MIXTURE.replace("forward", "forward + shift")
    taught = {"like": "pyramidal", "equations": "g = teach*target + (1 - teach)*soma"}
    cells = {"pyramidal": {"equations": shifted}, "output": taught}
    spec = model("mixture", cells=cells, parameters=PARAMETERS | {"shift": 0.0})
    dynamics, net, own = (
        build.dynamics(spec),
        network("linear"),
        build.weights(spec, 0, None, Path()),
    )
    x, y = (a[0] for a in samples())
    drive = dynamics.drive(net, own, x, Target("none"))
    system = System(dynamics, net, own, drive)
    free = {"shift": jnp.asarray(1.0)}
    found = phases(system, 0.1, y, ("frozen",), free_parameters=free)
    now, _ = settled(spec, own, x, Target("none"), shift=1.0)
    expected = 0.9 * now(Group("output", 3), "soma") + 0.1 * y
    np.testing.assert_allclose(found["frozen"][0].target.value, expected, rtol=1e-9)
    assert not found["frozen"][0].changed


@pytest.mark.usefixtures("double_precision")
def test_segregated_dendrites_rest_in_closed_form(circuit):
    """Guerguiev et al. 2017: C* = (g_B B + g_A A)/(g_L + g_B + g_A), and U* with its teaching."""
    spec, own = circuit("segregated")
    p = spec.parameters
    x = jnp.asarray(np.random.default_rng(0).standard_normal(6))
    label = jnp.asarray([1.0, 0.0, 0.0, 0.0])
    now, _ = settled(spec, own, x, Target("fixed", value=label))
    hidden, answer = Group("pyramidal", 1), Group("output", 2)
    soma = (p["g_b"] * own["W"][0] @ x + p["g_a"] * now(hidden, "apical")) / (
        p["g_l"] + p["g_b"] + p["g_a"]
    )
    np.testing.assert_allclose(now(hidden, "soma"), soma, rtol=1e-12)
    basal = own["V"][0] @ jax.nn.sigmoid(now(hidden, "soma"))
    teaching = 1000 * (label * p["e_exc"] + (1 - label) * p["e_inh"])
    expected = (p["g_b"] * basal + teaching) / (p["g_l"] + p["g_b"] + 1000)
    np.testing.assert_allclose(now(answer, "soma"), expected, rtol=1e-12)
    np.testing.assert_allclose(
        now(hidden, "apical"), own["Y"][0] @ jax.nn.sigmoid(expected), rtol=1e-12
    )


# ------------------------------------------------------------------------------- at three levels

THREE = """
name = "three"
batch = 4
precision = "float64"
[model]
use = "{path}"
[model.spiking]
neurons = 100
base_rate = "100 Hz"
max_rate = "400 Hz"
gain = "100 Hz"
[task]
name = "student-teacher"
layers = {layers}
train = 8
test = 4
[[stages]]
name = "training"
presentations = 1
[[stages.phases]]
name = "forward"
duration = "400 ms"
until = "duration"
[[stages.phases]]
name = "target"
duration = "400 ms"
until = "duration"
teaching = "clamped"
plastic = {plastic}
[record]
presentations = [0]
every = "200 ms"
[rate]
dt = "1 ms"
[equilibrium]
max_newton = 0  # the root solver takes longest to compile; it has tests of its own
[spiking]
target = "numpy"
window = "200 ms"
"""


def change(run, name):
    with h5py.File(run.path) as file:
        array = file[f"weights/{name}"][()]
    return array[1] - array[0]


@pytest.mark.long
def test_bursts_and_events_carry_two_quantities(tmp_path):
    """Of a multiplexing cell as text: what is learned from spikes is what is learned from rates."""
    equations = MULTIPLEXING.replace(" + bias", "").replace("bias)", "0)")
    cells = {"layers": "hidden", "spikes": ["f", "g"]}
    phase = {"duration": "1 s", "until": "duration"}
    taught = {"like": "pyramidal", "equations": "g = teach*target + (1 - teach)*f"}
    own = {
        "model": {
            "cells": {"pyramidal": {"equations": equations}, "output": taught},
            "populations": {"pyramidal": cells, "output": cells | {"layers": "output"}},
            "projections": {
                "W": {
                    "wire": "up[i-1] -> forward[i]",
                    "init": "orthogonal",
                    "gain": 0.5,
                    "post": RULE.format("g"),
                    "rate": 0.05,
                },
                "Q": {"wire": "down[i+1] -> feedback[i]", "init": "pinv(W[i+1])"},
            },
            "parameters": {"tau_basal": "20 ms", "tau_apical": "20 ms"},
            "layers": [5, 6, 4],
            "output": "linear",
            "loss": "squared",
            "target_step": 0.2,
        },
        "model.spiking": {
            "neurons": 100,
            "base_rate": "15 Hz",
            "gain": "5 Hz",
            "max_rate": "35 Hz",
        },
        "task": {"name": "student-teacher", "layers": [5, 6, 4], "train": 8, "test": 4},
        "batch": 4,
        "stages.0.epochs": None,
        "stages.0.presentations": 1,
        "stages.0.phases": [
            {"name": "free"} | phase,
            {"name": "learning", "teaching": "frozen", "plastic": ["W"]} | phase,
        ],
        "record.presentations": [0],
        "spiking": {"window": "500 ms", "target": "numpy"},
    }
    protocol = ns.load_protocol("quickstart", own)
    rate, spiking = (
        ns.run(protocol, level=level, out=tmp_path / f"{level}.h5") for level in ("rate", "spiking")
    )
    for name in ("W1", "W2"):
        a, b = change(rate, name), change(spiking, name)
        assert np.vdot(a, b) / np.linalg.norm(a) / np.linalg.norm(b) > 0.9, name
    rows = ns.compare(rate.path, spiking.path)["agreement"]
    ratios = [row["rmse"] / row["expected"] for row in rows if row["variable"] == "f"]
    assert np.mean(ratios) == pytest.approx(1, abs=0.2)  # of Poisson counts it would be 0.67


ADDITIVE = """
name = "additive"
layers = [4, 5, 3]
activation = "tanh"
target_step = 0.5

[cells.neuron]
equations = \"\"\"
rate       = s(forward)
dburst/dt  = (feedback - burst)/tau_burst
dsoma/dt   = (rate + kappa*(burst - soma) - soma)/tau_soma
\"\"\"

[cells.answer]
equations = "dsoma/dt = (forward + kappa*teach*(target - soma) - soma)/tau_soma"

[populations]
neuron = { layers = "hidden", spikes = "soma" }
answer = { layers = "output", spikes = "soma" }

[projections.W]
wire = "soma[i-1] -> forward[i]"
init = "orthogonal"
post = "soma - soma_forward"
rate = 0.1

[projections.Q]
wire = "soma[i+1] -> feedback[i]"
init = "transpose(W[i+1])"

[parameters]
kappa     = 0.3
tau_soma  = "20 ms"
tau_burst = "10 ms"
"""
"""A model that there is nowhere else."""


def test_adding_a_model_is_one_file(tmp_path):
    """Written anywhere, it runs at the three levels, which agree on what is learned."""
    (tmp_path / "additive.toml").write_text(ADDITIVE)
    levels_agree(tmp_path / "additive.toml", tmp_path)


@pytest.mark.long
@pytest.mark.parametrize("path", CIRCUITS, ids=lambda path: path.stem)
def test_one_file_runs_at_three_levels(path, tmp_path):
    """From another folder, with no other change; the levels agree on what is learned."""
    own = tmp_path / path.name
    own.write_text(path.read_text())
    levels_agree(own, tmp_path)


def levels_agree(path, folder):
    """One presentation of a model in a file, at rest, moving and spiking."""
    spec = load_model(path)
    plastic = [name for name, projection in spec.projections.items() if projection.post]
    text = THREE.format(path=path, layers=spec.layers, plastic=plastic)
    (folder / "three.toml").write_text(text)
    runs = {
        level: ns.run(folder / "three.toml", level=level, out=folder / f"{level}.h5")
        for level in ("equilibrium", "rate", "spiking")
    }
    with h5py.File(runs["rate"].path) as file:
        learned = [name for name in file["weights"] if name[0] in plastic]
    assert len(learned) >= 2
    for name in learned:
        rest, moving, spiking = (change(run, name) for run in runs.values())
        assert np.linalg.norm(moving) > 0
        np.testing.assert_allclose(rest, moving, rtol=0, atol=0.01 * np.abs(moving).max())
        cosine = np.vdot(moving, spiking) / np.linalg.norm(moving) / np.linalg.norm(spiking)
        assert cosine > 0.6, name
