"""Circuits as `check` shows them: in words, as LaTeX, as a picture."""

import json
import re
import shutil
import subprocess
from itertools import combinations, pairwise
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from command_line import call
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.mathtext import MathTextParser
from matplotlib.transforms import Affine2D, Bbox

import neurosim as ns
from neurosim import circuitry
from neurosim.activations import ACTIVATIONS, Elementwise
from neurosim.circuits.description import FUNCTIONS
from neurosim.circuits.expressions import parse
from neurosim.circuits.latex import called, formula, symbol
from neurosim.circuits.methods import STARTS, TRANSFER
from neurosim.circuits.starts import NAMED
from neurosim.dynamics.circuit import ELEMENTARY
from neurosim.figures.circuits import circuit_figure
from neurosim.figures.placement import Plan
from neurosim.outline import in_words
from neurosim.spec import FORMULAS

CIRCUITS = {path.stem: path for path in (Path(__file__).parent / "circuits").glob("*.toml")}

ODD = r"""
name = "odd_100%"
source = "A & B, $5"
layers = [4, 4, 4, 4, 2]
activation = { name = "leaky-relu", slope = 0.35 }
readout = "out.rate"

[cells.pyr]
equations = '''
dV_m/dt = (ff + skip + bias - V_m + rec*near + far*(kick < 0.5) + sqrt(tau_m)*xi + 1e-9*back)/tau_m
rate    = s(V_m)
back    = encode(rate, bias)
'''
[cells.out]
equations = '''
dV_m/dt = (ff - V_m + skip + teach*(target - rate))/tau_m
rate    = s(V_m)
'''
[cells.inh]
equations = '''
da/dt = (exc - a - top)/tau_a
out   = clip(a, 0, 1)
'''
[cells.inh.parameters]
tau_a = "10 ms"
[cells.mod]
equations = "drive = gain*abs(all)"

[populations]
pyr = { layers = "hidden", spikes = "rate" }
inh = { layers = "hidden", size = 3, spikes = "out" }
mod = { layers = [1, 3], size = 2, spikes = false }
out = { layers = "output", spikes = "rate" }

[projections.W_ff]
wire = "rate[i-1] -> ff[i]"
post = "slope(V_m)*(rate - rate_free)"
rate = "0.1*(1 + i)/L"
decay = 0.01
limit = 2.0
bias = true
[projections.S]
wire = "rate[0] -> skip[i]"
init = "zeros"
[projections.R]
wire = "pyr.rate[i] -> pyr.rec[i]"
post = "-V_m"
rate = [0.1, 0.2, 0.3]
[projections.I]
wire = "inh.out[i] -> pyr.near[i]"
init = "normal"
gain = 0.2
[projections.X]
wire = "pyr.rate[i] -> inh.exc[i]"
[projections.T]
wire = "out.rate[L] -> inh.top[i]"
[projections.M]
wire = "mod.drive[i] -> pyr.far[i]"
[projections.G]
wire = "pyr.rate[i] -> mod.all[i]"
init = "transpose(M[i])"
rule = "tied"
[projections.K]
wire = "pyr.rate[i-1] => pyr.kick[i]"

[parameters]
tau_m = "20 ms"
gain  = 0.5
"""
"""What the shipped ones have not: loops to oneself, routes past and over others, sparse layers."""

PROTOCOL = """
name = "shown"
batch = 5
[model]
use = "{path}"
[task]
name = "student-teacher"
layers = {layers}
train = 10
test = 5
[[stages]]
name = "training"
presentations = 2
[[stages.phases]]
name = "{first}"
duration = "50 ms"
until = "duration"
[[stages.phases]]
name = "learning"
duration = "50 ms"
until = "duration"
teaching = "clamped"
plastic = ["{plastic}"]
[rate]
dt = "0.1 ms"
"""
FIRST = {"segregated": "forward"}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odd.toml").write_text(ODD, encoding="utf-8")


def path_of(name):
    return CIRCUITS.get(name, Path("odd.toml"))


def model(name, **changes):
    return ns.load_model(path_of(name), changes)


def protocol(name, **changes):
    spec = model(name)
    text = PROTOCOL.format(
        path=path_of(name),
        layers=[spec.layers[0], 4, spec.layers[-1]],
        first=FIRST.get(name, "free"),
        plastic=next(iter(spec.projections)),
    )
    Path("shown.toml").write_text(text, encoding="utf-8")
    return ns.load_protocol("shown.toml", changes)


ALL = [*sorted(CIRCUITS), "odd"]


# ------------------------------------------------------------------------------------- formulas


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("tau_soma", r"\tau_{\mathrm{soma}}"),
        ("mu", r"\mu"),
        ("Delta_t", r"\Delta_{t}"),
        ("g_l", "g_{l}"),
        ("e_exc", r"e_{\mathrm{exc}}"),
        ("soma", r"\mathrm{soma}"),
        ("x1", "x_{1}"),
        ("alpha2_max", r"\alpha_{2,\mathrm{max}}"),
        ("layer1", r"\mathrm{layer1}"),
    ],
)
def test_names_in_formulas(name, expected):
    assert symbol(name) == expected
    index = expected[:-1] + ",i}" if expected.endswith("}") and "_" in expected else None
    assert symbol(name, "i") == (index or expected + "_{i}")
    assert symbol(name, "i", ["free"]) == symbol(name, "i") + r"^{\mathrm{free}}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(1 - mu)*f + mu*g", r"(1 - \mu)\,f + \mu\,g"),
        ("(basal - soma)/tau_soma", r"\frac{\mathrm{basal} - \mathrm{soma}}{\tau_{\mathrm{soma}}}"),
        ("a - (b - c)", "a - (b - c)"),
        ("a - b - c", "a - b - c"),
        ("a + (b - c)", "a + b - c"),
        ("a + -b", "a + (-b)"),
        ("a - -b", "a - (-b)"),
        ("-a*b", r"-a\,b"),
        ("a*-b", r"a\,(-b)"),
        ("-(a + b)", "-(a + b)"),
        ("-a/b", r"-\frac{a}{b}"),
        ("+a", "a"),
        ("-a**2", "-a^{2}"),
        ("(-a)**2", "(-a)^{2}"),
        ("(a*b)**2", r"(a\,b)^{2}"),
        ("(a**b)**c", "(a^{b})^{c}"),
        ("2*3*a", r"2 \cdot 3\,a"),
        ("a*2", r"a \cdot 2"),
        ("a*(b + c)/d", r"\frac{a\,(b + c)}{d}"),
        ("a/b/c", r"\frac{\frac{a}{b}}{c}"),
        ("a/(b*c)*d", r"\frac{a}{b\,c}\,d"),
        ("(a/b)**(L - i)", r"\left(\frac{a}{b}\right)^{L - i}"),
        ("1e-9*a + 2.5e12", r"10^{-9}\,a + 2.5 \cdot 10^{12}"),
        ("0.1 + 1/3", r"0.1 + \frac{1}{3}"),
        ("s(soma)", r"s(\mathrm{soma})"),
        ("s(a/b)", r"s\left(\frac{a}{b}\right)"),
        ("slope(a)*s_inv(b)", "s'(a)\\,s^{-1}(b)"),
        ("t(a) - t_slope(a)", "t(a) - t'(a)"),
        ("encode(h, b)", "s^{-1}(h) - b"),
        ("a - encode(h, b)", "a - (s^{-1}(h) - b)"),
        ("encode(h, 0)", "s^{-1}(h)"),
        ("sqrt(abs(x))", r"\sqrt{\left|x\right|}"),
        ("2*expm1(x)", r"2\,(\exp(x) - 1)"),
        ("log1p(-x)", r"\log(1 + (-x))"),
        ("clip(x, 0, 1)", r"\operatorname{clip}(x, 0, 1)"),
        ("a*int(b <= 0)", r"a\,[b \leq 0]"),
        ("a >= b", r"[a \geq b]"),
        ("exp(-a)**2", r"\exp(-a)^{2}"),
    ],
)
def test_formulas_are_the_expressions(text, expected):
    assert formula(parse(text, FUNCTIONS)) == expected
    MathTextParser("path").parse(f"${expected}$")


def test_formulas_of_another_layer_and_form():
    functions = called("i+1", "autoencoder")
    text = formula(parse("s(a)*slope(a) + s_inv(a) - encode(h, b)", FUNCTIONS), symbol, functions)
    assert text == r"s_{i+1}(a)\,s_{i+1}'(a) + s_{i+1}^{-1}(a) - h"


def test_transfer_functions_are_what_is_computed():
    assert set(TRANSFER) == set(FORMULAS)
    a = jnp.linspace(-3, 3, 7)
    for name, text in TRANSFER.items():
        made = ACTIVATIONS[name](0.35) if name == "leaky-relu" else ACTIVATIONS[name]()
        found = parse(text)({"a": a, "slope": 0.35}, ELEMENTARY)
        np.testing.assert_allclose(found, made(a), rtol=1e-5, atol=1e-6)


def test_every_start_has_words():
    assert set(STARTS) == set(NAMED)


# ---------------------------------------------------------------------------------- the methods


def sides(text):
    """The rows of the aligned equations: left side → the rest."""
    found = {}
    joint = r",? \\nonumber\\\\\n *&\\quad\{\}( i )?"
    for block in re.findall(r"\\begin\{align\}\n(.*?)\\end\{align\}", text, re.DOTALL):
        block = re.sub(r" *\\intertext\{.*\}\n", "", block)
        block = re.sub(joint, lambda m: ", && i " if m[1] else "", block)
        for row in block.splitlines():
            left, right = row.removesuffix(r" \\").split(" &= ", 1)
            assert left.strip() not in found
            found[left.strip()] = right
    return found


def test_the_controller_as_latex():
    rows = sides(ns.check(protocol("controller"), latex="-")["latex"])
    assert rows[r"\frac{\mathrm{d}\,\mathrm{integral}_{L}}{\mathrm{d}t}"] == (
        r"\frac{\mathrm{error}_{L}^{\mathrm{controller}} - \mathrm{leak}\,u_{L}}"
        r"{\tau_{\mathrm{control}}}"
    )
    assert rows[r"u_{L}"] == (
        r"\mathrm{integral}_{L} + \mathrm{proportion}\,\mathrm{error}_{L}^{\mathrm{controller}}"
    )
    assert rows[r"\mathrm{error}_{L}^{\mathrm{controller}}"] == r"\mathrm{error}_{L}"
    assert rows[r"\mathrm{forward}_{i}"] == r"W_{i}\,\mathrm{rate}_{i-1}, && i = 1, \dots, L"
    assert rows[r"\mathrm{feedback}_{i}"] == r"Q_{i}\,u_{L}, && i = 1, \dots, L-1"
    assert rows[r"\mathrm{feedback}_{L}"] == r"D_{L}\,u_{L}"
    assert rows[r"\Delta Q_{i}"] == (
        r"\eta_{Q}\,\left\langle \left(-\frac{\mathrm{apical}_{i}}{\sigma^{2}}\right)\,"
        r"u_{L}^{\top} \right\rangle, && i = 1, \dots, L-1"
    )
    assert rows[r"\Delta W_{i}"] == (
        r"\eta_{W}\,\left\langle (\mathrm{rate}_{i} - s(\mathrm{basal}_{i}))\,"
        r"\mathrm{rate}_{i-1}^{\top} \right\rangle, && i = 1, \dots, L"
    )


def test_the_microcircuit_as_latex():
    """Its interneurons have the transfer function of the layer above, and names of their own."""
    rows = sides(ns.check(protocol("microcircuit"), latex="-")["latex"])
    assert rows[r"\mathrm{rate}_{i}^{\mathrm{interneuron}}"] == (
        r"s_{i+1}(\mathrm{soma}_{i}^{\mathrm{interneuron}})"
    )
    assert rows[r"\mathrm{rate}_{i}"] == r"s(\mathrm{soma}_{i})"
    assert rows["A_{i}"] == r"-B_{i}, && i = 1, \dots, L-1"
    assert rows["I_{i}"] == (
        r"\frac{W_{i+1}\,g_{b}\,(g_{l} + g_{d})}{g_{d}\,(g_{l} + g_{b} + g_{a}\,[i < L - 1])}, "
        r"&& i = 1, \dots, L-1"
    )
    assert rows[r"\mathrm{nudge}_{i}"] == r"\mathrm{soma}_{i+1}, && i = 1, \dots, L-1"
    assert rows[r"\Delta A_{i}"] == (
        r"\eta_{A}\,\left\langle (-\mathrm{apical}_{i})\,"
        r"(\mathrm{rate}_{i}^{\mathrm{interneuron}})^{\top} \right\rangle, && i = 1, \dots, L-1"
    )


def test_segregated_dendrites_as_latex():
    """What is remembered has its phase in the exponent; a parameter of one cell has the cell."""
    text = ns.check(protocol("segregated"), latex="-")["latex"]
    rows = sides(text)
    post = (
        r"\frac{g_{b}}{g_{l} + g_{b} + g_{a}}\,(\mathrm{plateau}_{1} - "
        r"\mathrm{plateau}_{1}^{\mathrm{forward}})\,s'(\mathrm{soma}_{1}^{\mathrm{forward}})"
    )
    pre = r"(\mathrm{rate}_{0}^{\mathrm{forward}})^{\top}"
    assert rows[r"\Delta W_{1}"] == rf"\eta_{{W}}\,\left\langle {post}\,{pre} \right\rangle"
    assert rows[r"\Delta \mathrm{bias}_{1}"] == rf"\eta_{{W}}\,\left\langle {post} \right\rangle"
    assert rows[r"\mathrm{forward}_{L}"] == r"V_{L}\,\mathrm{rate}_{L-1}"
    for row in (
        r"$g_{b}$ & $600$ & Hz \\",
        r"$e_{\mathrm{inh}}$ & $-8$ &  \\",
        r"$\mathrm{second}^{\mathrm{output}}$ & $1000$ & Hz \\",
        r"$\eta_{V}$ & $1$ &  \\",
    ):
        assert row in text.splitlines()


def test_what_is_odd_as_latex():
    text = ns.check(protocol("odd"), latex="-")["latex"]
    rows = sides(text)
    assert rows[r"\mathrm{far}_{i}"] == r"M_{i}\,\mathrm{drive}_{i}, && i \in \{1, 3\}"
    assert "In other layers these inputs are 0." in text.splitlines()
    assert rows[r"\eta_{W,\mathrm{ff},i}"] == r"\frac{0.1\,(1 + i)}{L}"
    assert rows[r"\Delta W_{\mathrm{ff},i}"] == (
        r"\eta_{W,\mathrm{ff},i}\,\left(\left\langle s'(V_{m,i})\,(\mathrm{rate}_{i} - "
        r"\mathrm{rate}_{i}^{\mathrm{free}})\,\mathrm{rate}_{i-1}^{\top} \right\rangle - "
        r"\lambda_{W,\mathrm{ff}}\,W_{\mathrm{ff},i}\right), && i = 1, \dots, L"
    )
    assert rows[r"\Delta \mathrm{bias}_{i}"] == (  # biases do not decay
        r"\eta_{W,\mathrm{ff},i}\,\left\langle s'(V_{m,i})\,(\mathrm{rate}_{i} - "
        r"\mathrm{rate}_{i}^{\mathrm{free}}) \right\rangle, && i = 1, \dots, L"
    )
    assert rows["G_{i}"] == r"M_{i}^{\top}, && i \in \{1, 3\}"
    said = (r"The weights $W_{\mathrm{ff}}$ stay within $\pm 2$.", r"$\xi$ is white noise.")
    assert set(said) <= set(text.splitlines())
    assert r"$\tau_{a}^{\mathrm{inh}}$ & $0.01$ & s \\" in text.splitlines()
    online = {
        "plasticity": "online",
        "model.tau_memory": "50 ms",
        "model.projections.W_ff.rate": "0.5 Hz",
        "model.projections.R.rate": "0.1 Hz",
        "model.parameters.tau_m": "30 ms",
    }
    text = ns.check(protocol("odd", **online), latex="-")["latex"]
    assert r"\frac{\mathrm{d}\,W_{\mathrm{ff},i}}{\mathrm{d}t}" in sides(text)
    assert r"$\eta_{W,\mathrm{ff}}$ & $0.5$ & Hz \\" in text.splitlines()
    assert r"$\tau_{m}$ & $0.03$ & s \\" in text.splitlines()


def test_sums_over_layers_and_products_of_weights():
    text = ODD.replace("- V_m + skip +", "- V_m + skip + every +")
    text = text.replace('post = "-V_m"', 'post = "-V_m"\ninit = "W_ff[i]*W_ff[i]/2"')
    more = '[projections.V]\nwire = "pyr.rate[i] -> out.every[L]"\npost = "V_m"\nrate = 0.1\n'
    Path("odd.toml").write_text(text + more, encoding="utf-8")
    rows = sides(ns.check(protocol("odd"), latex="-")["latex"])
    assert rows[r"\mathrm{every}_{L}"] == r"\sum_{i = 1, \dots, L-1} V_{i}\,\mathrm{rate}_{i}"
    assert rows[r"\Delta V_{i}"] == (
        r"\eta_{V}\,\left\langle V_{m,L}\,\mathrm{rate}_{i}^{\top} \right\rangle, "
        r"&& i = 1, \dots, L-1"
    )
    half = r"\frac{W_{\mathrm{ff},i} \odot W_{\mathrm{ff},i}}{2}"
    assert rows["R_{i}"] == half + r", && i = 1, \dots, L-1"


def test_transfer_functions_of_layers_noise_and_functions_of_a_script():
    given = {"model.noise": {"soma": 0.05}, "model.activation": Elementwise(jnp.sin)}
    text = ns.check(protocol("controller", **given), latex="-")["latex"]
    assert "stands: a function of its own in hidden layers, $s(a) = a$ in layer $L$." in text
    said = r"$\mathrm{soma}$ has noise of the stationary deviation $0.05$."
    assert said in text.splitlines()
    given = {"model.output_activation": "tanh"}
    text = ns.check(protocol("controller", **given), latex="-")["latex"]
    assert r"in which a cell stands: $s(a) = \tanh(a)$." in text


@pytest.mark.parametrize("name", ALL)
def test_latex_is_well_formed(name):
    well_formed(ns.check(protocol(name), latex="-")["latex"])


def well_formed(text):
    """Environments and braces close, and every formula is one to another reader of TeX."""
    opened = re.findall(r"\\(begin|end)\{(\w+)\}", text)
    stack = []
    for kind, environment in opened:
        if kind == "begin":
            stack.append(environment)
        else:
            assert stack.pop() == environment
    assert not stack
    plain = re.sub(r"\\[{}]", "", text)
    assert plain.count("{") == plain.count("}")
    left, right = (re.findall(rf"\\{side}(?![a-z])", text) for side in ("left", "right"))
    assert len(left) == len(right)
    reader = MathTextParser("path")
    for left, right in sides(text).items():
        for part in (left, *re.split(r", && |, &&", right)):
            reader.parse(f"${part}$")
    body = re.sub(r"\\begin\{align\}.*?\\end\{align\}", "", text, flags=re.DOTALL)
    inline = re.findall(r"\$([^$]+)\$", body.partition("\n")[2])
    assert inline
    for part in inline:
        reader.parse(f"${part}$")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("name", ALL)
def test_latex_compiles(name):
    text = ns.check(protocol(name), latex="-")["latex"]
    start = "\\documentclass{article}\n\\usepackage{amsmath}\n\\begin{document}\n"
    Path("whole.tex").write_text(f"{start}{text}\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "whole.tex"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]


# --------------------------------------------------------------------------------------- words


def test_check_says_who_stands_where_and_reaches_whom():
    report = ns.check(protocol("microcircuit", **{"stages.0.phases.1.parameters.nudging": "5 Hz"}))
    found = report["circuit"]
    assert json.loads(json.dumps(found)) == found
    assert found["layers"] == [5, 6, 4, 3]
    populations = {p["name"]: p for p in found["populations"]}
    assert populations["interneuron"] == {
        "name": "interneuron",
        "cell": "interneuron",
        "layers": [1, 2],
        "sizes": [4, 3],
        "states": ["soma"],
        "quantities": ["dendrite", "soma", "rate", "expected"],
        "spikes": ["rate"],
    }
    shapes = {p["name"]: p["shapes"] for p in found["projections"]}
    assert shapes == {
        "W": [[6, 5], [4, 6], [3, 4]],
        "B": [[6, 4], [4, 3]],
        "I": [[4, 6], [3, 4]],
        "A": [[6, 4], [4, 3]],
        "N": None,
    }
    assert found["phases"][1] == {
        "stage": "training",
        "name": "learning",
        "teaching": "clamped",
        "plastic": ["W"],
        "parameters": {"nudging": 5.0},
    }
    lines = in_words(found)
    for line in (
        "  interneuron  layers 1, 2: 4, 3 units; spikes carry rate",
        "  output       layer 3: 3 units; spikes carry rate; soma answers",
        "  W  rate[i-1] -> forward[i]: 6x5, 4x6, 3x4, from xavier",
        "     post s(soma) - expected; pre rate; rate 0.1",
        "  B  rate[i+1] -> feedback[i]: 6x4, 4x3, from uniform",
        "     fixed",
        "  N  soma[i+1] => interneuron.nudge[i]: one to one, without weights",
        "  free      no teaching; opens nothing",
        "  learning  teaching clamped; opens W; nudging = 5",
    ):
        assert line in lines


def test_check_says_what_rules_remember():
    found = ns.check(protocol("segregated"))["circuit"]
    (first, *_) = found["projections"]
    assert first["remembered"] == {
        f"{name}_forward": {"quantity": name, "phase": "forward"}
        for name in ("plateau", "rate", "soma")
    }
    assert first["rule"]["pre"] == "rate_forward"
    assert "     remembers plateau, soma, rate of phase forward" in in_words(found)
    assert "; rate 1.0; biases learn along" in "\n".join(in_words(found))


def test_words_say_what_else_there_is():
    found = ns.check(protocol("odd"))["circuit"]
    lines = in_words(found)
    for line in (
        "  mod  layers 1, 3: 2, 2 units; no spikes",
        "  I     inh.out[i] -> pyr.near[i]: 4x3, 4x3, 4x3, from normal times 0.2",
        "        post slope(V_m)*(rate - rate_free); pre rate; rate 0.1*(1 + i)/L; decay 0.01; "
        "at most 2; biases learn along",
        "        post -V_m; pre rate; rate 0.1, 0.2, 0.3",
        "        rule tied; rate 0.0",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("spikes", "said"),
    [
        (["f", "g"], "spikes carry f by events, g by bursts"),
        (None, "what spikes carry is not said"),
    ],
)
def test_words_of_spikes(spikes, said):
    found = ns.check(protocol("controller"))["circuit"]
    found["populations"][0] |= {"spikes": spikes, "cell": "other"}
    assert f"  pyramidal   layers 1, 2: 5, 4 units; cells other; {said}" in in_words(found)


@pytest.mark.parametrize("name", ALL)
def test_what_check_prints_of_a_circuit_is_the_same_protocol(name):
    given = protocol(name, **{"stages.0.name": "a\nb = 1\r\x0b"})
    printed = call("check", "shown.toml", "--set", 'stages.0.name="a\\nb = 1\\r\\u000b"').stdout
    Path("again.toml").write_text(printed, encoding="utf-8", newline="")
    assert ns.load_protocol("again.toml").spec == given.spec
    words = [line for line in printed.splitlines() if line.startswith("#")]
    assert "# projections" in words


SHIPPED = {
    "mixture": "mixture-single-phase",
    "mixture-two-phase": "quickstart",
    "mixture-dendrites": "quickstart",
    "multiplexing": "multiplexing-digits",
    "backprop": "backprop-digits",
    "target-propagation": "target-propagation",
    "feedback-control": "feedback-control-digits",
}
"""Every model that ships → a protocol for it."""


@pytest.mark.parametrize("name", SHIPPED)
def test_models_that_ship_are_shown_like_any_other(name):
    assert set(SHIPPED) == {e["name"] for e in ns.catalog("models")}
    given = ns.load_protocol(SHIPPED[name], {"model.use": name})
    report = ns.check(given, latex="-", plot=f"{name}.svg")
    assert report["files"] == [f"{name}.svg"]
    made = circuitry.circuit(given.spec.model)
    found = report["circuit"]
    assert [p["name"] for p in found["populations"]] == list(made.population)
    assert [p["name"] for p in found["projections"]] == list(made.projection)
    well_formed(report["latex"])
    drawn = Path(f"{name}.svg").read_text(encoding="utf-8")
    for population in made.population:
        assert population in drawn


def test_the_mixture_as_latex():
    """T 6.1, 6.17, 6.19 and 6.23, as they stand in the thesis but for names."""
    rows = sides(ns.check("mixture-single-phase", latex="-")["latex"])
    f, g, h = (rf"\mathrm{{{name}}}" for name in ("basal", "apical", "soma"))
    f, g = (rf"{name}_{{\mathrm{{rate}},1}}" for name in (f, g))
    assert rows[rf"\frac{{\mathrm{{d}}\,{h}_{{1}}}}{{\mathrm{{d}}t}}"] == (
        rf"\frac{{(1 - \mu)\,{f} + \mu\,{g} - {h}_{{1}}}}{{\tau_{{\mathrm{{soma}}}}}}"
    )
    assert rows[r"\mathrm{down}_{1}"] == rf"s^{{-1}}({h}_{{1}}) - \mathrm{{bias}}_{{1}}"
    assert rows["Q_{1}"] == "W_{2}^{-1}"
    f = f.replace("1}", "i}")
    assert rows[r"\Delta W_{i}"] == (
        rf"\eta_{{W}}\,\left\langle s'(\mathrm{{basal}}_{{i}})\,\frac{{{h}_{{i}} - {f}}}"
        r"{\alpha_{i}}\,\mathrm{up}_{i-1}^{\top} \right\rangle, && i = 1, \dots, L"
    )
    assert rows[r"\alpha_{i}"] == r"\left(\frac{\mu}{1 - \mu}\right)^{L + 1 - i}"


def test_a_channel_of_its_own_is_shown():
    report = ns.check("target-propagation", latex="-")
    found = report["circuit"]["credit"]
    assert found["name"] == "dtp-ai" and found["shapes"] == [[6, 6]]
    assert (found["init"], found["rule"], found["rate"]) == ("pseudo-inverse", "white-noise", 0.05)
    lines = in_words(report["circuit"])
    at = lines.index("teaching by a channel")
    assert lines[at + 1 : at + 3] == [
        "  dtp-ai",
        "  Q 6x6, from pseudo-inverse; rule white-noise; rate 0.05",
    ]
    said = r"$\mathrm{teaching}$ is what the method \emph{dtp-ai} brings: targets by differences of"
    assert said in report["latex"]
    plain = ns.check("backprop-digits")["circuit"]
    assert plain["credit"]["shapes"] == [] and in_words(plain).count("  backprop") == 1
    assert ns.check("quickstart")["circuit"]["credit"] is None


def test_biases_that_are_none_are_said_to_be_0():
    assert r"$\mathrm{bias}$ is 0." in ns.check("quickstart", latex="-")["latex"].splitlines()
    given = ns.load_protocol("quickstart", {"model.projections.W.bias": True})
    assert r"$\mathrm{bias}$ is 0." not in ns.check(given, latex="-")["latex"]


def test_the_command_line_writes_what_the_library_does():
    given = protocol("microcircuit")
    text = ns.check(given, latex="-")["latex"]
    assert call("check", "shown.toml", "--latex", "-").stdout == text
    arguments = ["check", "shown.toml", "--latex", "new/a.tex", "--plot", "new/a.svg"]
    result = call(*arguments)
    assert result.exit_code == 0
    assert Path("new/a.tex").read_text(encoding="utf-8") == text
    assert Path("new/a.svg").read_text(encoding="utf-8").count("interneuron") > 0
    assert "# written: new/a.tex, new/a.svg\n" in result.stdout
    assert json.loads(call(*arguments, "--force", "--json").stdout)["files"] == [
        "new/a.tex",
        "new/a.svg",
    ]


@pytest.mark.parametrize(
    ("option", "file", "message"),
    [
        ("--latex", "there.tex", "exists; give --force to overwrite it"),
        ("--plot", "there.png", "exists; give --force to overwrite it"),
        ("--latex", "a.pdf", "expected a name that ends in .tex"),
        ("--plot", "a.tex", "expected a name that ends in .png, .svg or .pdf"),
        ("--plot", "-", "expected a name that ends in .png, .svg or .pdf"),
        ("--latex", "there.png/a.tex", "cannot be written there"),
        ("--plot", "there.png/a.png", "cannot be written there"),
    ],
)
def test_files_that_cannot_be_are_refused(option, file, message):
    protocol("segregated")
    for name in ("there.tex", "there.png"):
        Path(name).write_text("mine")
    result = call("check", "shown.toml", option, file)
    assert result.exit_code == 2
    assert message in result.stderr and file in result.stderr
    assert Path("there.tex").read_text() == Path("there.png").read_text() == "mine"


# ------------------------------------------------------------------------------------- pictures


def test_only_sound_circuits_are_drawn():
    wires = {"projections.Q.wire": "controller.u[L] -> fedback[i]", "readout": "output.rates"}
    with pytest.raises(ns.InputError) as error:
        circuit_figure(model("controller", **wires))
    assert "controller: projections.Q.wire: " in str(error.value)
    assert "'feedback'" in str(error.value)


DEEP = {
    "controller": [[6, 4, 3], [6, 5, 4, 3], [5, 7, 6, 5, 4, 3, 2]],
    "microcircuit": [[5, 6, 3], [5, 6, 4, 3], [5, 7, 6, 5, 4, 3, 2]],
    "segregated": [[6, 8, 4]],
    "odd": [[4, 4, 4, 4, 2]],
}


@pytest.fixture(params=[(n, k) for n in ALL for k in range(len(DEEP[n]))], ids=str)
def drawn(request):
    name, number = request.param
    spec = model(name, layers=DEEP[name][number])
    figure = circuit_figure(spec)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return spec, figure, canvas.get_renderer()


def inside(box, outer, by=0.0):
    return (
        outer.x0 + by <= box.x0 and box.x1 <= outer.x1 - by
        and outer.y0 + by <= box.y0 and box.y1 <= outer.y1 - by
    )  # fmt: skip


def overlap(a, b):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5


def test_pictures_show_everything_and_nothing_overlaps(drawn):
    spec, figure, renderer = drawn
    (axes,) = figure.axes
    texts = [t for t in axes.texts if t.get_text()]
    extents = [t.get_window_extent(renderer) for t in texts]
    for extent in extents:
        assert inside(extent, figure.bbox, 2)
    for (a, one), (b, other) in combinations(zip(texts, extents, strict=True), 2):
        assert not overlap(one, other), (a.get_text(), b.get_text())
    plan = Plan(circuitry.circuit(spec))
    boxes = {p.get_gid(): p.get_window_extent(renderer) for p in axes.patches
             if p.get_gid() and "[" in p.get_gid()}  # fmt: skip
    assert set(boxes) == {f"{g.population}[{g.layer}]" for g in plan.groups}
    for a, b in combinations(boxes.values(), 2):
        assert not overlap(a, b)
    words = [t.get_text() for t in texts]
    for gid, box in boxes.items():
        name, layer = gid.rstrip("]").split("[")
        within = [t for t, e in zip(words, extents, strict=True) if inside(e, box)]
        assert name in within
        for synapses in plan.circuit.sending:
            if (synapses.post.population, str(synapses.post.layer)) == (name, layer):
                assert synapses.received in within
    for projection in plan.circuit.projections:
        assert projection.name in words
    ys = [boxes[f"{g.population}[{g.layer}]"].y0 for g in plan.groups]
    assert ys == sorted(ys)


def segments(corners):
    return [
        Bbox.from_extents(min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1]))
        for a, b in pairwise(corners)
    ]


def enters(segment, box):
    """Whether a segment, which is no wider than a point, has a part inside a box."""
    low, high = box.min + 1e-6, box.max - 1e-6
    return bool((segment.max > low).all() and (segment.min < high).all())


def test_arrows_go_from_box_to_box_and_share_no_way(drawn):
    spec, figure, renderer = drawn
    points = figure.dpi_scale_trans.inverted() + Affine2D().scale(72)
    texts = [t.get_window_extent(renderer).transformed(points) for t in figure.axes[0].texts]
    plan = Plan(circuitry.circuit(spec))
    boxes = {
        g: Bbox.from_bounds(
            plan.x(plan.columns[g.population]),
            plan.y(g.layer),
            plan.widths[plan.columns[g.population]],
            plan.height(g.layer),
        )
        for g in plan.groups
    }
    ways = []
    for route in plan.routes:
        corners = plan.points(route)
        for group, (x, y) in ((route.pre, corners[0]), (route.post, corners[-1])):
            box = boxes[group]
            assert box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1
            assert min(abs(x - box.x0), abs(x - box.x1), abs(y - box.y0), abs(y - box.y1)) < 1e-9
        for a, b in pairwise(corners):
            assert a[0] == b[0] or a[1] == b[1]
        for segment in segments(corners):
            assert not any(enters(segment, box) for box in (*boxes.values(), *texts))
            ways.append((route.name, segment))
    for (one, a), (other, b) in combinations(ways, 2):
        if one == other:
            continue
        if a.width == b.width == 0 and a.x0 == b.x0:
            assert min(a.y1, b.y1) <= max(a.y0, b.y0)
        if a.height == b.height == 0 and a.y0 == b.y0:
            assert min(a.x1, b.x1) <= max(a.x0, b.x0)
