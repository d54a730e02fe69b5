"""Expressions as LaTeX, written from their checked syntax trees."""

import ast
import re
from collections.abc import Callable, Iterable, Mapping

from neurosim.circuits.expressions import Expression
from neurosim.circuits.starts import RANDOM

GREEK = {
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda",
    "mu", "nu", "xi", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega", "Gamma",
    "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Upsilon", "Phi", "Psi", "Omega",
}  # fmt: skip
"""Letters by name; LaTeX has no others."""

RELATIONS: dict[type[ast.AST], str] = {
    ast.Lt: "<",
    ast.LtE: r"\leq",
    ast.Gt: ">",
    ast.GtE: r"\geq",
}
JOINED: dict[type[ast.AST], str] = {ast.And: r" \wedge ", ast.Or: r" \vee "}
SUM, PRODUCT, POWER, ATOM = range(4)
"""How strongly the parts of a formula hold together."""

Names = Callable[[str], str]
Functions = Mapping[str, Callable[..., tuple[str, int]]]


# ------------------------------------------------------------------------------------ formulas


def symbol(name: str, index: str = "", above: Iterable[str] = ()) -> str:
    """A name in a formula: `tau_soma` as \\tau_{\\mathrm{soma}}.

    index: of its layer. above: names to stand in its exponent.
    """
    head, *below = [part for part in name.split("_") if part]
    numbered = re.fullmatch(r"([A-Za-z]+?)(\d+)", head)
    if numbered and (len(numbered[1]) == 1 or numbered[1] in GREEK):
        head, below = numbered[1], [numbered[2], *below]
    under, over = [*map(_part, below), *([index] if index else [])], [*map(_part, above)]
    text = _part(head)
    text += f"_{{{','.join(under)}}}" if under else ""
    return text + (f"^{{{','.join(over)}}}" if over else "")


def _part(name: str) -> str:
    if name in GREEK:
        return f"\\{name}"
    return name if len(name) == 1 or name.isdigit() else rf"\mathrm{{{plain(name)}}}"


def plain(text: str) -> str:
    """A text whose signs LaTeX would take for its own."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    signs = (special.get(c, f"\\{c}" if c in "&%$#_{}" else c) for c in " ".join(text.split()))
    return "".join(signs)


def number(value: float) -> str:
    """A number: 2, 0.05, 3 \\cdot 10^{-9}."""
    text = f"{value:.6g}" if float(f"{value:.6g}") == value else repr(value)
    mantissa, _, exponent = text.removesuffix(".0").partition("e")
    if not exponent:
        return mantissa
    power = f"10^{{{int(exponent)}}}"
    return {"1": power, "-1": f"-{power}"}.get(mantissa, rf"{mantissa} \cdot {power}")


def bracketed(text: str, pair: str = "()") -> str:
    """In brackets, of their usual height where nothing in them is higher."""
    high = r"\frac" in text or r"\left" in text
    return rf"\left{pair[0]}{text}\right{pair[1]}" if high else pair[0] + text + pair[1]


def _called(name: str) -> Callable[..., tuple[str, int]]:
    return lambda *arguments: (f"{name}{bracketed(', '.join(a for a, _ in arguments))}", ATOM)


def _raised(exponent: str) -> Callable[..., tuple[str, int]]:
    return lambda base: (f"{held(base, ATOM)}^{{{exponent}}}", POWER)


def _nernst(*arguments: tuple[str, int]) -> tuple[str, int]:
    z, inside, outside, temperature = arguments
    charge = "F" if z[0] == "1" else f"{held(z, PRODUCT)} F"
    ratio = bracketed(rf"\frac{{{outside[0]}}}{{{inside[0]}}}")
    return rf"\frac{{R {held(temperature, PRODUCT)}}}{{{charge}}} \log{ratio}", PRODUCT


ELEMENTARY: Functions = {
    name: _called(f"\\{name}") for name in ("exp", "log", "tanh", "sin", "cos")
}
ELEMENTARY = dict(ELEMENTARY) | {
    "log1p": lambda a: (rf"\log{bracketed('1 + ' + held(a, PRODUCT))}", ATOM),
    "expm1": lambda a: (rf"\exp{bracketed(a[0])} - 1", SUM),
    "exprel": lambda a: (rf"\left(\exp{bracketed(a[0])} - 1\right) / {held(a, ATOM)}", PRODUCT),
    "sqrt": lambda a: (rf"\sqrt{{{a[0]}}}", ATOM),
    "abs": lambda a: (rf"\left|{a[0]}\right|", ATOM),
    "clip": _called(r"\operatorname{clip}"),
    "nernst": _nernst,
    "int": lambda a: a,  # of a comparison, which is 1 or 0 as it is written
    "rand": lambda: (r"\mathrm{rand}", ATOM),  # uniform between 0 and 1
}
MATRICES: Functions = dict(ELEMENTARY) | {
    "pinv": _raised("+"),
    "inv": _raised("-1"),
    "transpose": _raised(r"\top"),
    "dot": lambda a, b: (rf"{held(a, PRODUCT)}\,{held(b, PRODUCT)}", PRODUCT),
    **{name: lambda name=name: (rf"\mathrm{{{name}}}", ATOM) for name in RANDOM},
}


def called(transfer: str = "", form: str = "inverse") -> Functions:
    """What a cell may call. transfer: the index of its transfer function. form: of `encode`."""
    under = f"_{{{transfer}}}" if transfer else ""
    inverse = _called(f"s{under}^{{-1}}")

    def encode(h: tuple[str, int], b: tuple[str, int]) -> tuple[str, int]:
        if form == "autoencoder":
            return h
        sent = inverse(h)
        return sent if b[0] == "0" else (f"{sent[0]} - {held(b, PRODUCT)}", SUM)

    return dict(ELEMENTARY) | {
        "s": _called(f"s{under}"),
        "slope": _called(f"s{under}'"),
        "s_inv": inverse,
        "t": _called(f"t{under}"),
        "t_slope": _called(f"t{under}'"),
        "encode": encode,
    }


def formula(
    expression: Expression,
    names: Names = symbol,
    functions: Functions | None = None,
    matrices: frozenset[str] = frozenset(),
) -> str:
    """An expression. names: what stands for a name. functions: and for a call, of its arguments."""
    return Writing(names, functions or called(), matrices).part(expression.tree.body)[0]


def held(part: tuple[str, int], least: int) -> str:
    """A part of a formula, in brackets where it holds together less than it must."""
    text, strength = part
    return text if strength >= least else bracketed(text)


class Writing:
    """Formulas of parts of a syntax tree, each with how strongly it holds together.

    matrices: the names of those that are; products of them are elementwise, which has to be said.
    """

    def __init__(
        self, names: Names, functions: Functions, matrices: frozenset[str] = frozenset()
    ) -> None:
        self.names, self.functions, self.matrices = names, functions, matrices

    def part(self, node: ast.expr) -> tuple[str, int]:
        match node:
            case ast.Constant(value=float(value)):
                text = number(value)
                return text, PRODUCT if "cdot" in text else POWER if "^" in text else ATOM
            case ast.Name(id=name):
                text = self.names(name)
                return text, POWER if "^" in text else ATOM
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return f"-{held(self.part(operand), PRODUCT)}", SUM
            case ast.UnaryOp(operand=operand):
                return self.part(operand)
            case ast.Compare() | ast.BoolOp():  # in Iverson's brackets: 1 or 0
                return bracketed(self.condition(node), "[]"), ATOM
            case ast.Call(func=ast.Name(id=name), args=arguments):
                return self.functions[name](*map(self.part, arguments))
            case ast.BinOp():
                return self._operation(node)
        raise AssertionError(f"{ast.dump(node)} passed the whitelist")

    def _operation(self, node: ast.BinOp) -> tuple[str, int]:
        left, right, op = node.left, node.right, node.op
        if isinstance(op, ast.Add | ast.Sub):
            return "".join(text for text in self.terms(node)), SUM
        if isinstance(op, ast.Pow):
            return f"{held(self.part(left), ATOM)}^{{{self.part(right)[0]}}}", POWER
        if isinstance(left, ast.UnaryOp) and isinstance(left.op, ast.USub):
            positive, _ = self._operation(ast.BinOp(left.operand, op, right))
            return f"-{positive}", SUM
        if isinstance(op, ast.Div):
            return rf"\frac{{{self.part(left)[0]}}}{{{self.part(right)[0]}}}", PRODUCT
        factors = held(self.part(left), PRODUCT), held(self.part(right), PRODUCT)
        if self._whole(left) and self._whole(right):
            return r" \odot ".join(factors), PRODUCT
        between = r" \cdot " if factors[1][0].isdigit() else r"\,"
        return between.join(factors), PRODUCT

    def _whole(self, node: ast.expr) -> bool:
        """Whether a part is a matrix."""
        return any(isinstance(n, ast.Name) and n.id in self.matrices for n in ast.walk(node))

    def condition(self, node: ast.expr) -> str:
        """A comparison, or several."""
        match node:
            case ast.BoolOp(op=op, values=values):
                texts = (
                    bracketed(self.condition(value))
                    if isinstance(value, ast.BoolOp)
                    else self.condition(value)
                    for value in values
                )
                return JOINED[type(op)].join(texts)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return f"{self.part(left)[0]} {RELATIONS[type(op)]} {self.part(right)[0]}"
        raise AssertionError("a condition compares")

    def terms(self, node: ast.expr) -> list[str]:
        """The terms of a sum, from the second on with their sign."""
        if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub)):
            return [self.part(node)[0]]
        text, strength = self.part(node.right)
        adds = isinstance(node.op, ast.Add)
        loose = text.startswith("-") if adds else strength == SUM
        sign = "+" if adds else "-"
        return [*self.terms(node.left), f" {sign} {bracketed(text) if loose else text}"]
