"""What all descriptions share: frozen tables, objects of a script in place of names, rates."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    PlainSerializer,
    WrapValidator,
    field_validator,
)

from neurosim.errors import arrived
from neurosim.plain import LARGEST, plain
from neurosim.units import Quantity


class Spec(BaseModel):
    """Frozen, with no room for misspelt keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_files_have_it(cls, value: Any) -> Any:
        value = plain(value)
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{arrived(value)} holds a null character, which HDF5 cannot")
        for number in value if isinstance(value, list) else [value]:
            if isinstance(number, int) and abs(number) > LARGEST:
                raise ValueError(f"{number} is out of range; expected at most {LARGEST:.0e}")
        return value


def describe(value: Any) -> Any:
    """How an object given in place of a name is written down."""
    if isinstance(value, str | int | float | bool | list | dict | None):
        return value
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json", exclude_none=True)
    kind = value if hasattr(value, "__qualname__") else type(value)
    return f"<{kind.__module__}.{kind.__qualname__}>"


def _written(value: Any) -> bool:
    """Whether a file can say it: text, numbers, truths, dates, lists, tables."""
    return value is None or isinstance(value, str | int | float | list | dict | date | time)


def _or_object(value: Any, handler: Callable) -> Any:
    return handler(value) if _written(value) or isinstance(value, BaseModel) else value


ByName = Annotated[str, WrapValidator(_or_object), PlainSerializer(describe)]
"""A name, or the object itself."""


# ------------------------------------------------------------------------------------- rates


@dataclass(frozen=True)
class LearningRate:
    """A rate of plasticity, one for all layers or one a layer.

    per_second: of online plasticity, written with a unit ("2 Hz"); else per presentation, written
    as a bare number.
    """

    values: tuple[float, ...]
    per_second: bool

    def of_layer(self, i: int) -> float:
        """The rate of layer i (1, 2, …)."""
        return self.values[0] if len(self.values) == 1 else self.values[i - 1]


def _read_rate(value: Any, handler: Callable) -> LearningRate:
    if isinstance(value, LearningRate):
        return value
    entries = value if isinstance(value, list | tuple) else [value]
    if not entries:
        raise ValueError("an empty list; expected a rate, or one rate a layer")
    numbers, units = [], set()
    for entry in entries:
        if isinstance(entry, str):
            numbers.append(Quantity("rate", "non-negative").read(entry))
        elif isinstance(entry, int | float) and not isinstance(entry, bool) and 0 <= entry < 1e300:
            numbers.append(float(entry))
        else:
            raise ValueError(
                f"{entry!r} is no learning rate; expected a number of at least 0 per presentation "
                'such as 0.1, or a rate per second such as "0.5 Hz" for online plasticity'
            )
        units.add(isinstance(entry, str))
    if len(units) > 1:
        raise ValueError("some rates have a unit and some have none; give all the same")
    return LearningRate(tuple(numbers), units == {True})


def _write_rate(rate: LearningRate) -> Any:
    written = [Quantity("rate").write(value) if rate.per_second else value for value in rate.values]
    return written[0] if len(written) == 1 else written


PlasticityRate = Annotated[
    Any, WrapValidator(_read_rate), PlainSerializer(_write_rate, when_used="json")
]
