"""What units do with their potential, and the neurons behind them at the spiking level."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import (
    Field,
    PlainSerializer,
    ValidationInfo,
    WrapValidator,
    field_validator,
)

from neurosim.specs.common import Spec, _written, describe
from neurosim.units import NonNegativeTime, PositiveRate, PositiveTime

FORMULAS = {
    "linear": "s(a) = a",
    "leaky-relu": "s(a) = a for a > 0, slope·a otherwise; slope > 0 keeps it invertible",
    "tanh": "s(a) = tanh a",
    "sigmoid": "s(a) = 1/(1 + exp(-a))",
    "softplus": "s(a) = log(1 + exp a)",
    "power": "s(a) = a^exponent for a > 0, -(-a)^exponent otherwise",
    "sign": "s(a) = 1 for a > 0, 0 otherwise",
    "bernoulli": "s(a) = 1 with probability 1/(1 + exp(-a)), 0 otherwise",
    "soft-threshold": "s(a) = sign(a) max(|a| - threshold, 0)",
}
"""What the named transfer functions are."""

SINGULAR = ("sign", "bernoulli", "soft-threshold")
"""Those that have no inverse."""

FLAT = ("sign",)
"""Those whose slope is 0 wherever they have one, so that nothing can be learned from it."""

STOCHASTIC = ("bernoulli",)
"""Those that draw: the same activity twice need not give the same answer."""


class ActivationSpec(Spec):
    """A named transfer function and its number: `slope` of the leaky ReLU, `exponent` of the power,
    `threshold` of the soft threshold."""

    name: Literal[
        "linear",
        "leaky-relu",
        "tanh",
        "sigmoid",
        "softplus",
        "power",
        "sign",
        "bernoulli",
        "soft-threshold",
    ]
    slope: Annotated[float, Field(gt=0, le=1)] | None = None
    exponent: Annotated[float, Field(gt=0, le=16)] | None = None
    threshold: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None

    @field_validator("slope")
    @classmethod
    def _slope_of_leaky_relu(cls, slope: float | None, info: ValidationInfo) -> float | None:
        if slope is not None and info.data.get("name") not in ("leaky-relu", None):
            raise ValueError(f"{info.data['name']} has no slope; only leaky-relu has")
        return slope

    @field_validator("exponent")
    @classmethod
    def _exponent_of_power(cls, exponent: float | None, info: ValidationInfo) -> float | None:
        if exponent is not None and info.data.get("name") not in ("power", None):
            raise ValueError(f"{info.data['name']} has no exponent; only power has")
        return exponent

    @field_validator("threshold")
    @classmethod
    def _threshold_of_soft(cls, threshold: float | None, info: ValidationInfo) -> float | None:
        if threshold is not None and info.data.get("name") not in ("soft-threshold", None):
            raise ValueError(f"{info.data['name']} has no threshold; only soft-threshold has")
        return threshold

    @property
    def number(self) -> float | None:
        """The one number that a transfer function may have; None where it was not given."""
        own = {"power": self.exponent, "soft-threshold": self.threshold}
        return own.get(self.name, self.slope)


def _activation(value: Any, handler: Callable) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    return handler(value) if _written(value) or isinstance(value, ActivationSpec) else value


ActivationField = Annotated[ActivationSpec, WrapValidator(_activation), PlainSerializer(describe)]


class NeuronsSpec(Spec):
    """The neurons behind every unit at the spiking level.

    soma: what fires by single spikes; where events and bursts speak of two quantities, the neurons
    are such by chance, or `bursting-pyramidal` by what their membranes do. neurons: N a unit.
    base_rate, gain, max_rate: activity h is a rate of base_rate + gain h, within (0, max_rate).
    tau_synapse: of what smooths spikes.
    tau_membrane, refractory, membrane_noise: of integrate-and-fire somata (threshold 1, reset 0).
    base_probability, probability_gain: a burst probability is base + gain ĥ. burst_interval:
    between the spikes of a burst. burst_limit: inter-spike intervals below it make a burst.
    tau_burst: over which who receives them tells the fraction of events that are bursts.
    currents: of `bursting-pyramidal`, into soma and dendrite: found together for a rate and a
    probability, or each as if the other stayed at its base. interneurons: of the same, how many of
    a unit divide what others hear of its bursts; without any a line does.
    """

    elsewhere: ClassVar[dict[str, str]] = {
        "leak": "a term of the cell's equations, such as - leak*soma"
    }

    soma: Literal["poisson", "lif", "bursting-pyramidal"] = "poisson"
    neurons: Annotated[int, Field(ge=1)] = 20
    base_rate: PositiveRate = 50.0
    gain: PositiveRate = 20.0
    max_rate: PositiveRate = 150.0
    tau_synapse: NonNegativeTime = 5e-3
    tau_membrane: PositiveTime = 10e-3
    refractory: PositiveTime = 2e-3
    membrane_noise: Annotated[float, Field(ge=0, le=1)] = 0.1
    base_probability: Annotated[float, Field(gt=0, lt=1)] = 0.5
    probability_gain: Annotated[float, Field(gt=0, le=1)] = 0.15
    burst_interval: PositiveTime = 5e-3
    burst_limit: PositiveTime = 16e-3
    tau_burst: PositiveTime = 20e-3
    currents: Literal["joint", "separate"] = "joint"
    interneurons: Annotated[int, Field(ge=0)] = 0
