"""A protocol: what happens to a model."""

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    PlainSerializer,
    WrapValidator,
    field_validator,
)

from neurosim.errors import arrived
from neurosim.specs.circuits import ParameterField, SpreadSpec
from neurosim.specs.common import Spec, _written, describe
from neurosim.specs.models import ModelSpec
from neurosim.units import PositiveTime


class LongerSpec(Spec):
    """A time that is drawn for every presentation, from an inverse Gaussian distribution.

    Its variance is mean³/shape; shape is the mean where not given.
    """

    mean: PositiveTime
    shape: PositiveTime | None = None


def _longer(value: Any, handler: Callable) -> Any:
    return handler({"mean": value} if isinstance(value, str | int | float) else value)


LongerField = Annotated[LongerSpec, WrapValidator(_longer)]


class PhaseSpec(Spec):
    """How long a phase lasts, what it teaches, which plasticity is open in it.

    duration: needed where there is time; with until = "settled" the longest it may take. longer: by
    how much more, another time in every presentation.
    teaching: `none` (short-circuit), `following` the output, `frozen` from the free phase,
    `clamped` to the label, or `held` at the answer of the free phase, which teaches nothing.
    plastic: `forward`, `feedback`, or the projections of a circuit that learn. parameters: those of
    a circuit that have other values in this phase; of a table every cell draws one for each sample.
    """

    name: str
    duration: PositiveTime | None = None
    longer: LongerField | None = None
    until: Literal["settled", "duration"] = "settled"
    teaching: Literal["none", "following", "frozen", "clamped", "held"] = "none"
    plastic: list[str] = []
    parameters: dict[str, ParameterField] = {}

    @property
    def values(self) -> dict[str, float]:
        """The values of the parameters that it changes, of those that cells draw the means."""
        return {
            name: (given.mean or 0.0) if isinstance(given, SpreadSpec) else given
            for name, given in self.parameters.items()
        }

    @property
    def drawn(self) -> dict[str, SpreadSpec]:
        """Parameters of which every cell draws a value for each sample."""
        return {n: given for n, given in self.parameters.items() if isinstance(given, SpreadSpec)}


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
    samples: how many samples of the batch, the first ones, or which ones (from 0); where not given
    the first four, or all of a smaller batch. units: how many
    of every layer, or which; of a smaller layer those that it has. every: time between two recorded
    states. variables, layers: which; all of the model where not given. weights: also those that
    each of the presentations begins with. decomposition: whether every presentation's teaching
    signals are taken apart into the metrics of `theory/diagnosis.py`.
    """

    presentations: Annotated[int, Field(ge=0)] | list[Annotated[int, Field(ge=0)]] = 5
    samples: Count | Places | None = None
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

    scheme: Literal["euler", "heun", "dopri5", "tsit5", "kvaerno5"] = "heun"
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

    engine: what computes it, `brian2`, the reference, or `jax`, which also does on a GPU. window:
    at the end of every phase, over which rates are counted. plasticity_every: step of online
    plasticity. pace: a factor on all learning rates. presentations: at most so many a stage, in
    place of its own number. test: at most so many test samples. target: what Brian2 compiles to
    (`auto`: Cython where it can; `standalone`: a program of its own).
    """

    engine: Literal["brian2", "jax"] = "brian2"
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


def names_a_file(name: str) -> str:
    """The name of a protocol, after which its traces are called.

    Raises:
        ValueError: no file can be called so everywhere.
    """
    if not re.fullmatch(r"[^\W_][\w .,+=@()-]{0,99}", name):
        raise ValueError(
            f"{arrived(name)} cannot name a trace; expected at most 100 letters, digits, "
            "spaces and .,+=@()-_, first a letter or digit"
        )
    return name


class SweepSpec(Spec):
    """What `sweep` goes over where it is told nothing else: values by key, and seeds.

    over: of every key, dotted or in tables, a list of values. seeds: of every point.
    """

    over: dict[str, Any] = {}
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] | None = None


class ProtocolSpec(Spec):
    """What happens to a model: a task, stages of phases, and what is recorded.

    shuffle: whether every epoch has an order of its own; else samples come as the task has them.
    test_draws: over how many draws the answers of stochastic units are averaged in tests.
    sweep: belongs to no run, and stands in none.
    """

    name: str = "unnamed"
    description: str = ""
    level: Literal["equilibrium", "rate", "spiking"] = "rate"
    seed: Annotated[int, Field(ge=0, lt=2**31)] = 0
    precision: Literal["float32", "float64"] = "float32"
    plasticity: Literal["quasi-static", "online"] = "quasi-static"
    batch: Annotated[int, Field(ge=1)]
    shuffle: bool = True
    test_draws: Count = 1
    model: ModelSpec
    task: Annotated[dict[str, Any], WrapValidator(_task), PlainSerializer(describe)]
    stages: Annotated[list[StageSpec], Field(min_length=1)]
    schedule: ScheduleSpec = ScheduleSpec()
    record: RecordSpec = RecordSpec()
    rate: RateSpec | None = None
    equilibrium: EquilibriumSpec = EquilibriumSpec()
    spiking: SpikingSpec = SpikingSpec()
    sweep: SweepSpec | None = Field(default=None, exclude=True)

    @property
    def timed(self) -> bool:
        """Whether phases last a time: where neurons move, or weights flow."""
        return self.level != "equilibrium" or self.plasticity == "online"

    @property
    def tolerance(self) -> float:
        """The residual at which a phase has settled, a fraction of the expected signal."""
        moving = self.rate if self.level == "rate" else None
        return (moving or self.equilibrium).tolerance

    @field_validator("name")
    @classmethod
    def _names_a_file(cls, name: str) -> str:
        return names_a_file(name)
