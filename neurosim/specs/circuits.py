"""Parts of a model: cells, populations, projections, and teaching by a channel of its own."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationError,
    WrapValidator,
    model_validator,
)
from pydantic_core import InitErrorDetails, PydanticCustomError

from neurosim.specs.common import (
    ByName,
    LearningRate,
    PlasticityRate,
    Spec,
    _read_rate,
    _write_rate,
)
from neurosim.specs.neurons import ActivationField
from neurosim.units import Measured, Quantity, parse_any

Optimizer = Literal["sgd", "momentum", "rmsprop", "adam"]


def _read_parameter(value: Any, handler: Callable) -> float:
    value = parse_any(value) if isinstance(value, str) else value
    number = handler(value)
    return value if isinstance(value, Measured) else number


def _write_parameter(value: float) -> Any:
    return value.written if isinstance(value, Measured) else value


Parameter = Annotated[
    float,
    Field(allow_inf_nan=False, strict=False),
    WrapValidator(_read_parameter),
    PlainSerializer(_write_parameter, when_used="json"),
]
"""A number, or text with a unit, whose dimension it keeps."""


class SpreadSpec(Spec):
    """A parameter that every cell has its own value of, drawn for each seed.

    spread: the standard deviation; draws on the other side of zero than the mean are drawn again.
    file: an .npz with an array for every population and layer, such as `pyramidal1`, in SI units,
    or a trace.
    """

    mean: Parameter | None = None
    spread: Annotated[Parameter, Field(ge=0)] = 0.0
    file: str | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "SpreadSpec":
        if (self.mean is None) == (self.file is None):
            raise ValueError("expected mean and spread, or file")
        units = [getattr(given, "dimension", None) for given in (self.mean, self.spread)]
        if self.mean and self.spread and units[0] != units[1]:
            like = f'such as "{self.mean.written}"' if isinstance(self.mean, Measured) else "none"
            raise ValueError(f"a spread has the unit of its mean; expected {like}")
        return self


def _is_spread(value: Any) -> str:
    return "spread" if isinstance(value, dict | SpreadSpec) else "number"


ParameterField = Annotated[
    Annotated[Parameter, Tag("number")] | Annotated[SpreadSpec, Tag("spread")],
    Discriminator(_is_spread),
]


def _times(given: Any) -> Any:
    """Time constants, `tau…`, are not negative, and if they have a unit it is one of time."""
    wrong: list[InitErrorDetails] = []
    for name, value in given.items() if isinstance(given, dict) else ():
        if not (isinstance(name, str) and name.startswith("tau")):
            continue
        times: dict[tuple[str, ...], Any] = {(name,): value}
        if isinstance(value, dict):
            times = {(name, "spread", k): v for k, v in value.items() if k != "file"}
        for loc, each in times.items():
            try:
                _time(each)
            except ValueError as problem:
                wrong.append(InitErrorDetails(type=_told(problem), loc=loc, input=each))
    if wrong:
        raise ValidationError.from_exception_data("parameters", wrong)
    return given


def _time(value: Any) -> None:
    if isinstance(value, str):
        Quantity("time", "non-negative").read(value)
    elif isinstance(value, int | float) and value < 0:
        raise ValueError(f"{value} is out of range; expected a time of at least 0")


def _told(problem: ValueError) -> PydanticCustomError:
    return PydanticCustomError("value_error", "{error}", {"error": str(problem)})


Parameters = Annotated[dict[str, ParameterField], BeforeValidator(_times)]


class CellTextSpec(Spec):
    """Equations of a neuron as text.

    threshold: when it spikes by itself, a condition. reset: what its states become then, a line
    each. refractory: for how long it then spikes no more, a time or the name of one, or a condition
    under which it does not. start: of states that do not begin at 0. parameters: of this cell
    alone, before those of a model around it.
    """

    equations: str = ""
    threshold: str | None = None
    reset: str | None = None
    refractory: str | None = None
    start: dict[str, Parameter] = {}
    parameters: Parameters = {}


class CellSpec(CellTextSpec):
    """A cell of a circuit. like: the cell of it whose other lines it takes over."""

    like: str | None = None


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


_QUANTITY = re.compile(r"^\s*[-+]?[\d.]+([eE][-+]?\d+)?\s*[A-Za-z]*\s*$")
"""A number with a unit, whatever either is; a text that is none is an expression."""


def _read_projection_rate(value: Any, handler: Callable) -> LearningRate | RateLaw:
    if isinstance(value, RateLaw):
        return value
    names = isinstance(value, str) and re.search(r"[A-Za-z(]", _QUANTITY.sub("", value))
    if names:
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
    .npz or the like, in which arrays may have other `names`; `near-teacher` for the `distance` of
    every layer from those of the task's teacher. post,
    pre: the rule, an expression over the cell on either side; or `rule`, by name or an object of a
    script. decay: λ. limit: how large a weight may become. bias: whether the post-synaptic cells
    have biases that learn along; false says that what the text calls `bias` is 0. kernel: the side
    of the kernel by which it convolves between layers of maps. pool: the side of the windows of
    which the largest value counts. stride: from window to window, or, without, from one position of
    the kernel to the next.
    """

    wire: str
    init: str | None = None
    gain: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    file: str | None = None
    names: dict[str, str] = {}
    distance: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 8.0
    post: str | None = None
    pre: str | None = None
    rule: ByName = "fixed"
    rate: ProjectionRate = LearningRate((0.0,), False)
    decay: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    noise: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    limit: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    optimizer: Optimizer = "sgd"
    bias: bool | None = None
    kernel: Annotated[int, Field(ge=1)] | None = None
    pool: Annotated[int, Field(ge=1)] = 1
    stride: Annotated[int, Field(ge=1)] = 1


class NodesSpec(Spec):
    """Hidden layers with goals of their own [Kostadinov, Razeghi & Voloshynovskiy 2019].

    goals: the layers that have one; the last hidden one where not given. elsewhere: what the others
    want: what they say themselves, or nothing. discrimination: λ_0, if classes are kept apart by a
    penalty and not by a constraint. from_above, from_below: λ_f and λ_b, how much a node hears of
    what its neighbors miss. correction: κ of the y − κν that weights fit. conditioning, coherence,
    log_det: λ_2, λ_3 and λ_4 of forward weights; similarity: λ_5 of backward weights. active: the
    probability with which a node takes part in a presentation.
    """

    goals: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)] | None = None
    elsewhere: Literal["own", "nothing"] = "own"
    discrimination: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    from_above: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    from_below: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    correction: Annotated[float, Field(allow_inf_nan=False)] = 1.0
    conditioning: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    coherence: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    log_det: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.1
    similarity: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    active: Annotated[float, Field(gt=0, le=1)] = 1.0


class CreditSpec(Spec):
    """Errors or targets that come down a channel of its own, and the weights Q of that channel.

    name: of `neurosim list rules`, or a `neurosim.credit.Credit`. What is not given follows from
    it. threshold: ε of the robust Sherman–Morrison update. refresh: the drift ‖W W⁻¹ − I‖ past
    which an inverse is computed anew; √eps of the precision where not given. encoder, decoder: of
    maps of the autoencoder form, g(h) = decoder(Q encoder(h)); h itself, and s of the layer, where
    not given.

    The rest is of credits that send errors down a learning channel [Baldi, Sadowski & Lu 2018].
    slope: false counts every slope below the output as 1, in the channel and in the rule of W.
    sparse: random weights are 0 or 1, of each column so many 1 on average. signs: `congruent` if
    random weights take those of W^T, or of the product of such. redrawn: random weights are new in
    every presentation. error_bits, error_scale: of quantised errors in hidden layers. update_bits,
    update_scale: of every sample's quantised change of W. dropout: the probability with which a
    hidden neuron of the channel is silent. per: whether one weight of the channel serves a neuron,
    or each of its forward weights has its own.

    nodes: of the credit that gives hidden layers goals of their own.
    """

    name: ByName
    init: Literal["exact-inverse", "pseudo-inverse", "transpose", "random", "xavier", "file"] = (
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
    slope: bool = True
    sparse: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    signs: Literal["free", "congruent"] = "free"
    redrawn: bool = False
    error_bits: Annotated[int, Field(ge=1, le=64)] | None = None
    error_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2**-3
    update_bits: Annotated[int, Field(ge=1, le=64)] | None = None
    update_scale: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 2**-6
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    encoder: ActivationField | None = None
    decoder: ActivationField | None = None
    per: Literal["neuron", "weight"] = "neuron"
    nodes: NodesSpec | None = None


def named_credit(given: Any) -> Any:
    """The table of a credit that may be given by its name, or as the record itself, alone."""
    plain = given is None or isinstance(given, dict | CreditSpec)
    return given if plain else {"name": given}


CreditField = Annotated[CreditSpec, BeforeValidator(named_credit)]
