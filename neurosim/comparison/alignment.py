"""What two traces have in common: settings, weights, presentations, samples, layers and units."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from neurosim.comparison.expectations import Expectation, Place
from neurosim.comparison.sides import Side
from neurosim.traces.scenes import TEACHERS, Lesson, Phase, lesson

SILENT = ("name", "description", "source", "record", "seed")
"""Keys of a protocol that change no number, or are compared by themselves."""

LEVELS = ("rate", "equilibrium", "spiking")


Course = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""a, b and the deviation expected, (samples, moments, units) each, and the moments (ms)."""


class Pair(NamedTuple):
    """A variable of one layer in one phase of one presentation, in both traces.

    counted: whether spikes let know it between two moments alone.
    a_end, b_end: (samples, units) at the end of the phase, as plasticity had them. a, b: (samples,
    moments, units) at `time` (ms; NaN without time), the moments both have. expected_end, expected:
    the deviations that spikes and noise let expect between the two, of the same shapes; NaN where
    no law is known.
    """

    presentation: int
    phase: str
    layer: int
    variable: str
    counted: bool
    a_end: np.ndarray
    b_end: np.ndarray
    expected_end: np.ndarray
    a: np.ndarray
    b: np.ndarray
    expected: np.ndarray
    time: np.ndarray


class Taught(NamedTuple):
    """The teaching signal of one layer in one presentation, in both: (samples, units)."""

    presentation: int
    between: str
    layer: int
    variable: str
    a: np.ndarray
    b: np.ndarray
    expected: np.ndarray


class Common(NamedTuple):
    """Which samples of a presentation, and units of every layer, are the same in both: places."""

    samples: tuple[np.ndarray, np.ndarray]
    units: dict[int, tuple[np.ndarray, np.ndarray]]

    def of(self, side: int, layer: int, values: np.ndarray) -> np.ndarray:
        """(samples, …, units) of one side: those it has in common."""
        return values[self.samples[side]][..., self.units[layer][side]]


class Alignment:
    """Two sides, what differs between them, and all that can be held against each other."""

    def __init__(self, left: Side, right: Side) -> None:
        self.sides = left, right
        self.expectations = Expectation(left), Expectation(right)
        self.differing = list(_differing(left, right))
        self.same_network = _same_weights(left, right)
        both = set(left.trace.recorded()) & set(right.trace.recorded())
        self.presentations = sorted(both)
        self.shown = {n: (left.presentation(n), right.presentation(n)) for n in self.presentations}
        self.common = {n: self._common(n) for n in self.presentations}

    def _common(self, number: int) -> Common | None:
        """None where the networks or all samples are others."""
        inputs = [side.shown(number) for side in self.sides]
        if not self.same_network or inputs[0] is None or inputs[1] is None:
            return None
        a, b = inputs[0][0], inputs[1][0]
        if a.shape[1] != b.shape[1]:
            return None
        gaps = np.abs(a[:, None] - b[None]).max(axis=2)
        rows, columns = np.nonzero(gaps <= 1e-5 * np.abs(a).max(initial=1e-30))
        if not rows.size:
            return None
        _, first = np.unique(rows, return_index=True)
        one, other = self.shown[number]
        units = {}
        for layer in one.units.keys() & other.units.keys():
            _, of_a, of_b = np.intersect1d(
                one.units[layer], other.units[layer], return_indices=True
            )
            units[layer] = of_a, of_b
        return Common((rows[first], columns[first]), units)

    @property
    def samples(self) -> int:
        """How many samples both saw."""
        return sum(len(c.samples[0]) for c in self.common.values() if c is not None)

    def quiet(self) -> bool:
        """Whether neither side has spikes or noise."""
        return all(expectation.quiet for expectation in self.expectations)

    @property
    def spikes(self) -> bool:
        """Whether a side has spikes."""
        return any(side.spikes for side in self.sides)

    # --- pairs --------------------------------------------------------------------------------

    def matches(self, number: int) -> Iterator[tuple[int, int, int, str, str]]:
        """(layer, phase of a, phase of b, variable of a, variable of b) that mean the same."""
        one, other = self.shown[number]
        phases = list(_phases(one.phases, other.phases))
        for layer in sorted(one.units.keys() & other.units.keys()):
            sent = [side.trace.sent(layer) for side in self.sides]
            names = list(_variables((one.ends[layer], other.ends[layer]), sent))
            if self.spikes:  # what the target is, or the counted rate
                names = [pair for pair in names if not self.sides[0].aimed(layer, pair[0])]
            for k, m in phases:
                for name, twin in names:
                    yield layer, k, m, name, twin

    def pairs(self) -> Iterator[Pair]:
        """Everything that can be compared unit by unit."""
        for number, common in self.common.items():
            if common is None:
                continue
            for layer, k, m, name, twin in self.matches(number):
                pair = self._pair(number, common, layer, (k, m), (name, twin))
                if pair is not None:
                    yield pair

    def _pair(
        self,
        number: int,
        common: Common,
        layer: int,
        phases: tuple[int, int],
        names: tuple[str, str],
    ) -> Pair | None:
        shown = self.shown[number]
        ends = [common.of(s, layer, shown[s].ends[layer][names[s]][:, phases[s]]) for s in (0, 1)]
        if not all(np.isfinite(v).any() for v in ends):
            return None
        expected = self._deviation(number, common, layer, phases, names)
        course = self._course(number, common, layer, phases, names)
        if course is None:
            both = zip(shown, phases, strict=True)
            end = np.array([next((s.phases[k].end for s, k in both if s.timed), np.nan)])
            course = ends[0][:, None], ends[1][:, None], expected[:, None], end
        phase, variable = shown[0].phases[phases[0]].name, joint(*names)
        a, b = ends
        counted = self._counted(layer, names)
        return Pair(number, phase, layer, variable, counted, a, b, expected, *course)

    def _counted(self, layer: int, names: tuple[str, str]) -> bool:
        """Whether a variable of both is such as spikes are counted for."""
        return all(side.counted(layer, name) for side, name in zip(self.sides, names, strict=True))

    def _deviation(
        self,
        number: int,
        common: Common,
        layer: int,
        phases: tuple[int, int],
        names: tuple[str, str],
    ) -> np.ndarray:
        """Of the difference at the end of a phase: (samples, units)."""
        shown, variance = self.shown[number], np.zeros(())
        for s in (0, 1):
            # A rate that is read from few spikes says little of how it scatters; the other's may.
            calm = 0 if self.expectations[0].quiet else 1 if self.expectations[1].quiet else s
            level = shown[calm].ends[layer][names[calm]][:, phases[calm]]
            level = common.of(calm, layer, level)
            variance = variance + self._own(s, number, common, layer, phases, names, level) ** 2
        return np.sqrt(variance)

    def _own(
        self,
        s: int,
        number: int,
        common: Common,
        layer: int,
        phases: tuple[int, int],
        names: tuple[str, str],
        level: np.ndarray,
        window: float | None = None,
    ) -> np.ndarray:
        """What one side scatters near `level` (samples, …, units in common)."""
        shown, side = self.shown[number][s], self.sides[s]
        full = np.zeros((*level.shape[:-1], len(shown.units[layer])))
        places = common.units[layer][s]
        full[..., places] = level
        window = side.window if window is None else window
        place = Place(shown, layer, phases[s], common.samples[s])
        return self.expectations[s].deviation(place, names[s], full, window)[..., places]

    def _course(
        self,
        number: int,
        common: Common,
        layer: int,
        phases: tuple[int, int],
        names: tuple[str, str],
    ) -> Course | None:
        """(a, b, expected, time) at the moments both have; None where one knows no time."""
        shown = self.shown[number]
        if not all(s.timed for s in shown):
            return None
        grids = [shown[s].grid(layer, names[s], phases[s]) for s in (0, 1)]
        rounded = [np.round(1e3 * grid.time).astype(np.int64) for grid in grids]
        times = np.intersect1d(rounded[0], rounded[1]) / 1e3
        times = np.append(0.0, times[times > 0])
        if len(times) < 2:
            return None
        if not (self.spikes and self._counted(layer, names)):
            values = [common.of(s, layer, grids[s].at(times[1:])) for s in (0, 1)]
            slack, windows = np.zeros_like(values[0]), np.zeros(len(times) - 1)
        else:
            means = [shown[s].means(layer, names[s], phases[s], times) for s in (0, 1)]
            values = [common.of(s, layer, means[s].values) for s in (0, 1)]
            slack = np.hypot(*(common.of(s, layer, means[s].slack) for s in (0, 1)))
            windows = np.diff(times) / 1e3
        variance = slack**2
        for s in (0, 1):
            other = values[1 - s] if self.expectations[1 - s].quiet else values[s]
            for width in np.unique(np.round(windows, 6)):
                here = np.round(windows, 6) == width
                given = number, common, layer, phases, names, other[:, here], float(width)
                variance[:, here] += self._own(s, *given) ** 2
        begin = shown[0].phases[phases[0]].begin
        return values[0], values[1], np.sqrt(variance), begin + times[1:]

    # --- teaching signals ---------------------------------------------------------------------

    def lessons(self, number: int) -> Iterator[tuple[int, Lesson, Lesson]]:
        """The teaching signals of a presentation in both, layer by layer, whatever is aligned."""
        one, other = self.shown[number]
        for layer in sorted(one.units.keys() & other.units.keys()):
            found = [
                lesson(shown.ends[layer], np.arange(len(shown.phases)), shown.phases)
                for shown in (one, other)
            ]
            if found[0] is not None and found[1] is not None:
                yield layer, found[0], found[1]

    def taught(self) -> Iterator[Taught]:
        """Teaching signals, unit by unit."""
        for number, common in self.common.items():
            for layer, a, b in self.lessons(number) if common is not None else ():
                assert common is not None
                one, other = (common.of(s, layer, x.difference[:, 0]) for s, x in enumerate((a, b)))
                scattered = [
                    self._scatter_of(s, number, common, layer, x) for s, x in enumerate((a, b))
                ]
                between, variable = joint(a.between, b.between), joint(a.variable, b.variable)
                expected = np.sqrt(scattered[0] + scattered[1])
                yield Taught(number, between, layer, variable, one, other, expected)

    def _scatter_of(self, s: int, number: int, common: Common, layer: int, x: Lesson) -> np.ndarray:
        """The variance of a lesson: of both that it is the difference of."""
        shown, k = self.shown[number][s], x.phase
        two_phases = k > 0 and shown.phases[k].taught and not shown.phases[k - 1].taught
        other = (k - 1, x.variable) if two_phases else (k, TEACHERS[x.variable])
        variance = np.zeros(())
        for phase, name in ((k, x.variable), other):
            level = common.of(s, layer, shown.ends[layer][name][:, phase])
            given = number, common, layer, (phase, phase), (name, name), level
            variance = variance + self._own(s, *given) ** 2
        return variance


def joint(a: str, b: str) -> str:
    """What both are called."""
    return a if a == b else f"{a} / {b}"


def _phases(a: list[Phase], b: list[Phase]) -> Iterator[tuple[int, int]]:
    """Places of equal phases; else of the last ones that are taught, and that are not."""
    names = [phase[:2] for phase in b]
    found = [(k, names.index(phase[:2])) for k, phase in enumerate(a) if phase[:2] in names]
    if found:
        yield from found
        return
    for taught in (False, True):
        last = [[k for k, p in enumerate(phases) if p.taught == taught] for phases in (a, b)]
        if all(last):
            yield last[0][-1], last[1][-1]


def _variables(
    ends: tuple[dict[str, Any], dict[str, Any]], sent: list[dict[str, str]]
) -> Iterator[tuple[str, str]]:
    """Variables of one name; what neurons send upwards where the other has none of that name."""
    activity = [next((n for n, way in of.items() if way != "down"), None) for of in sent]
    for name in ends[0]:
        if name in ends[1]:
            yield name, name
        elif name == activity[0] and activity[1] is not None:
            yield name, activity[1]


def _same_weights(left: Side, right: Side) -> bool:
    """Whether both began as the same network, so that units are the same units."""
    if left.circuit.sizes != right.circuit.sizes:
        return False
    a, b = (side.weights("W", ("weights", 0)) for side in (left, right))
    return len(a) == len(b) and all(
        v.shape == w.shape and np.allclose(v, w, rtol=1e-5, atol=1e-6)
        for v, w in zip(a, b, strict=True)
    )


# ----------------------------------------------------------------------------- what differs


def _differing(left: Side, right: Side) -> Iterator[dict[str, Any]]:
    """Keys of the protocols, seeds among them, that are not the same."""
    used = {left.level, right.level}
    kept = [
        {k: v for k, v in side.protocol.items() if k not in SILENT and k not in set(LEVELS) - used}
        for side in (left, right)
    ]
    yield from differing(
        *(
            {"protocol": side.about["protocol"], "seeds": side.trace.seeds} | part
            for side, part in zip((left, right), kept, strict=True)
        )
    )


def differing(*tables: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Keys of two nested tables that are not the same, with both values."""
    flat = [_flat(table) for table in tables]
    for key in [*flat[0], *(k for k in flat[1] if k not in flat[0])]:
        a, b = (side.get(key) for side in flat)
        if a != b and key not in ("model.source", "model.name", "model.description"):
            yield {"key": key, "a": a, "b": b}


def _flat(value: Any, key: str = "") -> dict[str, Any]:
    """Nested tables as one, by dotted key."""
    if isinstance(value, dict):
        items: Any = value.items()
    elif isinstance(value, list) and any(isinstance(v, dict) for v in value):
        items = enumerate(value)
    else:
        return {key: value}
    flat: dict[str, Any] = {}
    for name, entry in items:
        flat |= _flat(entry, f"{key}.{name}".strip("."))
    return flat
