"""A model: layers of a shipped dynamics, or a circuit."""

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    ValidationInfo,
    field_validator,
    model_serializer,
)

from neurosim.errors import either, unknown
from neurosim.families import FAMILIES
from neurosim.spec.circuits import CellSpec, Parameters, PopulationField, ProjectionSpec
from neurosim.spec.common import ByName, Spec, describe
from neurosim.spec.layers import (
    ActivationField,
    ActivationSpec,
    FeedbackSpec,
    ForwardSpec,
    NeuronsSpec,
    WeightsSpec,
)
from neurosim.units import PositiveTime

LAYERED = frozenset(
    {"dynamics", "credit", "bias", "mu", "tau_soma", "tau_basal", "tau_apical", "weights"}
    | {"forward", "feedback"}
)
"""Keys of models that are layers of a shipped dynamics."""

CIRCUITS = frozenset(
    {"cells", "populations", "projections", "parameters", "readout", "cut", "form", "attenuation"}
)
"""Keys of models that are circuits."""


class ModelSpec(Spec):
    """A network of neurons; see `docs/models.md` for every key.

    It is a circuit of `cells` in `populations`, joined by `projections`, or layers of a shipped
    `dynamics` that learn by a `credit`. Of circuits: readout, the quantity of the output layer that
    answers; cut, a state that the equilibrium level finds by Newton's method where sweeps would not
    converge, as that of a controller; form, of `t` and `encode`; attenuation, by how much the
    teaching signal of layer i of L is expected to shrink, an expression.
    """

    name: str = "unnamed"
    source: str = ""
    cells: dict[str, CellSpec] = {}
    parameters: Parameters = {}
    populations: dict[str, PopulationField] = {}
    projections: dict[str, ProjectionSpec] = {}
    readout: str | None = None
    cut: str | None = None
    form: Literal["inverse", "autoencoder"] = "inverse"
    attenuation: str = "1"
    dynamics: ByName | None = Field(default=None, validate_default=True)
    credit: ByName | None = Field(default=None, validate_default=True)
    layers: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2)]
    activation: ActivationField = ActivationSpec(name="leaky-relu", slope=0.35)
    output_activation: ActivationField = ActivationSpec(name="linear")
    output: Literal["linear", "softmax"] = "linear"
    loss: Literal["half-squared", "squared", "cross-entropy"] = "half-squared"
    auxiliary: Annotated[int, Field(ge=0)] = 0
    bias: bool = False
    target_step: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    mu: Annotated[float, Field(gt=0, lt=0.5)] | None = Field(default=None, validate_default=True)
    tau_soma: PositiveTime | None = Field(default=None, validate_default=True)
    tau_basal: PositiveTime | None = Field(default=None, validate_default=True)
    tau_apical: PositiveTime | None = Field(default=None, validate_default=True)
    tau_memory: PositiveTime | None = None
    noise: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = {}
    weights: WeightsSpec = WeightsSpec()
    forward: ForwardSpec = ForwardSpec()
    feedback: FeedbackSpec = FeedbackSpec()
    spiking: NeuronsSpec = NeuronsSpec()

    @field_validator("dynamics")
    @classmethod
    def _known_dynamics(cls, dynamics: Any, info: ValidationInfo) -> Any:
        cells = info.data.get("cells", {})
        if dynamics is None and not cells:
            raise ValueError(f"missing; expected {either(map(repr, FAMILIES))}, or a table [cells]")
        if dynamics is not None and cells:
            raise ValueError("got both dynamics and cells; expected one of them")
        if isinstance(dynamics, str) and dynamics not in FAMILIES:
            raise ValueError(unknown("dynamics", dynamics, FAMILIES))
        return dynamics

    @field_validator("mu", "tau_soma", "tau_basal", "tau_apical")
    @classmethod
    def _parameters_of_the_dynamics(cls, value: float | None, info: ValidationInfo) -> float | None:
        dynamics = info.data.get("dynamics")
        if dynamics is None:
            if value is not None and info.data.get("cells"):
                key = info.field_name
                raise ValueError(f"cells have their parameters by name: parameters.{key}")
            return value
        family = FAMILIES.get(dynamics) if isinstance(dynamics, str) else None
        needed, optional = (family.needed, family.optional) if family else (set(), set())
        if value is None and info.field_name in needed:
            raise ValueError(f"missing; the {dynamics} dynamics needs it")
        if value is not None and info.field_name not in needed | optional:
            raise ValueError(f"the {describe(dynamics)} dynamics has no {info.field_name!r}")
        return value

    @field_validator("credit")
    @classmethod
    def _credit_of_layers(cls, credit: Any, info: ValidationInfo) -> Any:
        if credit is None and not info.data.get("cells"):
            raise ValueError("missing; it says where teaching signals come from")
        return credit

    @model_serializer(mode="wrap")
    def _without_what_it_has_not(self, handler: Callable) -> dict[str, Any]:
        """A circuit has no keys of layered models, a layered model none of circuits."""
        others = LAYERED if self.cells else CIRCUITS
        return {key: value for key, value in handler(self).items() if key not in others}

    @property
    def depth(self) -> int:
        """L, the number of layers above the input."""
        return len(self.layers) - 1

    @property
    def bursting(self) -> bool:
        """Whether its spikes speak of two things, by events and by bursts."""
        spikes = [population.spikes for population in self.populations.values()]
        return self.dynamics == "multiplexing" or any(isinstance(given, list) for given in spikes)

    @property
    def circuit(self) -> bool:
        """Whether it is written as cells, populations and projections."""
        return bool(self.cells)
