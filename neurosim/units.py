"""Units at the border: `"20 ms"` in files, 0.02 inside.

A closed table of units in SI seconds, volts, hertz, amperes, siemens, farads, moles a cubic meter
(which are mM) and kelvins. Every unit is a power of ten of its base unit, so text is read and
written by shifting a decimal exponent and no rounding happens: `"20 ms"` is exactly the float 0.02,
and `format_time(0.02)` is `"20 ms"`.

In a pydantic model, `Time`, `Voltage`, `Rate` and so on are floats that are read from text with a
unit and written back to JSON as such text; bare numbers are refused. Defaults are not validated,
so they are written as floats in the base unit.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal
from numbers import Real
from typing import Annotated, Any, Literal

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from neurosim.errors import unknown

Dimension = Literal[
    "time",
    "voltage",
    "rate",
    "current",
    "conductance",
    "capacitance",
    "concentration",
    "temperature",
]

# Power of ten of each unit, from the largest to the smallest.
UNITS: dict[Dimension, dict[str, int]] = {
    "time": {"s": 0, "ms": -3, "us": -6, "ns": -9},
    "voltage": {"V": 0, "mV": -3, "uV": -6},
    "rate": {"kHz": 3, "Hz": 0},
    "current": {"A": 0, "mA": -3, "uA": -6, "nA": -9, "pA": -12},
    "conductance": {"S": 0, "mS": -3, "uS": -6, "nS": -9, "pS": -12},
    "capacitance": {"F": 0, "mF": -3, "uF": -6, "nF": -9, "pF": -12},
    "concentration": {"M": 3, "mM": 0, "uM": -3, "nM": -6},
    "temperature": {"K": 0},
}
EXAMPLES: dict[Dimension, str] = {
    "time": "10 ms",
    "voltage": "1 mV",
    "rate": "5 Hz",
    "current": "100 pA",
    "conductance": "10 nS",
    "capacitance": "200 pF",
    "concentration": "140 mM",
    "temperature": "310.15 K",
}

SHOWN: dict[Dimension, str] = {
    "time": "ms",
    "voltage": "mV",
    "rate": "Hz",
    "current": "pA",
    "conductance": "nS",
    "capacitance": "pF",
    "concentration": "mM",
    "temperature": "K",
}
"""What figures and traces of cells show a dimension in."""

_QUANTITY = re.compile(
    r"\s*(?P<mantissa>[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+|inf(?:inity)?|nan))"
    r"(?:e(?P<exponent>[+-]?[0-9]{1,4}))?\s*(?P<unit>[^\W\d_]+)?\s*",
    re.IGNORECASE,
)
_MULTIPLE_TOLERANCE = 1e-9


def parse(text: str, dimension: Dimension) -> float:
    """Read a number with a unit into the base unit of `dimension`, correctly rounded.

    >>> parse("20 ms", "time")
    0.02

    Raises:
        ValueError: `text` is no finite number with a unit of this dimension.
    """
    match = _QUANTITY.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a number with a unit; {_expected(dimension)}")
    if match["unit"] is None:
        raise ValueError(f'{text!r} has no unit; write "{EXAMPLES[dimension]}"')
    power = _power(match["unit"], dimension, text)
    if match["mantissa"][-1].isalpha():
        raise ValueError(f"{text!r} is not finite; {_expected(dimension)}")
    value = float(f"{match['mantissa']}e{int(match['exponent'] or 0) + power}")
    if math.isinf(value):
        raise ValueError(f"{text!r} is not finite; {_expected(dimension)}")
    return value + 0.0  # -0.0 becomes 0.0


def format_quantity(value: float, dimension: Dimension) -> str:
    """Write `value`, in the base unit, with the largest unit that keeps it at or above one.

    The digits are the shortest that `parse` reads back to the identical float.
    """
    number = Decimal(repr(float(value)))
    if not number.is_finite():
        raise ValueError(f"{value} is not finite; {_expected(dimension)}")
    units = UNITS[dimension]
    if number == 0:
        return "0 " + next(name for name, power in units.items() if power == 0)
    fitting = (name for name, power in units.items() if number.adjusted() >= power)
    unit = next(fitting, list(units)[-1])
    scaled = number.scaleb(-units[unit]).normalize()
    style = "f" if -4 <= scaled.adjusted() < 16 else "e"
    return f"{scaled:{style}} {unit}"


def shown_in(dimension: str | None) -> tuple[str, float]:
    """The unit that a dimension is shown in, and how large it is in SI units; "1" for none."""
    for known, units in UNITS.items():
        if known == dimension:
            return SHOWN[known], float(f"1e{units[SHOWN[known]]}")
    return "1", 1.0


def size_of(unit: str) -> float:
    """How large a unit is in SI units; 1 of "1"."""
    powers = {name: power for units in UNITS.values() for name, power in units.items()}
    return float(f"1e{(powers | {'1': 0})[unit]}")


def format_time(seconds: float) -> str:
    """Write a time in seconds as text with a unit: 0.02 is `"20 ms"`."""
    return format_quantity(seconds, "time")


def shorter_step(dt: float, most: float) -> float:
    """The longest round part of a step `dt` that is at most so long (both in seconds).

    It divides whatever `dt` divides.
    """
    parts = (k * 10**n for n in range(12) for k in (1, 2, 4, 5, 8))
    return next(round(dt / k, 15) for k in parts if dt / k <= most * (1 + 1e-9))


MOST_STEPS = 10**8
"""That a phase or a recording may have: nobody waits for more, and no memory holds their times."""


def steps(duration: float, dt: float) -> int:
    """The number of time steps `dt` in `duration` (both in seconds), by rounding.

    Raises:
        ValueError: `duration` is negative, no multiple of `dt` within 1e-9 of itself, or of more
            than `MOST_STEPS`.
    """
    if not (math.isfinite(dt) and dt > 0):
        raise ValueError(f"dt = {dt} s is out of range; expected a time greater than 0")
    if not (math.isfinite(duration / dt) and duration >= 0):
        raise ValueError(f"a duration of {duration} s is out of range; expected at least 0")
    count = round(duration / dt)
    if count > MOST_STEPS:
        raise ValueError(
            f"{format_time(duration)} has {count:.1e} steps of dt = {format_time(dt)}; "
            f"expected at most {MOST_STEPS:.0e}"
        )
    if abs(count * dt - duration) > _MULTIPLE_TOLERANCE * duration:
        below = math.floor(duration / dt)
        multiples = [format_time(float(Decimal(repr(dt)) * n)) for n in (below, below + 1) if n]
        raise ValueError(
            f"{format_time(duration)} is not a multiple of dt = {format_time(dt)}; "
            f"the nearest: {' or '.join(multiples)}"
        )
    return count


@dataclass(frozen=True)
class Quantity:
    """Marks a float of a pydantic model as a quantity with a dimension and a range.

    Used as `Annotated[float, Quantity("time", "positive")]`.
    """

    dimension: Dimension
    range: Literal["any", "non-negative", "positive"] = "any"

    @property
    def bound(self) -> str:
        """The range in words; empty where every finite value is allowed."""
        return {"any": "", "non-negative": "of at least 0", "positive": "greater than 0"}[
            self.range
        ]

    def read(self, value: object) -> float:
        """Text with a unit to a float in the base unit; anything else is a ValueError."""
        if isinstance(value, Real) and not isinstance(value, bool):
            raise ValueError(f'a bare number has no unit; write "{EXAMPLES[self.dimension]}"')
        if not isinstance(value, str):
            kinds = {bool: str(value).lower(), list: "a list", dict: "a table"}
            kind = kinds.get(type(value), f"an object of type {type(value).__name__}")
            raise ValueError(f"{kind} is not text; {_expected(self.dimension)}")
        number = parse(value, self.dimension)
        below = number < 0 or (number == 0 and self.range == "positive")
        if below and self.range != "any":
            raise ValueError(
                f"{value!r} is out of range; {_expected(self.dimension, f' {self.bound}')}"
            )
        return number

    def write(self, value: float) -> str:
        """The inverse of `read`."""
        return format_quantity(value, self.dimension)

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        return core_schema.no_info_before_validator_function(
            self.read,
            handler(source),
            json_schema_input_schema=core_schema.str_schema(),
            serialization=core_schema.plain_serializer_function_ser_schema(
                self.write, return_schema=core_schema.str_schema(), when_used="json"
            ),
        )


class Measured(float):
    """A number in SI units that was written with a unit. dimension: of the unit."""

    dimension: Dimension

    def __new__(cls, value: float, dimension: Dimension) -> Measured:
        made = super().__new__(cls, value)
        made.dimension = dimension
        return made

    def __reduce__(self) -> tuple[Any, ...]:
        return Measured, (float(self), self.dimension)

    @property
    def written(self) -> str:
        """As text with a unit."""
        return format_quantity(self, self.dimension)


def parse_any(text: str) -> Measured:
    """Read a number with a unit of any dimension into the base unit of its dimension.

    Raises:
        ValueError: `text` is no such thing.
    """
    match = _QUANTITY.fullmatch(text)
    unit = ((match and match["unit"]) or "").replace("\N{MICRO SIGN}", "u")
    for dimension, known in UNITS.items():
        if unit in known:
            return Measured(parse(text, dimension), dimension)
    examples = ", ".join(f'"{example}"' for example in EXAMPLES.values())
    raise ValueError(f"{text!r} is no quantity; expected a number, or one with a unit: {examples}")


def base_unit(text: str) -> str | None:
    """The unit that `parse_any` reads a text into: "s" for "20 ms"; None if it has none."""
    match = _QUANTITY.fullmatch(text)
    unit = ((match and match["unit"]) or "").replace("\N{MICRO SIGN}", "u")
    bases = (
        next(name for name, power in known.items() if power == 0)
        for known in UNITS.values()
        if unit in known
    )
    return next(bases, None)


Time = Annotated[float, Quantity("time")]
NonNegativeTime = Annotated[float, Quantity("time", "non-negative")]
PositiveTime = Annotated[float, Quantity("time", "positive")]
Voltage = Annotated[float, Quantity("voltage")]
PositiveVoltage = Annotated[float, Quantity("voltage", "positive")]
Rate = Annotated[float, Quantity("rate")]
NonNegativeRate = Annotated[float, Quantity("rate", "non-negative")]
PositiveRate = Annotated[float, Quantity("rate", "positive")]
Current = Annotated[float, Quantity("current")]
Conductance = Annotated[float, Quantity("conductance")]
NonNegativeConductance = Annotated[float, Quantity("conductance", "non-negative")]
PositiveConductance = Annotated[float, Quantity("conductance", "positive")]
Capacitance = Annotated[float, Quantity("capacitance")]
PositiveCapacitance = Annotated[float, Quantity("capacitance", "positive")]


def _expected(dimension: Dimension, bound: str = "") -> str:
    return f'expected a {dimension}{bound} such as "{EXAMPLES[dimension]}"'


def _power(unit: str, dimension: Dimension, text: str) -> int:
    """The power of ten of `unit`, which must belong to `dimension`."""
    name = unit.replace("\N{MICRO SIGN}", "u").replace("\N{GREEK SMALL LETTER MU}", "u")
    if name in UNITS[dimension]:
        return UNITS[dimension][name]
    if any(name in units for units in UNITS.values()):
        raise ValueError(f"{text!r} has the wrong dimension; {_expected(dimension)}")
    raise ValueError(unknown("unit", unit, UNITS[dimension]))
