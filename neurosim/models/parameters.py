"""The parameters of a model: their values, dimensions and spreads."""

from typing import Any

from neurosim.specs import ModelSpec, SpreadSpec
from neurosim.units import Measured


def _given(model: ModelSpec) -> dict[str, Any]:
    """All parameters as they are given, those of one cell as `cell.name`."""
    own = {f"{n}.{key}": v for n, cell in model.cells.items() for key, v in cell.parameters.items()}
    return dict(model.parameters) | own


def values(model: ModelSpec) -> dict[str, float]:
    """All parameters; of those with a spread the mean, of those in a file 1."""

    def one(given: Any) -> float:
        if not isinstance(given, SpreadSpec):
            return given
        return 1.0 if given.mean is None else given.mean

    return {key: one(given) for key, given in _given(model).items()}


def units(model: ModelSpec) -> dict[str, str]:
    """The dimensions of parameters that were written with a unit."""

    def mean(given: Any) -> Any:
        return given.mean if isinstance(given, SpreadSpec) else given

    found = {key: mean(given) for key, given in _given(model).items()}
    return {key: value.dimension for key, value in found.items() if isinstance(value, Measured)}


def spreads(model: ModelSpec) -> dict[str, SpreadSpec]:
    """The parameters that every cell has its own value of."""
    return {key: given for key, given in _given(model).items() if isinstance(given, SpreadSpec)}
