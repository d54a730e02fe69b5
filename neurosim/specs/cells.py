"""One kind of cell alone: its equations, what reaches it from outside, and what is recorded."""

from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from pydantic import BeforeValidator, Field, field_validator

from neurosim.specs.circuits import CellTextSpec, Parameter
from neurosim.specs.common import Spec
from neurosim.specs.protocols import Count, names_a_file
from neurosim.units import Measured, NonNegativeTime, PositiveRate, PositiveTime, Voltage, parse_any

RANGE = ("from", "to", "count")


def _listed(given: Any) -> Any:
    """One value as a list of one."""
    return given if isinstance(given, list | tuple) else [given]


def _spread_out(given: Any) -> Any:
    """A range of values as their list, one value as a list of one."""
    if not isinstance(given, dict):
        return _listed(given)
    if set(given) != set(RANGE):
        raise ValueError(f"a range has the keys {', '.join(RANGE)}")
    ends = [parse_any(v) if isinstance(v, str) else v for v in (given["from"], given["to"])]
    count = given["count"]
    if not isinstance(count, int) or isinstance(count, bool) or count < 2:
        raise ValueError(f"count {count!r}: expected a whole number of at least 2")
    if len({getattr(end, "dimension", None) for end in ends}) > 1:
        raise ValueError("from and to have different units")
    values = np.linspace(float(ends[0]), float(ends[1]), count)
    if not isinstance(ends[0], Measured):
        return values.tolist()
    return [Measured(float(f"{value:.12g}"), ends[0].dimension) for value in values]


Amplitudes = Annotated[
    list[Parameter], Field(min_length=1), BeforeValidator(_spread_out, json_schema_input_type=Any)
]
"""One for each sweep, or one for all; `{from, to, count}` says a range of them."""

Starts = Annotated[list[NonNegativeTime], Field(min_length=1), BeforeValidator(_listed)]
Durations = Annotated[list[PositiveTime], Field(min_length=1), BeforeValidator(_listed)]
Frequencies = Annotated[list[PositiveRate], Field(min_length=1), BeforeValidator(_listed)]


class CellModelSpec(CellTextSpec):
    """A cell that a pipette reaches; see `docs/neurons.md`.

    inputs: what its equations name and stimuli bring; 0 where none does. readout: the potential
    that is looked at, where not its first state.
    """

    like: ClassVar[None] = None  # it is like no other cell of its file, as it is alone in it

    name: str = "unnamed"
    description: str = ""
    source: str = ""
    equations: str
    inputs: list[str] = ["current"]
    readout: str | None = None


class StimulusSpec(Spec):
    """What reaches a cell from outside: it is added to one of its inputs.

    kind: `step`; `ramp`, from 0 to the amplitude; `sine`, from 0 up; `pulses`, a train of them;
    `ornstein-uhlenbeck`, of which every copy has its own and the amplitude is the standard
    deviation; `file`, the amplitude times what an .npz says in `values`, of shape (moments) or
    (sweeps, moments), at the moments `t` (s from the start). into: the input. amplitude, start,
    duration, frequency: one for all sweeps or one for each. frequency: of a sine or of pulses.
    width: of each pulse. tau: the correlation time of noise. reversal: the amplitude is that of a
    conductance, which drives a current towards this potential. units: the copies that it reaches,
    all where not given. shared: whether noise is the same for all.
    """

    kind: Literal["step", "ramp", "sine", "pulses", "ornstein-uhlenbeck", "file"] = "step"
    into: str = "current"
    amplitude: Amplitudes
    start: Starts = [0.0]
    duration: Durations | None = None
    frequency: Frequencies | None = None
    width: PositiveTime | None = None
    tau: PositiveTime | None = None
    file: str | None = None
    reversal: Voltage | None = None
    units: Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)] | None = None
    shared: bool = False


class CellRecordSpec(Spec):
    """What is written down of cells, beside all spikes.

    variables: all states and the readout where not given. copies: of every sweep, the first ones.
    every: time between two moments, dt where not given.
    """

    variables: list[str] | None = None
    copies: Count = 1
    every: PositiveTime | None = None


BRIAN_ALONE = (
    "recordings of cells that spike are computed by Brian2 alone, as by engine = 'brian2'; leave "
    "it out"
)
"""What is said of keys that choose between engines."""


class CellProtocolSpec(Spec):
    """What happens to a cell, in several sweeps that differ in its stimuli.

    copies: cells of every sweep, which differ in their noise and in parameters with a spread. dt:
    the step of cells that are reset or noisy, which Brian2 integrates; others move in steps of
    their own and are seen so often.
    sweeps: what they are called, where numbers do not say it.
    """

    refused: ClassVar[dict[str, str]] = dict.fromkeys(("engine", "spiking"), BRIAN_ALONE)

    name: str = "unnamed"
    description: str = ""
    source: str = ""
    duration: PositiveTime
    dt: PositiveTime = 1e-4
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    copies: Count = 1
    sweeps: list[str] | None = None
    model: CellModelSpec
    stimuli: list[StimulusSpec] = []
    record: CellRecordSpec = CellRecordSpec()
    target: Literal["auto", "cython", "numpy"] = "auto"

    @field_validator("name")
    @classmethod
    def _names_a_file(cls, name: str) -> str:
        return names_a_file(name)
