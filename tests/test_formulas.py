"""Formulas of circuits: what LaTeX says of names, equations and whole models."""

import re
import shutil
import subprocess
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from matplotlib.mathtext import MathTextParser
from shown_circuits import ALL, ODD, protocol, sides, well_formed

import neurosim as ns
from neurosim.circuits.description import FUNCTIONS
from neurosim.circuits.expressions import parse
from neurosim.circuits.latex import called, formula, symbol
from neurosim.circuits.starts import NAMED
from neurosim.circuits.typesetting import STARTS, TRANSFER
from neurosim.functions.activations import ACTIVATIONS, Elementwise
from neurosim.networks.circuit import ELEMENTARY
from neurosim.specs import FORMULAS


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odd.toml").write_text(ODD, encoding="utf-8")


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
        ("a*int(b > 0 and (c > 1 or d < 2))", r"a\,[b > 0 \wedge (c > 1 \vee d < 2)]"),
        ("nernst(1, a, b, T)", r"\frac{R T}{F} \log\left(\frac{b}{a}\right)"),
        ("nernst(-z, a, b + c, T)", r"\frac{R T}{(-z) F} \log\left(\frac{b + c}{a}\right)"),
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
        draws = jnp.linspace(0, 1, 4001)[1:-1, None]  # of what draws, the mean over them
        given = ELEMENTARY | {"rand": lambda draws=draws: draws}
        numbers = {"slope": 0.35, "exponent": 2.0, "threshold": 0.1}
        found = parse(text, {"rand": 0})({"a": a} | numbers, given)
        found, error = (found.mean(0), 1e-3) if found.ndim == 2 else (found, 1e-6)
        np.testing.assert_allclose(found, made(a), rtol=1e-5, atol=error)


def test_every_start_has_words():
    assert set(STARTS) == set(NAMED)


# ---------------------------------------------------------------------------------- the methods


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
    text = ns.check(protocol("segregated-dendrites"), latex="-")["latex"]
    rows = sides(text)
    post = (
        r"\frac{g_{b}}{g_{l} + g_{b} + g_{a}}\,(s(\mathrm{teacher}_{1}) - "
        r"s(\mathrm{teacher}_{1}^{\mathrm{forward}}))\,s'(\mathrm{soma}_{1}^{\mathrm{forward}})"
    )
    pre = r"(\mathrm{rate}_{0}^{\mathrm{forward}})^{\top}"
    assert rows[r"\Delta W_{1}"] == rf"\eta_{{W}}\,\left\langle {post}\,{pre} \right\rangle"
    assert rows[r"\Delta \mathrm{bias}_{1}"] == rf"\eta_{{W}}\,\left\langle {post} \right\rangle"
    top = post.replace("g_{a}", r"g_{a}^{\mathrm{output}}").replace("_{1}", "_{L}")
    pre = pre.replace("_{0}", "_{L-1}")
    assert rows[r"\Delta W_{L}"] == rf"\eta_{{W}}\,\left\langle {top}\,{pre} \right\rangle"
    assert rows[r"\mathrm{feedback}_{1}"] == r"Y_{1}\,\mathrm{rate}_{L}"
    for row in (
        r"$g_{b}$ & $600$ & Hz \\",
        r"$e_{\mathrm{inh}}$ & $-8$ &  \\",
        r"$g_{a}^{\mathrm{output}}$ & $0$ & Hz \\",
        r"$\eta_{Y}$ & $0.1$ &  \\",
    ):
        assert row in text.splitlines()


def test_the_rate_of_a_neuron_and_its_spikes_as_latex():
    """Both lines are of one quantity, and say of which level they are."""
    text = ns.check("broadcast-alignment-digits", latex="-")["latex"]
    lines = [line for line in text.splitlines() if line.startswith(r"  \mathrm{spikes}_{L} &=")]
    said = [re.search(r"\\text\{(.*)\}", line)[1] for line in lines]
    assert said == ["as a rate", "as spikes"]


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


def test_what_of_a_convolution_stands_how_far_apart():
    """Windows of which the largest counts, or, without them, kernels."""
    pooled = ns.check("convolution-digits", latex="-")["latex"]
    assert r"and of windows of $2 \times 2$, 2 apart, the largest value arrives;" in pooled
    strided = ns.load_protocol("convolution-digits", {"model.projections.W.pool": 1})
    text = ns.check(strided, latex="-")["latex"]
    assert r"with kernels $W$ of $3 \times 3$ that stand 2 apart;" in text


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


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("name", ALL)
def test_latex_compiles(name):
    text = ns.check(protocol(name), latex="-")["latex"]
    start = "\\documentclass{article}\n\\usepackage{amsmath}\n\\begin{document}\n"
    Path("whole.tex").write_text(f"{start}{text}\\end{{document}}\n", encoding="utf-8")
    command = ["pdflatex", "-halt-on-error", "-interaction=nonstopmode", "whole.tex"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:]
