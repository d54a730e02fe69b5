"""What a model and a protocol are: frozen, validated descriptions, independent of any level.

Where a name is expected for an activation, a dynamics, a plasticity rule or a task, a script may
give an object instead; it is used as it is.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, time
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    WrapValidator,
    field_validator,
    model_serializer,
    model_validator,
)

from neurosim._plain import plain
from neurosim.errors import arrived, either, unknown
from neurosim.families import FAMILIES
from neurosim.units import NonNegativeTime, PositiveRate, PositiveTime, Quantity, parse_any


class Spec(BaseModel):
    """Frozen, with no room for misspelt keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)

    @field_validator("*", mode="before")
    @classmethod
    def _as_files_have_it(cls, value):
        value = plain(value)
        if isinstance(value, str) and "\0" in value:
            raise ValueError(f"{arrived(value)} holds a null character, which HDF5 cannot")
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


# ------------------------------------------------------------------------------------- models


FORMULAS = {
    "linear": "s(a) = a",
    "leaky-relu": "s(a) = a for a > 0, slope·a otherwise; slope > 0 keeps it invertible",
    "tanh": "s(a) = tanh a",
    "sigmoid": "s(a) = 1/(1 + exp(-a))",
    "softplus": "s(a) = log(1 + exp a)",
}
"""What the named transfer functions are; all of them have inverses."""


class ActivationSpec(Spec):
    """A named transfer function; `slope` belongs to the leaky ReLU."""

    name: Literal["linear", "leaky-relu", "tanh", "sigmoid", "softplus"]
    slope: Annotated[float, Field(gt=0, le=1)] | None = None

    @field_validator("slope")
    @classmethod
    def _slope_of_leaky_relu(cls, slope, info):
        if slope is not None and info.data.get("name") not in ("leaky-relu", None):
            raise ValueError(f"{info.data['name']} has no slope; only leaky-relu has")
        return slope


def _activation(value: Any, handler: Callable) -> Any:
    if isinstance(value, str):
        value = {"name": value}
    return handler(value) if _written(value) or isinstance(value, ActivationSpec) else value


ActivationField = Annotated[ActivationSpec, WrapValidator(_activation), PlainSerializer(describe)]

Optimizer = Literal["sgd", "momentum", "rmsprop", "adam"]


class WeightsSpec(Spec):
    """Where the forward weights come from; `file`: an .npz with W1 … WL (and b1 …), or a trace."""

    init: Literal["lecun", "xavier", "orthogonal", "near-teacher", "file"] = "xavier"
    gain: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    distance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 8.0
    file: str | None = None


class ForwardSpec(Spec):
    """Plasticity of the basal synapses.

    order: which layers move in a presentation of a credit with a channel of its own.
    """

    rule: ByName = "delta"
    order: Literal["together", "random", "output", "bottom-up"] = "together"
    rate: PlasticityRate = LearningRate((0.0,), False)
    depth_compensation: bool = False
    optimizer: Optimizer = "sgd"


class FeedbackSpec(Spec):
    """The apical synapses: their form, where they start, how they learn.

    threshold: ε of the robust Sherman–Morrison update. refresh: the drift ‖W W⁻¹ − I‖ past which
    an inverse is computed anew; √eps of the precision where not given.
    """

    form: Literal["inverse", "autoencoder"] = "inverse"
    init: Literal["exact-inverse", "pseudo-inverse", "transpose", "random", "file"] = (
        "pseudo-inverse"
    )
    gain: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    file: str | None = None
    rule: ByName = "fixed"
    rate: PlasticityRate = LearningRate((0.0,), False)
    decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    noise: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    threshold: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.5
    refresh: Annotated[float, Field(gt=0)] | None = None
    optimizer: Optimizer = "sgd"


class NeuronsSpec(Spec):
    """The neurons behind every unit at the spiking level.

    soma: of mixture networks; multiplexing networks have event/burst neurons. neurons: N a unit.
    base_rate, gain, max_rate: activity h is a rate of base_rate + gain h, within (0, max_rate).
    tau_synapse: of dendrites that follow at once at the other levels. leak: conductance of the
    soma's leak over that of its dendrites.
    tau_membrane, refractory, membrane_noise: of integrate-and-fire somata (threshold 1, reset 0).
    base_probability, probability_gain: a burst probability is base + gain ĥ. burst_interval:
    between the spikes of a burst. burst_limit: inter-spike intervals below it make a burst.
    """

    soma: Literal["poisson", "lif"] = "poisson"
    neurons: Annotated[int, Field(ge=1)] = 20
    base_rate: PositiveRate = 50.0
    gain: PositiveRate = 20.0
    max_rate: PositiveRate = 150.0
    tau_synapse: NonNegativeTime = 5e-3
    leak: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    tau_membrane: PositiveTime = 10e-3
    refractory: PositiveTime = 2e-3
    membrane_noise: Annotated[float, Field(ge=0, le=1)] = 0.1
    base_probability: Annotated[float, Field(gt=0, lt=1)] = 0.5
    probability_gain: Annotated[float, Field(gt=0, le=1)] = 0.15
    burst_interval: PositiveTime = 5e-3
    burst_limit: PositiveTime = 16e-3


def _read_parameter(value: Any) -> Any:
    return parse_any(value) if isinstance(value, str) else value


Parameter = Annotated[
    float, BeforeValidator(_read_parameter), Field(allow_inf_nan=False, strict=False)
]
"""A number, or text with a unit."""


class SpreadSpec(Spec):
    """A parameter that every cell has its own value of, drawn for each seed.

    spread: the standard deviation; draws on the other side of zero than the mean are drawn again.
    file: an .npz with an array for every population and layer, such as `pyramidal1`, in SI units.
    """

    mean: Parameter | None = None
    spread: Annotated[Parameter, Field(ge=0)] = 0.0
    file: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "SpreadSpec":
        if (self.mean is None) == (self.file is None):
            raise ValueError("expected mean and spread, or file")
        return self


def _is_spread(value: Any) -> str:
    return "spread" if isinstance(value, dict | SpreadSpec) else "number"


ParameterField = Annotated[
    Annotated[Parameter, Tag("number")] | Annotated[SpreadSpec, Tag("spread")],
    Discriminator(_is_spread),
]


class CellSpec(Spec):
    """Equations of a neuron as text. like: the cell whose other lines it takes over.

    parameters: of this cell alone, before those of the model.
    """

    equations: str = ""
    like: str | None = None
    parameters: dict[str, ParameterField] = {}


class PopulationSpec(Spec):
    """Cells of one kind: in which layers, how many in each, and which cell where not its namesake.

    size: as many as the layer has units, or the layer `above` or `below` it, or a number. spikes:
    the quantity that spikes speak of, or two, by events and by bursts; false for cells without
    spikes; where not given, what the cells send if that is one quantity.
    """

    layers: Literal["hidden", "output", "all"] | list[Annotated[int, Field(ge=1)]]
    size: Literal["layer", "above", "below"] | Annotated[int, Field(ge=1)] = "layer"
    cell: str | None = None
    spikes: (
        str | Annotated[list[str], Field(min_length=2, max_length=2)] | Literal[False] | None
    ) = None


def _population(value: Any, handler: Callable) -> Any:
    return handler({"layers": value} if isinstance(value, str | list) else value)


PopulationField = Annotated[PopulationSpec, WrapValidator(_population)]


@dataclass(frozen=True)
class RateLaw:
    """A rate of plasticity as an expression in the layer i, the depth L and the parameters."""

    text: str
    per_second: bool

    @property
    def values(self) -> tuple[float, ...]:
        """Not known before the parameters are; one that is not zero."""
        return (1.0,)


def _read_projection_rate(value: Any, handler: Callable) -> LearningRate | RateLaw:
    if isinstance(value, RateLaw):
        return value
    if isinstance(value, str) and re.search(r"[A-Za-z(]", re.sub(r"\s*[a-zA-Z]+\s*$", "", value)):
        law = re.sub(r"\s+Hz\s*$", "", value)
        return RateLaw(law, law != value)
    return _read_rate(value, handler)


def _write_projection_rate(rate: LearningRate | RateLaw) -> Any:
    if isinstance(rate, RateLaw):
        return f"{rate.text} Hz" if rate.per_second else rate.text
    return _write_rate(rate)


ProjectionRate = Annotated[
    Any,
    WrapValidator(_read_projection_rate),
    PlainSerializer(_write_projection_rate, when_used="json"),
]


class ProjectionSpec(Spec):
    """Synapses of one kind; see `docs/models.md` for wires, starts and rules.

    init: where the weights start, a name or an expression over other projections; `file` for an
    .npz. post, pre: the rule, an expression over the cell on either side. decay: λ. limit: how
    large a weight may become. bias: whether the post-synaptic cells have biases that learn along.
    """

    wire: str
    init: str | None = None
    gain: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    file: str | None = None
    post: str | None = None
    pre: str | None = None
    rule: str = "fixed"
    rate: ProjectionRate = LearningRate((0.0,), False)
    decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    noise: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    optimizer: Optimizer = "sgd"
    bias: bool = False


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
    parameters: dict[str, ParameterField] = {}
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
    def _known_dynamics(cls, dynamics, info):
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
    def _parameters_of_the_dynamics(cls, value, info):
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
    def _credit_of_layers(cls, credit, info):
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


# ---------------------------------------------------------------------------------- protocols


class PhaseSpec(Spec):
    """How long a phase lasts, what it teaches, which plasticity is open in it.

    duration: needed where there is time; with until = "settled" the longest it may take.
    teaching: `none` (short-circuit), `following` the output, `frozen` from the free phase, or
    `clamped` to the label. plastic: `forward`, `feedback`, or the projections of a circuit that
    learn. parameters: those of a circuit that have other values in this phase.
    """

    name: str
    duration: PositiveTime | None = None
    until: Literal["settled", "duration"] = "settled"
    teaching: Literal["none", "following", "frozen", "clamped"] = "none"
    plastic: list[str] = []
    parameters: dict[str, Parameter] = {}


class StageSpec(Spec):
    """A part of the run: how many presentations of which phases.

    Either `epochs` (passes through the training set) or `presentations` (batches).
    pace: a factor on all learning rates of this stage.
    order: `together`, or `top-down`: one feedback matrix after the other, from the top, each for
    an equal share of the stage (the sleep phase after T 6.26).
    """

    name: str
    epochs: Annotated[int, Field(ge=1)] | None = None
    presentations: Annotated[int, Field(ge=1)] | None = None
    pace: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    order: Literal["together", "top-down"] = "together"
    phases: Annotated[list[PhaseSpec], Field(min_length=1)]


class ScheduleSpec(Spec):
    """How the learning rates move over a stage: to `final` times their start, over its course."""

    kind: Literal["constant", "linear", "exponential"] = "constant"
    final: Annotated[float, Field(gt=0, le=1)] = 1.0


Count = Annotated[int, Field(ge=1)]
Places = Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]


class RecordSpec(Spec):
    """What is written down in detail.

    presentations: how many, spread evenly from the first to the last, or which ones (from 0).
    samples: how many samples of the batch, the first ones, or which ones (from 0). units: how many
    of every layer, or which; of a smaller layer those that it has. every: time between two recorded
    states. variables, layers: which; all of the model where not given. weights: also those that
    each of the presentations begins with. decomposition: whether every presentation's teaching
    signals are taken apart into the metrics of `theory/diagnosis.py`.
    """

    presentations: Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]] = 5
    samples: Count | Places = 4
    units: Count | Places | None = None
    every: PositiveTime | None = None
    variables: list[str] | None = None
    layers: list[Annotated[int, Field(ge=1)]] | None = None
    weights: bool = False
    decomposition: bool = False


class RateSpec(Spec):
    """Settings of the rate level, and of weights that flow while neurons are at rest.

    rtol, atol: `TOLERANCES` of the precision if not given.
    """

    scheme: Literal["euler", "heun", "tsit5", "kvaerno5"] = "heun"
    dt: PositiveTime
    adaptive: bool = False
    rtol: Annotated[float, Field(gt=0, lt=1)] | None = None
    atol: Annotated[float, Field(gt=0, lt=1)] | None = None
    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-3


class EquilibriumSpec(Spec):
    """Settings of the equilibrium level only."""

    tolerance: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    max_sweeps: Annotated[int, Field(ge=1)] = 64
    max_newton: Annotated[int, Field(ge=0)] = 8


class SpikingSpec(Spec):
    """Settings of the spiking level only.

    window: at the end of every phase, over which rates are counted. plasticity_every: step of
    online plasticity. pace: a factor on all learning rates. presentations: at most so many a stage,
    in place of its own number. test: at most so many test samples. target: what Brian2 compiles to
    (`auto`: Cython where it can; `standalone`: a program of its own).
    """

    dt: PositiveTime = 0.5e-3
    window: PositiveTime = 250e-3
    plasticity_every: PositiveTime = 5e-3
    pace: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    presentations: Annotated[int, Field(ge=1)] | None = None
    test: Annotated[int, Field(ge=1)] | None = None
    target: Literal["auto", "cython", "numpy", "standalone"] = "auto"


def _task(value: Any, handler: Callable) -> Any:
    if _written(value):
        return handler(value)
    if lacking := [name for name in ("shared", "draw") if not hasattr(value, name)]:
        raise ValueError(f"{type(value).__name__} object without {' and '.join(lacking)}")
    return value


class ProtocolSpec(Spec):
    """What happens to a model: a task, stages of phases, and what is recorded.

    shuffle: whether every epoch has an order of its own; else samples come as the task has them.
    """

    name: str = "unnamed"
    description: str = ""
    level: Literal["equilibrium", "rate", "spiking"] = "rate"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["float32", "float64"] = "float32"
    plasticity: Literal["quasi-static", "online"] = "quasi-static"
    batch: Annotated[int, Field(ge=1)]
    shuffle: bool = True
    model: ModelSpec
    task: Annotated[dict[str, Any], WrapValidator(_task), PlainSerializer(describe)]
    stages: Annotated[list[StageSpec], Field(min_length=1)]
    schedule: ScheduleSpec = ScheduleSpec()
    record: RecordSpec = RecordSpec()
    rate: RateSpec | None = None
    equilibrium: EquilibriumSpec = EquilibriumSpec()
    spiking: SpikingSpec = SpikingSpec()

    @property
    def timed(self) -> bool:
        """Whether phases last a time: where neurons move, or weights flow."""
        return self.level != "equilibrium" or self.plasticity == "online"

    @field_validator("name")
    @classmethod
    def _names_a_file(cls, name):
        if not re.fullmatch(r"[^\W_][\w .,+=@()-]{0,99}", name):
            raise ValueError(
                f"{arrived(name)} cannot name a trace; expected at most 100 letters, digits, "
                "spaces and .,+=@()-_, first a letter or digit"
            )
        return name
