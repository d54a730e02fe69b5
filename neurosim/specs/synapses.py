"""Groups of cells and the synapses between them: what a protocol of synapses says."""

import re
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, WrapValidator, field_validator

from neurosim.specs.cells import (
    BRIAN_ALONE,
    CellModelSpec,
    Frequencies,
    Starts,
    StimulusSpec,
    _spread_out,
)
from neurosim.specs.circuits import Parameter, Parameters
from neurosim.specs.common import Spec
from neurosim.specs.protocols import Count, names_a_file
from neurosim.units import Measured, NonNegativeTime, PositiveTime, Quantity, parse_any

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII)


def _read_start(value: Any, handler: Any) -> Any:
    """A number, text with a unit, or the name of a parameter."""
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    value = parse_any(value) if isinstance(value, str) else value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("expected a number, text with a unit, or the name of a parameter")
    return value if isinstance(value, Measured) else float(value)


def _write_start(value: Any) -> Any:
    return value.written if isinstance(value, Measured) else value


Start = Annotated[Any, WrapValidator(_read_start), PlainSerializer(_write_start, when_used="json")]
"""What a state begins with: a number, text with a unit, or the name of a parameter."""


def _times(given: Any) -> Any:
    """Times that may be negative, as a list; a range as its values."""
    found = []
    for value in _spread_out(given):
        dimension = getattr(value, "dimension", None)
        if dimension not in (None, "time"):
            raise ValueError(f'a {dimension} is no time; expected such as "10 ms"')
        found.append(float(value) if dimension else Quantity("time").read(value))
    return found


def _write_times(values: list[float]) -> list[str]:
    return [Quantity("time").write(value) for value in values]


Shifts = Annotated[
    list[float],
    Field(min_length=1),
    BeforeValidator(_times, json_schema_input_type=Any),
    PlainSerializer(_write_times, when_used="json"),
]


class SpikesSpec(Spec):
    """When cells are made to spike, whatever their equations say.

    kind: `regular`, one spike every 1/frequency; `poisson`, in which every cell has a train of its
    own; `list`, the `times`. start: of the first spike, or from when on. count: of the spikes of a
    regular train. stop: when trains end. shift: by how much all spikes come later.
    """

    kind: Literal["regular", "poisson", "list"] = "regular"
    times: Annotated[list[PositiveTime], Field(min_length=1)] | None = None
    start: Starts = [0.0]
    frequency: Frequencies | None = None
    count: Count | None = None
    stop: PositiveTime | None = None
    shift: Shifts = [0.0]


class CellGroupSpec(CellModelSpec):
    """Cells of one kind in a protocol of synapses.

    count: how many, in every sweep. spikes: when they are made to spike; then they need no
    equations, and what they have moves without a threshold of its own.
    """

    equations: str = ""
    count: Count = 1
    spikes: SpikesSpec | None = None


class SynapsePartSpec(Spec):
    """What a file in `models/synapses/` says; see `docs/synapses.md`.

    equations: a line for each quantity; `x_post` stands once in every postsynaptic cell, `x_pre` in
    every presynaptic one, and `x` in every synapse. on_pre, on_post: what a spike on either side
    changes. start: of states that do not begin at 0.
    """

    name: str = "unnamed"
    description: str = ""
    source: str = ""
    equations: str = ""
    on_pre: str = ""
    on_post: str = ""
    weight: Parameter = 1.0
    start: dict[str, Start] = {}
    parameters: Parameters = {}


class SynapseSpec(SynapsePartSpec):
    """Synapses from one group of cells to another, or to itself.

    pre, post: the groups. into: the input of the postsynaptic cell that `current_post` is brought
    to. delay: from a presynaptic spike to what it does. Where not one_to_one, every cell reaches
    every other, or each with a chance.
    """

    pre: str
    post: str
    into: str = "current"
    delay: NonNegativeTime = 0.0
    one_to_one: bool = False
    chance: Annotated[float, Field(gt=0, lt=1)] | None = None


class SynapticRecordSpec(Spec):
    """What is written down beside all spikes.

    variables: such as `post.v` or `stdp.weight`; where not given, the readout of every group and
    the states of every synapse. cells, synapses: how many of each, the first ones. every: time
    between two moments, dt where not given. bin: of the rates of populations.
    """

    variables: list[str] | None = None
    cells: Count = 1
    synapses: Count = 1
    every: PositiveTime | None = None
    bin: PositiveTime | None = None


class CurveSpec(Spec):
    """One number of every sweep, against what its sweeps differ in.

    of: quantities, such as `stdp.weight`, of which the mean over all cells or synapses of a sweep
    is taken. take: at the `end`, or the `change` since the start. against: the key that holds a
    list, such as `cells.post.spikes.shift`.
    """

    of: Annotated[list[str], Field(min_length=1)]
    take: Literal["change", "end"] = "change"
    against: str


class SynapticProtocolSpec(Spec):
    """What happens to cells and the synapses between them, in several sweeps.

    Keys that protocols of a cell have as well mean the same.
    """

    refused: ClassVar[dict[str, str]] = dict.fromkeys(("engine", "spiking"), BRIAN_ALONE)

    name: str = "unnamed"
    description: str = ""
    source: str = ""
    duration: PositiveTime
    dt: PositiveTime = 1e-4
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    sweeps: list[str] | None = None
    cells: Annotated[dict[str, CellGroupSpec], Field(min_length=1)]
    synapses: dict[str, SynapseSpec] = {}
    stimuli: list[StimulusSpec] = []
    record: SynapticRecordSpec = SynapticRecordSpec()
    curve: CurveSpec | None = None
    target: Literal["auto", "cython", "numpy"] = "auto"

    @field_validator("name")
    @classmethod
    def _names_a_file(cls, name: str) -> str:
        return names_a_file(name)
