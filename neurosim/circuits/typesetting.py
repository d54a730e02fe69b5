"""Rows of formulas, and what is said of transfer functions and starts in words."""

import re
from collections.abc import Sequence

from neurosim.circuits.expressions import parse
from neurosim.circuits.latex import formula, number, symbol

TRANSFER = {
    "linear": "a",
    "leaky-relu": "a*int(a > 0) + slope*a*int(a <= 0)",
    "tanh": "tanh(a)",
    "sigmoid": "1/(1 + exp(-a))",
    "softplus": "log(1 + exp(a))",
    "power": "a*abs(a)**(exponent - 1)",
    "sign": "int(a > 0)",
    "bernoulli": "int(rand() < 1/(1 + exp(-a)))",
    "soft-threshold": "a - clip(a, -threshold, threshold)",
}
"""Transfer functions by name; `slope` is that of the leaky ReLU, `exponent` that of the power,
`threshold` that of the soft threshold."""

STARTS = {
    "lecun": "normally distributed with variance $1/n$, for $n$ sending units",
    "xavier": "normally distributed with variance $2/(n + m)$, for $n$ sending and $m$ receiving "
    "units",
    "orthogonal": "as orthogonal matrices",
    "normal": "normally distributed with variance $1/n$, for $n$ sending units",
    "uniform": "uniformly distributed between $-1$ and $1$",
    "zeros": "at 0",
    "ones": "at 1",
    "identity": "at 1 between units of the same number and at 0 between others",
    "file": "as a file says",
    "near-teacher": "near those of a teacher",
}
"""How weights start that are drawn, in words."""

WIDTH = 52
"""About how many signs a line of a formula has at most."""


def _seen(text: str) -> int:
    """About how many signs of a formula are seen."""
    text = re.sub(r"\\(mathrm|left|right|frac|operatorname)(?![a-z])", "", text)
    return len(re.sub(r"\\,|[{}_^]", "", re.sub(r"\\[A-Za-z]+", "x", text)))


def row(left: str, terms: Sequence[str], where: str = "", relation: str = "=") -> str:
    """One equation of an `align`, over as many lines as it takes. where: for which layers."""
    lines = [f"{left} &{relation} {terms[0]}"]
    for term in terms[1:]:
        if _seen(lines[-1] + term) > WIDTH:
            lines.append(rf"&\quad{{}}{term}")
        else:
            lines[-1] += term
    if where and _seen(lines[-1] + where) > WIDTH:
        lines[-1] += ","
        lines.append(rf"&\quad{{}} {where}")
    elif where:
        lines[-1] += f", && {where}"
    return " \\nonumber\\\\\n  ".join(lines)


def transfer_of(given: tuple[str | None, float | None]) -> str:
    name, own = given
    if name is None:
        return "a function of its own"

    def named(other: str) -> str:
        return number(own) if other != "a" and own is not None else symbol(other)

    text = parse(TRANSFER[name], {"rand": 0})
    return f"$s(a) = {formula(text, named)}$"


def derivative(of: str) -> str:
    return rf"\frac{{\mathrm{{d}}\,{of}}}{{\mathrm{{d}}t}}"


def aligned(rows: str) -> str:
    return f"\\begin{{align}}\n  {rows}\n\\end{{align}}"
