"""Groups of cells and the synapses between them: Brian2.

What is kept once in every cell is an equation of its group, and what a spike does to it alone
happens once; only what is left is done synapse by synapse.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurosim.circuits.lone_cells import LoneCell
from neurosim.circuits.synapses import (
    BROUGHT,
    POTENTIAL,
    SIDES,
    WEIGHT,
    Change,
    Line,
    Side,
    Synapse,
    bare,
    listed,
    side,
)
from neurosim.circuits.wired_cells import WiredCells
from neurosim.levels.cells import Spikes
from neurosim.levels.keeping import Keep
from neurosim.levels.spiking import pauses
from neurosim.levels.spiking.brian import b2
from neurosim.levels.spiking.cells import PREFIX, Guests, made
from neurosim.levels.spiking.cells import whole as in_full
from neurosim.levels.spiking.runtime import use
from neurosim.stimuli import Stimulus

# In plain numpy what comes with a delay is done cell by cell; that is few, and needs no word.
b2.BrianLogger.suppress_hierarchy("brian2.codegen.generators.numpy_generator")

POST_LATER = 100
"""Where spikes of both sides come at once, what postsynaptic ones do comes after so many blocks."""


@dataclass(frozen=True)
class Course:
    """What is computed. sweeps: circuits side by side. times: multiples of dt at which is looked,
    from 0 to the end. seed: of noise and wiring."""

    sweeps: int
    dt: float
    times: np.ndarray
    seed: int
    target: str

    @property
    def steps(self) -> int:
        """Steps in all."""
        return round(self.times[-1] / self.dt)

    @property
    def every(self) -> float:
        """Between two moments, in seconds."""
        return float(self.times[1] - self.times[0]) if len(self.times) > 1 else self.times[-1]


@dataclass(frozen=True)
class Found:
    """recorded: by `owner.quantity`, shape (number, moments). spikes: of every group, at the end of
    the step in which the threshold was passed. before, after: of all cells or synapses."""

    recorded: dict[str, np.ndarray]
    spikes: dict[str, Spikes]
    before: dict[str, np.ndarray]
    after: dict[str, np.ndarray]


def record(
    wired: WiredCells,
    stimuli: Mapping[str, Sequence[Stimulus]],
    trains: Mapping[str, Spikes],
    course: Course,
    seen: Mapping[str, Sequence[int]],
    whole: Sequence[str],
    keep: Keep,
) -> Found:
    """Let cells and synapses move in steps of dt; what was left on the way is NaN from there.

    stimuli: into the cells of each group. trains: of the groups that are made to spike, at
    multiples of dt, sorted by time. seen: by `owner.quantity`, the numbers of the cells or synapses
    that are looked at. whole: quantities, of all, before and after.
    """
    use(course.target)
    kept = np.random.get_state()
    try:
        b2.seed(course.seed)
        network = _Network(wired, stimuli, trains, course)
        monitors = {what: network.monitor(what, list(who)) for what, who in seen.items()}
        counted = {
            name: b2.SpikeMonitor(network.groups[name], name=f"{name}_counted")
            for name in network.spiking
        }
        before = {what: network.values(what) for what in whole}
        brian = b2.Network(*network.all, *monitors.values(), *counted.values())
        ended = pauses.run(brian, course.steps, course.dt, course.every, keep)
        recorded = {}
        for what, monitor in monitors.items():
            if ended:
                monitor.record_single_timestep()  # the end itself
            found = np.asarray(getattr(monitor, network.called(what) + "_"))
            recorded[what] = in_full(found, len(course.times))
        after = {what: network.values(what) for what in whole}
    finally:
        np.random.set_state(kept)
    spikes = {
        name: (np.asarray(each.t_) + course.dt, np.asarray(each.i[:]))
        for name, each in counted.items()
    }
    return Found(recorded, spikes, before, after)


class _Network:
    """The objects of Brian2. all: that run. groups, synapses: by name."""

    def __init__(
        self,
        wired: WiredCells,
        stimuli: Mapping[str, Sequence[Stimulus]],
        trains: Mapping[str, Spikes],
        course: Course,
    ) -> None:
        self._wired, self._course = wired, course
        # In every process the same names, by which states are restored.
        self._clock = b2.Clock(course.dt * b2.second, name="clock")
        self._looking = b2.Clock(course.every * b2.second, name="recorded_clock")
        self._texts = {
            name: _Text(synapse, number, wired)
            for number, (name, synapse) in enumerate(wired.synapses.items())
        }
        self.spiking = [name for name, group in wired.groups.items() if group.spikes]
        self.groups = {
            name: self._group(name, stimuli.get(name, ()), trains.get(name))
            for name in wired.groups
        }
        self.all: list[Any] = list(self.groups.values())
        self.synapses: dict[str, b2.Synapses] = {}
        for name, text in self._texts.items():
            self.all += self._alone(text)
            if text.needed:
                self.synapses[name] = self._between(text)
                self.all.append(self.synapses[name])

    def called(self, what: str) -> str:
        """What Brian2 calls `owner.quantity`."""
        owner, name = what.split(".")
        return self._texts[owner].called(name) if owner in self._texts else PREFIX + name

    def _holder(self, what: str) -> Any:
        owner, name = what.split(".")
        text = self._texts.get(owner)
        if text is None:
            return self.groups[owner]
        at = side(name)
        return self.synapses[owner] if at is None else self.groups[text.synapse.group(at)]

    def monitor(self, what: str, who: list[int]) -> b2.StateMonitor:
        """Of a quantity, of these cells or synapses."""
        name = what.replace(".", "_")
        holder, called = self._holder(what), self.called(what)
        return b2.StateMonitor(holder, called, who, clock=self._looking, name=f"{name}_recorded")

    def values(self, what: str) -> np.ndarray:
        """Of a quantity, now, of all cells or synapses."""
        return np.array(getattr(self._holder(what), self.called(what) + "_")[:])

    def _group(
        self, name: str, stimuli: Sequence[Stimulus], train: Spikes | None
    ) -> b2.NeuronGroup:
        group, course = self._wired.groups[name], self._course
        cells = group.count * course.sweeps
        lines: list[str] = []
        brought: dict[str, list[str]] = {}
        numbers: dict[str, Any] = {}
        start: dict[str, Any] = {}
        for synapse, at in listed(self._wired.synapses, name):
            text = self._texts[synapse.name]
            lines += text.hosted(at)
            start |= text.start(at)
        for text in self._texts.values():
            if name in (text.synapse.pre, text.synapse.post):
                numbers |= text.numbers
            if text.synapse.post == name and text.synapse.brought is not None:
                lines.append(text.current)
                brought.setdefault(text.synapse.into, []).append(text.called(BROUGHT))
        firing: dict[str, str] | None = None
        if train is not None:
            due = _due(train, cells, course.dt)
            numbers |= {"due": b2.TimedArray(due, course.dt * b2.second, name=f"{name}_due")}
            lines.append("fired : integer")
            firing = {"threshold": "t/second >= due(fired*dt, i)", "reset": "fired += 1"}
        if group.cell is not None:
            guests = Guests(lines, brought, numbers, start, firing)
            more = course.dt, course.steps, name, guests, self._clock
            return made(group.cell, stimuli, cells, *more)
        found = b2.NeuronGroup(
            cells,
            "\n".join(lines),
            method="rk4",
            clock=self._clock,
            name=name,
            namespace=numbers,
            **(firing or {}),
        )
        for what, value in start.items():
            setattr(found, what, value)
        return found

    def _alone(self, text: "_Text") -> Iterator[Any]:
        """What spikes do to their own cells, once each, at once or later."""
        for at in SIDES:
            for number, (once, changes) in enumerate(text.synapse.blocks(at)):
                if not once:
                    continue
                group = self.groups[text.synapse.group(at)]
                order = number + (POST_LATER if at == "post" else 0)
                delay = text.synapse.delay if at == "pre" else 0.0
                if delay == 0:
                    code = text.statements(changes, {at: ""})
                    yield _AtSpikes(group, code, order, f"{text.synapse.name}_{at}_alone_{number}")
                    continue
                found = b2.Synapses(
                    group,
                    on_pre=text.statements(changes, {at: "_post"}),
                    delay=delay * b2.second,
                    clock=self._clock,
                    name=f"{text.synapse.name}_{at}_alone_{number}",
                    namespace=text.numbers,
                )
                found.pre.order = order
                found.connect(j="i")
                yield found

    def _between(self, text: "_Text") -> b2.Synapses:
        """What is kept and happens synapse by synapse."""
        synapse, course = text.synapse, self._course
        told: dict[Side, dict[str, str]] = {"pre": {}, "post": {}}
        order: dict[str, int] = {}
        for at in SIDES:
            for number, (once, changes) in enumerate(synapse.blocks(at)):
                if not once:
                    label = f"{at}_{number}"
                    told[at][label] = text.statements(changes, text.ENDS)
                    order[label] = number + (POST_LATER if at == "post" else 0)
        found = b2.Synapses(
            self.groups[synapse.pre],
            self.groups[synapse.post],
            "\n".join(text.lines),
            on_pre=told["pre"] or None,
            on_post=told["post"] or None,
            delay={label: synapse.delay * b2.second for label in told["pre"]},
            method="rk4",
            clock=self._clock,
            name=f"{synapse.name}_between",
            namespace=text.numbers,
        )
        pre, post = self._wired.pairs(synapse.name, course.seed)
        counts = [self._wired.groups[synapse.group(at)].count for at in SIDES]
        every = np.arange(course.sweeps)[:, None]
        found.connect(i=(every * counts[0] + pre).ravel(), j=(every * counts[1] + post).ravel())
        for label, place in order.items():
            getattr(found, label).order = place
        for what, value in text.start(None).items():
            setattr(found, what, value)
        return found


class _AtSpikes(b2.CodeRunner):
    """What spikes of a group do to its own cells, among what synapses do.

    As a reset is run, which only comes later and of which a group has but one.
    """

    def __init__(self, group: b2.NeuronGroup, code: str, order: int, name: str) -> None:
        space = "_spikespace"
        super().__init__(
            group,
            "reset",
            code=code,
            clock=group.clock,
            when="synapses",
            order=order,
            name=name,
            override_conditional_write=["not_refractory"],  # as every cell that spikes is, now
            needed_variables=[space],
            template_kwds={"eventspace_variable": group.variables[space]},
        )


def _due(train: Spikes, cells: int, dt: float) -> np.ndarray:
    """The step's beginning at which spike k of every cell is due; a row of infinity ends them.

    A spike falls on the end of its step; half a step is the room for rounding.
    """
    at, who = train
    order = np.argsort(who, kind="stable")
    counts = np.bincount(who, minlength=cells)
    found = np.full((counts.max(initial=0) + 1, cells), np.inf)
    number = np.arange(len(who)) - np.repeat(np.cumsum(counts) - counts, counts)
    found[number, who[order]] = at[order] - 1.5 * dt
    return found


class _Text:
    """Synapses of one kind, as Brian2 is told: names that no other kind has, numbers by name."""

    ENDS: Mapping[Side, str] = {"pre": "_pre", "post": "_post"}

    def __init__(self, synapse: Synapse, number: int, wired: WiredCells) -> None:
        self.synapse, self._mark = synapse, f"s{number}"
        self._cells: dict[Side, LoneCell | None] = {
            at: wired.groups[synapse.group(at)].cell for at in SIDES
        }
        self.numbers = {f"{self._mark}_{name}": v for name, v in synapse.parameters.items()}
        for at, cell in self._cells.items():
            given = {} if cell is None else cell.parameters
            hidden = {bare(line.name) for line in synapse.own(at)}
            hidden |= set() if cell is None else set(cell.spreads)
            self.numbers |= {
                f"{self._mark}{at}_{name}": v for name, v in given.items() if name not in hidden
            }
        if not synapse.plastic:
            self.numbers[f"{self._mark}_{WEIGHT}"] = synapse.weight

    def called(self, name: str) -> str:
        """A quantity of the synapse, where it is kept."""
        return f"{self._mark}{side(name) or ''}_{bare(name)}"

    def _names(self, ends: Mapping[Side, str]) -> dict[str, str]:
        """All names that a text may have, of which `ends` follow those of the cells' variables."""
        synapse = self.synapse
        found = {name: f"{self._mark}_{name}" for name in (*synapse.parameters, WEIGHT)}
        for at, cell in self._cells.items():
            if cell is None or at not in ends:
                continue
            for name in (*cell.cell.defined, *cell.inputs):
                found[f"{name}_{at}"] = PREFIX + name + ends[at]
            for name in cell.parameters:
                own = PREFIX + name + ends[at]  # what every cell has its own of
                alike = f"{self._mark}{at}_{name}"
                found[f"{name}_{at}"] = own if name in cell.spreads else alike
        if "post" in ends and synapse.potential is not None:
            found[POTENTIAL] = PREFIX + synapse.potential + ends["post"]
        for line in synapse.lines:
            end = side(line.name)
            if end is None or end in ends:
                found[line.name] = self.called(line.name) + ("" if end is None else ends[end])
        return found

    def _line(self, line: Line, ends: Mapping[Side, str]) -> str:
        name = self.called(line.name)
        if line.right is None:
            return f"{name} : 1"
        right = line.right.written(self._names(ends), {})
        if not line.moves:
            return f"{name} = {right} : 1"
        flag = "event-driven" if line.at_events else "clock-driven"
        return f"d{name}/dt = ({right})/second : 1" + ("" if side(line.name) else f" ({flag})")

    def hosted(self, at: Side) -> list[str]:
        """The lines that the cells of a side hold."""
        return [self._line(line, {at: ""}) for line in self.synapse.own(at)]

    @property
    def current(self) -> str:
        """The line of the postsynaptic cells that says what is brought."""
        line = self.synapse.brought
        assert line is not None
        return (
            f"{self.called(BROUGHT)} : 1" if self.synapse.summed else self._line(line, {"post": ""})
        )

    @property
    def lines(self) -> list[str]:
        """Those of synapses themselves."""
        synapse = self.synapse
        found = [self._line(line, self.ENDS) for line in synapse.own(None)]
        if synapse.plastic and WEIGHT not in synapse.by_name:
            found.append(f"{self.called(WEIGHT)} : 1")
        if synapse.brought is not None and synapse.brought.right is not None and synapse.summed:
            right = synapse.brought.right.written(self._names(self.ENDS), {})
            found.append(f"{self.called(BROUGHT)}_post = {right} : 1 (summed)")
        return found

    @property
    def needed(self) -> bool:
        """Whether anything is kept or happens synapse by synapse."""
        alone = (once for at in SIDES for once, _ in self.synapse.blocks(at))
        return bool(self.lines) or not all(alone)

    def start(self, at: Side | None) -> dict[str, float]:
        """What states begin with, of a side or of synapses themselves."""
        found = {n: value for n, value in self.synapse.start.items() if side(n) == at}
        if at is None and self.synapse.plastic:
            found[WEIGHT] = self.synapse.weight
        return {self.called(name): value for name, value in found.items()}

    def statements(self, changes: Sequence[Change], ends: Mapping[Side, str]) -> str:
        """What spikes change, one a line."""
        names = self._names(ends)
        return "\n".join(
            f"{names[change.name]} {change.how}= {change.right.written(names, {})}"
            for change in changes
        )
