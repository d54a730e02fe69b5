"""Expressions of model files: arithmetic on named quantities, in Python's and Brian2's notation.

Nothing is evaluated before its syntax tree has passed a whitelist: numbers, names, arithmetic,
comparisons, `and` and `or` between these, and calls of functions that a table names. Numbers are
floats, so that no power of them takes long; text is short and shallow.
"""

import ast
import copy
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from types import CodeType
from typing import Any

LENGTH, DEPTH, POWER = 1000, 40, 64
"""The most characters, nested operations, and the largest exponent of an expression."""

OPERATORS: dict[type[ast.AST], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "**",
    ast.UAdd: "+",
    ast.USub: "-",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.And: "and",
    ast.Or: "or",
}
"""What may stand between and before quantities."""

CONDITIONS = ast.Compare, ast.BoolOp
"""What is 1 or 0."""

ELEMENTARY = dict.fromkeys(
    ("exp", "log", "log1p", "expm1", "exprel", "sqrt", "tanh", "sin", "cos", "abs", "int"), 1
) | {"clip": 3, "nernst": 4}
"""Functions that every expression may call, with how many arguments they take; Brian2 knows them
under the same names, but for those in `SPELLED`."""

THERMAL = 8.31446261815324 / 96485.33212331002
"""R/F (V/K), exact in the SI of 2019."""

SPELLED: dict[str, Callable[..., str]] = {
    "nernst": lambda z, inside, outside, temperature: (
        f"{THERMAL!r} * {temperature} / {z} * log({outside} / {inside})"
    ),
}
"""What Brian2 is told in place of a function that it does not know."""

FORBIDDEN = frozenset(
    {"e", "i", "j", "N", "t", "dt", "xi", "inf", "pi", "floor", "ceil", "rand", "randn"}
    | {"lastspike", "not_refractory"}
)
"""Names that mean something else to Brian2 than a quantity of the model."""


def nernst(log: Callable[[Any], Any]) -> Callable[..., Any]:
    """The potential (V) at which an ion of valence z is at rest [Nernst 1889], by this logarithm.

    Of the sums of what permeates, in and out, it is Goldman's (1943).
    """

    def potential(z: Any, inside: Any, outside: Any, temperature: Any) -> Any:
        return THERMAL * temperature / z * log(outside / inside)

    return potential


class ExpressionError(ValueError):
    """Text that is no expression; the message quotes what stands in its way."""


@dataclass(frozen=True)
class Expression:
    """A checked expression. text: as written. tree: its syntax, with floats for numbers."""

    text: str
    tree: ast.Expression

    @cached_property
    def names(self) -> frozenset[str]:
        """The quantities it needs."""
        called = {id(node.func) for node in ast.walk(self.tree) if isinstance(node, ast.Call)}
        found = (n for n in ast.walk(self.tree) if isinstance(n, ast.Name) and id(n) not in called)
        return frozenset(node.id for node in found)

    @cached_property
    def functions(self) -> frozenset[str]:
        """The functions it calls."""
        calls = (node for node in ast.walk(self.tree) if isinstance(node, ast.Call))
        return frozenset(node.func.id for node in calls if isinstance(node.func, ast.Name))

    @property
    def compares(self) -> bool:
        """Whether it is a condition."""
        return isinstance(self.tree.body, CONDITIONS)

    @property
    def excess(self) -> "Expression":
        """Of a condition, how far it is fulfilled: greater than 0 where it is."""
        tree = ast.fix_missing_locations(ast.Expression(_excess(self.tree.body)))
        return Expression(ast.unparse(tree), tree)

    @cached_property
    def _code(self) -> CodeType:
        tree = ast.fix_missing_locations(_Elementwise().visit(copy.deepcopy(self.tree)))
        return compile(tree, "expression", "eval")

    def __call__(self, values: Mapping[str, Any], functions: Mapping[str, Callable]) -> Any:
        """Its value, where names have these values and functions are these."""
        return eval(self._code, {"__builtins__": {}}, {**values, **functions})

    def towards(self, name: str) -> "Expression | None":
        """Of text such as (p - name)/tau, p; None of any other, or where p or tau name it."""
        match self.tree.body:
            case ast.BinOp(
                left=ast.BinOp(left=pull, op=ast.Sub(), right=ast.Name(id=taken)),
                op=ast.Div(),
                right=tau,
            ) if taken == name:
                parts = [
                    Expression(ast.unparse(part), ast.Expression(part)) for part in (pull, tau)
                ]
                return None if name in parts[0].names | parts[1].names else parts[0]
        return None

    def written(self, names: Mapping[str, str], functions: Mapping[str, Callable[..., str]]) -> str:
        """The same in Brian2's notation, which is nearly the same text.

        names: what stands for a name, where that is something else. functions: of the text of
        their arguments, what stands for a call.
        """
        return _written(self.tree.body, names, {**SPELLED, **functions})

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expression) and self.text == other.text


def parse(text: str, functions: Mapping[str, int] | None = None) -> Expression:
    """The expression that a text writes.

    functions: what may be called beside the `ELEMENTARY` ones, with the number of arguments.

    Raises:
        ExpressionError: it is none, or holds what no expression may.
    """
    text = " ".join(text.split())
    if len(text) > LENGTH:
        raise ExpressionError(f"{len(text)} characters; expected at most {LENGTH}")
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise ExpressionError(f"{text!r} is no expression; expected such as '(1 - mu)*f'") from None
    checked = _Checked(text, ELEMENTARY | dict(functions or {})).visit(tree)
    return Expression(text, ast.fix_missing_locations(checked))


def _written(
    node: ast.expr, names: Mapping[str, str], functions: Mapping[str, Callable[..., str]]
) -> str:
    """A part of an expression, in brackets where it is more than a name or a number."""

    def part(node: ast.expr) -> str:
        return _written(node, names, functions)

    match node:
        case ast.Constant():
            return repr(node.value)
        case ast.Name():
            return names.get(node.id, node.id)
        case ast.UnaryOp():
            return f"({OPERATORS[type(node.op)]}{part(node.operand)})"
        case ast.BinOp():
            return f"({part(node.left)} {OPERATORS[type(node.op)]} {part(node.right)})"
        case ast.Compare():
            return f"({part(node.left)} {OPERATORS[type(node.ops[0])]} {part(node.comparators[0])})"
        case ast.BoolOp():
            return f"({f' {OPERATORS[type(node.op)]} '.join(map(part, node.values))})"
        case ast.Call(func=ast.Name(id=name)) if name in functions:
            return f"({functions[name](*map(part, node.args))})"
        case ast.Call(func=ast.Name(id=name)):
            return f"{name}({', '.join(map(part, node.args))})"
    raise AssertionError(f"{ast.dump(node)} passed the whitelist")


def _excess(node: ast.expr) -> ast.expr:
    """How far a condition is fulfilled: of two the lesser, or of which one is enough the greater.

    The lesser and the greater of a and b are (a + b ∓ |a − b|)/2.
    """
    match node:
        case ast.Compare(left=left, ops=[ast.Gt() | ast.GtE()], comparators=[right]):
            return ast.BinOp(left, ast.Sub(), right)
        case ast.Compare(left=left, comparators=[right]):
            return ast.BinOp(right, ast.Sub(), left)
        case ast.BoolOp(op=op, values=[first, *others]):
            found = _excess(first)
            for other in map(_excess, others):
                total, apart = (ast.BinOp(found, each, other) for each in (ast.Add(), ast.Sub()))
                distance = ast.Call(ast.Name("abs", ast.Load()), [apart], [])
                way = ast.Sub() if isinstance(op, ast.And) else ast.Add()
                found = ast.BinOp(ast.BinOp(total, way, distance), ast.Div(), ast.Constant(2.0))
            return found
    raise AssertionError(f"{ast.unparse(node)} is no condition")


class _Elementwise(ast.NodeTransformer):
    """`and` and `or` of arrays."""

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.expr:
        first, *others = map(self.visit, node.values)
        for other in others:
            each = ast.BitAnd() if isinstance(node.op, ast.And) else ast.BitOr()
            first = ast.BinOp(first, each, other)
        return first


class _Checked(ast.NodeTransformer):
    """Passes what is allowed, makes floats of numbers, and refuses all else by name."""

    def __init__(self, text: str, functions: Mapping[str, int]) -> None:
        self.text, self.functions, self.depth = text, functions, 0

    def visit(self, node: ast.AST) -> Any:
        self.depth += 1
        if self.depth > DEPTH:
            raise ExpressionError(f"nested more than {DEPTH} operations deep")
        try:
            return super().visit(node)
        finally:
            self.depth -= 1

    def generic_visit(self, node: ast.AST) -> Any:
        raise ExpressionError(f"{self._quoted(node)} is not allowed; expected arithmetic on names")

    def visit_Expression(self, node: ast.Expression) -> Any:
        return ast.Expression(self.visit(node.body))

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        self._operator(node, node.op)
        left, right = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.Pow):
            exponent = right.operand if isinstance(right, ast.UnaryOp) else right
            number = exponent.value if isinstance(exponent, ast.Constant) else 0.0
            tower = isinstance(exponent, ast.BinOp) and isinstance(exponent.op, ast.Pow)
            if tower or not isinstance(number, float) or number > POWER:
                raise ExpressionError(
                    f"{self._quoted(node)}: expected an exponent of at most {POWER}"
                )
        if isinstance(node.op, ast.Div) and self._number(node.right, right) == 0:
            raise ExpressionError(f"{self._quoted(node)}: divides by zero")
        made = ast.copy_location(ast.BinOp(left, node.op, right), node)
        self._number(node, made)
        return made

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        self._operator(node, node.op)
        return ast.copy_location(ast.UnaryOp(node.op, self.visit(node.operand)), node)

    def visit_Compare(self, node: ast.Compare) -> Any:
        if len(node.ops) > 1:
            raise ExpressionError(f"{self._quoted(node)}: expected one comparison at a time")
        self._operator(node, node.ops[0])
        left, right = self.visit(node.left), self.visit(node.comparators[0])
        return ast.copy_location(ast.Compare(left, node.ops, [right]), node)

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        for value in node.values:
            if not isinstance(value, CONDITIONS):
                raise ExpressionError(
                    f"{self._quoted(value)} is no condition; expected such as 'f > 0' on either "
                    f"side of {OPERATORS[type(node.op)]!r}"
                )
        return ast.copy_location(ast.BoolOp(node.op, [*map(self.visit, node.values)]), node)

    def visit_Call(self, node: ast.Call) -> Any:
        if not isinstance(node.func, ast.Name) or node.keywords:
            return self.generic_visit(node)
        if node.func.id not in self.functions:
            raise ExpressionError(
                f"{node.func.id!r} is no function; expected one of "
                f"{', '.join(sorted(self.functions))}"
            )
        count = self.functions[node.func.id]
        if len(node.args) != count:
            raise ExpressionError(
                f"{self._quoted(node)}: {node.func.id} takes {count or 'no'} "
                f"{'argument' if count == 1 else 'arguments'}, got {len(node.args)}"
            )
        arguments = [self.visit(argument) for argument in node.args]
        return ast.copy_location(ast.Call(node.func, arguments, []), node)

    def visit_Name(self, node: ast.Name) -> Any:
        if node.id.startswith("_") or not node.id.isascii():
            return self.generic_visit(node)
        return node

    def visit_Constant(self, node: ast.Constant) -> Any:
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            return self.generic_visit(node)
        try:
            value = float(node.value)
        except OverflowError:
            raise ExpressionError(f"a number of {len(str(node.value))} digits") from None
        if not math.isfinite(value):
            raise ExpressionError(f"{self._quoted(node)}: expected a finite real number")
        return ast.copy_location(ast.Constant(value), node)

    def _number(self, node: ast.AST, made: ast.expr) -> float | None:
        """What numbers alone come to: Python would work it out before any array is there."""
        if any(isinstance(part, ast.Name | ast.Call) for part in ast.walk(made)):
            return None
        code = compile(ast.fix_missing_locations(ast.Expression(made)), "expression", "eval")
        try:
            value = eval(code, {"__builtins__": {}})
        except (OverflowError, ZeroDivisionError):  # the latter of 0**-1
            value = math.inf
        if isinstance(value, complex) or not math.isfinite(value):
            raise ExpressionError(f"{self._quoted(node)}: expected a finite real number")
        return float(value)

    def _operator(self, node: ast.AST, operator: ast.AST) -> None:
        if type(operator) not in OPERATORS:
            self.generic_visit(node)

    def _quoted(self, node: ast.AST) -> str:
        return repr(ast.get_source_segment(self.text, node) or type(node).__name__)
