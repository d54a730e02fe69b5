"""The texts of a circuit: what expressions may say, what cells are, and wires."""

import re
from math import log

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.constants import Boltzmann, elementary_charge

from neurosim.circuits.cells import Cell
from neurosim.circuits.description import FUNCTIONS
from neurosim.circuits.expressions import ExpressionError, parse
from neurosim.circuits.wires import wire
from neurosim.networks.circuit import ELEMENTARY

REFUSED = {
    "__import__('os').system('true')": "is not allowed",
    "f.__class__": "is not allowed",
    "(1).real": "is not allowed",
    "exp.__globals__": "is not allowed",
    "f + 1/0": "'1/0': divides by zero",
    "f/(2 - 2)": "'f/(2 - 2)': divides by zero",
    "f*0**-1": "'0**-1': expected a finite real number",
    "2*(0 - 8)**0.5": "'(0 - 8)**0.5': expected a finite real number",
    "f*(1e200*1e200)": "'1e200*1e200': expected a finite real number",
    "1e400*f": "'1e400': expected a finite real number",
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
    "f and g > 0": "'f' is no condition; expected such as 'f > 0' on either side of 'and'",
    "f > 0 or int(g > 0)": "'int(g > 0)' is no condition",
    "not f > 0": "is not allowed",
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
        ("nernst(2, f, 12, 300)", Boltzmann * 300 / elementary_charge * log(4) / 2),
        ("f > 0 and g > 0", 0.0),
        ("f > 0 and g < 0 and mu < f", 1.0),
        ("2*int(f < 0 or g < 0 and mu > 0)", 2.0),
    ],
)
def test_arithmetic_is_what_it_says(text, value):
    found = parse(text)({"mu": 0.1, "f": jnp.float32(3), "g": jnp.float32(-2)}, ELEMENTARY)
    assert float(found) == pytest.approx(value, rel=1e-6)


def test_conditions_of_arrays_are_those_of_their_elements():
    f, g = jnp.array([-1.0, -1.0, 1.0, 1.0]), jnp.array([-1.0, 1.0, -1.0, 1.0])
    both = parse("f > 0 and g > 0")
    either = parse("f > 0 or g > 0")
    assert both({"f": f, "g": g}, {}).tolist() == [False, False, False, True]
    assert either({"f": f, "g": g}, {}).tolist() == [False, True, True, True]


@pytest.mark.parametrize("text", ["f > 1 and g < 2", "f > 1 or g < 2", "f > 1 or g < 2 and f < g"])
def test_a_condition_is_fulfilled_where_its_excess_is_positive(text):
    f, g = jnp.meshgrid(jnp.linspace(-3, 4, 12), jnp.linspace(-3, 4, 12))  # no two equal
    found = parse(text).excess({"f": f, "g": g + 0.01}, ELEMENTARY)
    np.testing.assert_array_equal(found > 0, parse(text)({"f": f, "g": g + 0.01}, {}))


def test_conditions_are_written_for_brian2_as_they_stand():
    text = parse("f > 1 and g < 2 or rand() < f", {"rand": 0}).written({"f": "own_f"}, {})
    assert text == "(((own_f > 1.0) and (g < 2.0)) or (rand() < own_f))"


def test_a_text_has_a_thousand_characters_at_most():
    assert parse("f" * 1000).names == {"f" * 1000}
    with pytest.raises(ExpressionError, match="1001 characters; expected at most 1000"):
        parse("f" * 1001)


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
