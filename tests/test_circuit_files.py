"""A circuit in a file of one's own: it learns as the shipped one, and its mistakes are placed."""

import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from circuit_models import CIRCUITS, MIXTURE, THREE, change
from tiny_runs import TINY

import neurosim as ns
from neurosim.building import assembly
from neurosim.building.loading import load_model
from neurosim.circuits.starts import problems as start_problems
from neurosim.theory.closed_forms import free_spectrum

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
NAMED_START = f'init = "pinv(W[i+1])"\n{NAMED}\nrate = 0.05'
PREDICTS = "t_slope(apical)*(soma - apical_rate)"
COMPENSATED = [
    ("(soma - soma_free)", "((soma - soma_free)/attenuation)"),
    ('"0.05*((1 - mu)/mu)**(L + 1 - i)"', "0.05"),
]
"""The same depth compensation as the shipped rule has."""


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param("reconstruction", marks=pytest.mark.long),
        pytest.param("white-noise", marks=[pytest.mark.long, pytest.mark.seldom]),
        pytest.param("tied", marks=pytest.mark.long),
        pytest.param("difference", marks=pytest.mark.long),
    ],
)
def test_a_model_of_text_learns_as_the_shipped_one(protocol, tmp_path, rule):
    """Ten presentations of two phases, of W by memory of the free one and of Q.

    To rounding: the two are different programs, of which XLA may fuse the same sums otherwise.
    """
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
        np.testing.assert_allclose(ours, theirs, rtol=1e-11, atol=1e-13)


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
@pytest.mark.seldom
def test_every_command_takes_what_circuits_leave_behind(tmp_path, monkeypatch):
    """Populations beside those of layers, several seeds, figures: no command falls over them."""
    from typer.testing import CliRunner

    from neurosim.cli import app

    monkeypatch.chdir(tmp_path)
    path = next(path for path in CIRCUITS if path.stem == "controller")
    text = THREE.format(path=path, layers=load_model(path).layers, plastic=["W"], neurons=100)
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
        ("pinv(W[i+1])", "5*normall()", "init", "'normall' is no function"),
        ("pinv(W[i+1])", "normal(2)", "init", "normal takes no arguments, got 1"),
        (
            NAMED_START,
            'init = "normal()"\nrule = "tied"',
            "rule",
            "but normal() is drawn once; expected an init without it, or rule = 'fixed'",
        ),
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


def test_starts_may_draw():
    """Each by its own name: here a fifth of a uniform draw, five times as large."""
    changes = {"layers": [200, 300, 100], "projections.Y.gain": 2.0}
    changes["projections.Y.init"] = "0.5 + 5*uniform()*int(rand() < 0.2)"
    drawn = assembly.weights(load_model("segregated-dendrites", changes), 0, None, Path())
    Y = drawn["Y"][0]
    assert Y.shape == (300, 100)
    there = Y[Y != 1.0]
    assert abs(there.size / Y.size - 0.2) < 4 * np.sqrt(0.2 * 0.8 / Y.size)
    assert -9 <= there.min() < -8.9 and 10.9 < there.max() <= 11
    again = assembly.weights(load_model("segregated-dendrites", changes), 0, None, Path())
    np.testing.assert_array_equal(Y, again["Y"][0])
    plain = load_model("segregated-dendrites", changes | {"projections.Y.init": "uniform()"})
    named = load_model("segregated-dendrites", changes | {"projections.Y.init": "uniform"})
    np.testing.assert_array_equal(
        *(assembly.weights(spec, 0, None, Path())["Y"][0] for spec in (plain, named))
    )


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
    from neurosim.reports.checks import check, in_words

    said = in_words(check(protocol()))
    assert "dsoma/dt = ((1 - mu)*f + mu*g - soma)/tau_soma     # [T 6.1]\n" in said
    (tmp_path / "again.toml").write_text(said)
    assert ns.load_protocol(tmp_path / "again.toml").spec == protocol().spec


@pytest.mark.long
@pytest.mark.seldom
def test_values_of_cells_are_in_the_trace_and_never_learn(protocol, tmp_path):
    spread = {"model.parameters.tau_soma": {"mean": "20 ms", "spread": "4 ms"}}
    run = ns.run(protocol(**spread), out=tmp_path / "spread.h5", level="rate")
    with h5py.File(run.path) as file:
        values = file["weights/pyramidal.tau_soma1"][()]
    np.testing.assert_array_equal(values[0], values[1])
    assert len(np.unique(values[0])) == 4
    found = ns.analyze(run.path, starts=0)  # which builds the network from its trace
    assert len(np.unique(np.round(found.phases[0].eigenvalues.real, 6))) > 4


def test_a_rule_cannot_mean_a_quantity_by_a_name_that_has_a_meaning_in_rules(protocol):
    text = MODEL.replace("up       = soma", "attenuation = f\nup       = soma")
    text = text.replace("(soma - soma_free)", "attenuation*(soma - soma_free)")
    with pytest.raises(ns.InputError, match="'attenuation' has a meaning of its own in rules"):
        protocol(text)
