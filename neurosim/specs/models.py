"""A model: cells in populations, joined by projections."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, PlainSerializer, WrapValidator

from neurosim.circuits.maps import Maps
from neurosim.specs.circuits import (
    CellSpec,
    CreditField,
    Parameters,
    PopulationField,
    ProjectionSpec,
)
from neurosim.specs.common import Spec
from neurosim.specs.neurons import ActivationField, ActivationSpec, NeuronsSpec
from neurosim.units import PositiveTime


def _read_layer(value: Any, handler: Callable) -> int:
    if not isinstance(value, list | tuple):
        return handler(value)
    if len(value) != 3 or not all(type(n) is int and n >= 1 for n in value):
        raise ValueError(
            f"{value} is no layer; expected a number of units, or maps, rows and columns such as "
            "[64, 16, 16]"
        )
    return Maps(value)


def _write_layer(value: int) -> Any:
    return list(value.shape) if isinstance(value, Maps) else value


LayerField = Annotated[int, Field(ge=1), WrapValidator(_read_layer), PlainSerializer(_write_layer)]
"""How many units, or the shape of their maps."""


class ModelSpec(Spec):
    """A network of neurons; see `docs/models.md` for every key.

    readout: the quantity of the output layer that answers. cut: a state that the equilibrium level
    finds by Newton's method where sweeps would not converge, as that of a controller. form: of `t`
    and `encode`. attenuation: by how much the teaching signal of layer i of L is expected to
    shrink, an expression. credit: teaching by a channel of its own, for rules that name `teaching`.
    """

    elsewhere: ClassVar[dict[str, str]] = {
        "dynamics": "the tables [cells], [populations] and [projections]",
        "mu": "parameters.mu",
        "tau_soma": "parameters.tau_soma",
        "tau_basal": "parameters.tau_basal",
        "tau_apical": "parameters.tau_apical",
        "bias": "projections.W.bias",
        "weights": "projections.W.init, and file or distance beside it",
        "forward": "projections.W.rate and the keys beside it",
        "feedback": "projections.Q.rate and the keys beside it, or those of credit, or form",
    }

    name: str = "unnamed"
    description: str = ""
    source: str = ""
    cells: dict[str, CellSpec]
    parameters: Parameters = {}
    populations: dict[str, PopulationField]
    projections: dict[str, ProjectionSpec]
    readout: str | None = None
    cut: str | None = None
    form: Literal["inverse", "autoencoder"] = "inverse"
    attenuation: str = "1"
    credit: CreditField | None = None
    layers: Annotated[list[LayerField], Field(min_length=2)]
    activation: ActivationField = ActivationSpec(name="leaky-relu", slope=0.35)
    output_activation: ActivationField = ActivationSpec(name="linear")
    output: Literal["linear", "softmax"] = "linear"
    loss: Literal["half-squared", "squared", "cross-entropy"] = "half-squared"
    auxiliary: Annotated[int, Field(ge=0)] = 0
    target_step: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    tau_memory: PositiveTime | None = None
    noise: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    spiking: NeuronsSpec = NeuronsSpec()

    @property
    def depth(self) -> int:
        """L, the number of layers above the input."""
        return len(self.layers) - 1

    @property
    def bursting(self) -> bool:
        """Whether its spikes speak of two things, by events and by bursts."""
        return any(isinstance(given.spikes, list) for given in self.populations.values())
