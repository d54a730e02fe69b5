"""Units of parameters: what adds up, what cannot, and what they are written back as."""

import pytest

import neurosim as ns
from neurosim.building.loading import load_model
from neurosim.circuits.cells import Cell
from neurosim.circuits.description import FUNCTIONS
from neurosim.circuits.dimensions import check
from neurosim.circuits.expressions import ExpressionError

LEAKY = "dv/dt = (g_l*(e_l - v) + current)/c_m\nrate = s((v - v_t)/width)"
UNITS = {"g_l": "conductance", "e_l": "voltage", "c_m": "capacitance", "width": "voltage"}


@pytest.mark.parametrize(
    ("text", "units"),
    [
        (LEAKY, UNITS | {"v_t": "voltage", "current": "current"}),
        (LEAKY, UNITS),  # what has no unit has that which fits
        (LEAKY, {}),
        ("dv/dt = (s(v) - v)/tau + sigma*sqrt(2/tau)*xi", {"tau": "time"}),
        ("dv/dt = (s(v) - v)/tau + 0.1*xi", {"tau": "time"}),
        ("dv/dt = s(v) - v**3", {}),  # numbers may stand for rates
        ("dv/dt = rate*(clip(v, 0, 1) - v)", {"rate": "rate"}),
        ("dv/dt = (v*exp(-v/u) - v)/tau\nrate = s(v/u)", {"tau": "time", "u": "voltage"}),
        ("dv/dt = (sqrt(u*v) - abs(v))/tau", {"tau": "time", "u": "voltage"}),
        ("dv/dt = (v**2/u - v)*int(v > u)/tau", {"tau": "time", "u": "voltage"}),
        ("dv/dt = (u - v)*int(v > u and u > 2*v)/tau", {"tau": "time", "u": "voltage"}),
        ("dv/dt = teach*(u - v)/tau", {"tau": "time", "u": "voltage"}),
        ("dv/dt = (nernst(1, c, d, u) - v)/tau", {"c": "concentration", "u": "temperature"}),
    ],
)
def test_equations_that_add_up(text, units):
    check(Cell.read(text, FUNCTIONS), units)


@pytest.mark.parametrize(
    ("text", "units", "said"),
    [
        (
            "dv/dt = (s(v) - v)/tau",
            {"tau": "voltage"},
            r"dv/dt = \(s\(v\) - v\)/tau: its right side has unit V\^-1; expected unit s\^-1$",
        ),
        (
            LEAKY,
            UNITS | {"current": "voltage"},
            r"g_l \* \(e_l - v\) has unit A, and current unit V$",
        ),
        (LEAKY, UNITS | {"width": "time"}, r"\(v - v_t\) / width has unit V s\^-1; expected no"),
        ("dv/dt = (u - v)/tau\nrate = exp(v)", {"tau": "time", "u": "voltage"}, "v has unit V;"),
        ("dv/dt = (u - v)/tau\nrate = s(v)", {"tau": "time", "u": "voltage"}, "v has unit V;"),
        ("dv/dt = (u - v)/tau + u", {"tau": "time", "u": "voltage"}, r"unit V s\^-1, and u unit V"),
        ("dv/dt = (u - v)*int(v > u or v > tau)/tau", {"tau": "time", "u": "voltage"}, "unit"),
        ("dv/dt = (int(v > tau) - v)/tau\nw = v + u", {"tau": "time", "u": "voltage"}, "unit"),
        (
            "dv/dt = (w**v - v)/tau",
            {"tau": "time", "w": "voltage"},
            "w has unit V; expected no unit",
        ),
        (
            "e = nernst(1, c, d, u)",
            {"c": "concentration", "d": "time"},
            "c has unit mM, and d unit s",
        ),
        ("e = nernst(1, c, d, u)", {"u": "voltage"}, "u has unit V; expected unit K"),
        ("e = nernst(u, c, d, w)", {"u": "voltage"}, "u has unit V; expected no unit"),
        ("e = nernst(1, c, d, w) + u", {"u": "time"}, "unit V, and u unit s"),
        ("dv/dt = (s(v) - v)/tau + xi/tau", {"tau": "time"}, r"unit s\^-1, and xi / tau unit s\^"),
    ],
)
def test_equations_that_do_not(text, units, said):
    with pytest.raises(ExpressionError, match=said):
        check(Cell.read(text, FUNCTIONS), units)


def test_a_wrong_unit_is_refused_where_the_equation_stands():
    with pytest.raises(ns.InputError) as refused:
        ns.load_protocol("quickstart", {"model.parameters.mu": "2 Hz"})
    assert "cells.pyramidal.equations: down = encode(soma, bias): soma has" in str(refused.value)
    phase = {"stages.0.phases.1.parameters": {"tau_soma": "2 mV"}}
    with pytest.raises(ns.InputError, match="2 mV is a voltage; tau_soma is a time"):
        ns.load_protocol("quickstart", phase)


def test_phases_keep_the_dimension_of_a_parameter():
    own = {
        "model.cells.pyramidal.equations": "dsoma/dt = g*(forward + bias - soma)\n"
        "rate = s(soma)\nup = rate\ndown = encode(rate, bias)\napical = feedback",
        "model.cells.output.equations": "dsoma/dt = g*(forward + bias + target - soma)\n"
        "rate = s(soma)\nup = rate\ndown = encode(rate, bias)",
        "model.parameters.g": "50 Hz",
        "model.projections.W.post": "soma - soma_free",
        "stages.0.phases.1.parameters": {"g": "20 mV"},
    }
    said = "20 mV is a voltage; g is a rate"
    with pytest.raises(ns.InputError, match=said):
        ns.load_protocol("quickstart", own)
    own["stages.0.phases.1.parameters"] = {"g": "20 Hz"}
    ns.load_protocol("quickstart", own)


def test_parameters_are_written_back_with_their_unit():
    model = load_model("mixture", {"parameters.tau_soma": "12.5 ms", "parameters.mu": 0.3})
    assert model.parameters["tau_soma"] == 0.0125
    assert model.model_dump(mode="json")["parameters"] == {"mu": 0.3, "tau_soma": "12.5 ms"}
