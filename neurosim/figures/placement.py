"""Where the boxes and lines of a picture of a circuit are.

Everything is placed in points, so that text is as wide as it measures and nothing overlaps: in a
column of boxes every projection has a vertical of its own, between two rows every projection has
a horizontal of its own, and what passes by a layer has a vertical beside the boxes.
"""

from collections.abc import Iterator, Sequence
from functools import cache, cached_property
from itertools import accumulate
from typing import NamedTuple

from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath

from neurosim.circuits.description import Circuit
from neurosim.circuits.populations import Group, Projection, Synapses
from neurosim.circuits.wires import INPUT
from neurosim.wording import plural

HEAD, LABEL, TITLE = 9, 7.5, 10.5
LINE, LANE, TRACK, CLEAR, GAP, EDGE = 11.5, 14.0, 9.0, 15.0, 54.0, 12.0
"""Of text and routes, in points: a line of text, between two verticals, between two horizontals,
between a box and the first of them, between two columns, around everything."""


Point = tuple[float, float]


@cache
def wide(text: str, size: float, bold: bool = False) -> float:
    """How wide a text is, in points."""
    if not text:
        return 0.0
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return float(TextPath((0, 0), text.replace("$", "S"), prop=font).get_extents().x1)


class Route(NamedTuple):
    """How synapses are drawn. way: `side`, from box to box or back to the same; `over` the boxes of
    a layer; `up` or `down` to the next layer; `past` others, beside the boxes."""

    projection: Projection
    synapses: Synapses
    way: str

    @property
    def pre(self) -> Group:
        return self.synapses.pre or Group(INPUT, 0)

    @property
    def post(self) -> Group:
        return self.synapses.post

    @property
    def name(self) -> str:
        return self.projection.name

    @property
    def descends(self) -> bool:
        return self.pre.layer > self.post.layer

    @property
    def ends(self) -> tuple[tuple[Group, str, str], tuple[Group, str, str]]:
        """Where it leaves and arrives: a box, its edge, and what is written there."""
        sent = "" if self.synapses.pre is None else self.synapses.sent
        leaves = "bottom" if self.descends else "top"
        arrives = "top" if self.descends or self.way == "over" else "bottom"
        return (self.pre, leaves, sent), (self.post, arrives, self.synapses.received)


class Plan:
    """Where everything is. All lengths in points, from the lower left corner."""

    def __init__(self, circuit: Circuit) -> None:
        self.circuit = circuit
        self.routes = tuple(self._routes())

    # --- what stands where --------------------------------------------------------------------

    @cached_property
    def groups(self) -> tuple[Group, ...]:
        return (Group(INPUT, 0), *self.circuit.groups)

    @cached_property
    def columns(self) -> dict[str, int]:
        """Of every population: the first that no other of its layers has."""
        found = {INPUT: 0}
        for population in self.circuit.populations:
            taken = {
                found[other.name]
                for other in self.circuit.populations
                if other.name in found and set(other.layers) & set(population.layers)
            }
            found[population.name] = min(set(range(len(taken) + 1)) - taken)
        return found

    def _routes(self) -> Iterator[Route]:
        for projection in self.circuit.projections:
            spans = [abs(s.post.layer - (s.pre.layer if s.pre else 0)) for s in projection.synapses]
            for synapses, span in zip(projection.synapses, spans, strict=True):
                yield Route(projection, synapses, self._way(synapses, span, max(spans) > 1))

    def _way(self, synapses: Synapses, span: int, far: bool) -> str:
        pre = synapses.pre
        if span == 0:
            assert pre is not None, "no synapses reach the input"
            apart = abs(self.columns[pre.population] - self.columns[synapses.post.population])
            return "side" if apart < 2 else "over"
        if far:
            return "past"
        return "up" if pre is None or pre.layer < synapses.post.layer else "down"

    # --- columns ------------------------------------------------------------------------------

    @cached_property
    def labels(self) -> dict[tuple[Group, str, str], str]:
        """By box, edge and projection: what is written where it leaves or arrives."""
        return {
            (group, edge, route.name): text
            for route in self.routes
            if route.way != "side"
            for group, edge, text in route.ends
        }

    @cached_property
    def beside(self) -> dict[Group, tuple[list[str], list[str]]]:
        """What is written at the left and the right edge of a box, from above."""
        found: dict[Group, tuple[list[str], list[str]]] = {g: ([], []) for g in self.groups}
        for route in self.routes:
            if route.way == "side":
                for group, text, right in self.sides(route):
                    found[group][right].append(text)
        return found

    def sides(self, route: Route) -> list[tuple[Group, str, bool]]:
        """Both ends of a route to the side: the box, the text, and whether at its right edge."""
        right = self.columns[route.pre.population] < self.columns[route.post.population]
        loop = route.pre == route.post
        ends = route.synapses.sent, route.synapses.received
        return [(route.pre, ends[0], right), (route.post, ends[1], not right and not loop)]

    def lanes(self, column: int) -> list[str]:
        """The projections with a vertical at a column: those up, those down, those past others."""
        order = {"up": 0, "over": 1, "down": 2, "past": 3}
        found: dict[str, int] = {}
        for route in self.routes:
            for group, _, _ in route.ends if route.way != "side" else ():
                if self.columns[group.population] == column:
                    rank = 0 if route.way == "past" and not route.descends else order[route.way]
                    found.setdefault(route.name, rank)
        return sorted(found, key=lambda name: found[name])

    def _lane_width(self, column: int, name: str) -> float:
        texts = [
            text
            for (group, _, other), text in self.labels.items()
            if other == name and self.columns[group.population] == column
        ]
        return max(wide(text, LABEL) for text in texts) + LANE

    @cached_property
    def widths(self) -> list[float]:
        """Of the boxes of every column."""
        found = []
        for column in range(max(self.columns.values()) + 1):
            inside = sum(self._lane_width(column, name) for name in self.lanes(column))
            for group in self.groups:
                if self.columns[group.population] == column:
                    left, right = (
                        max((wide(text, LABEL) for text in texts), default=0)
                        for texts in self.beside[group]
                    )
                    head = max(wide(text, *look) for text, *look in self.heading(group))
                    inside = max(inside, 2 * max(left, right) + head + 3 * LANE)
            found.append(inside)
        return found

    def heading(self, group: Group) -> list[tuple[str, float, bool]]:
        """The lines in the middle of a box, with their size and weight."""
        name = "input" if group.layer == 0 else group.population
        size = self.circuit.size(None if group.layer == 0 else group)
        lines = [(name, HEAD, True), (plural(size, "unit"), LABEL, False)]
        if group.layer and self.circuit.cell(group).states:
            lines.append((", ".join(self.circuit.cell(group).states), LABEL, False))
        return lines

    @cached_property
    def left(self) -> float:
        """Where the first column begins, right of the names of the layers."""
        names = max(wide(text, LABEL) for layer in self.rows for text in self.named(layer))
        loops = any(r.way == "side" and r.pre == r.post for r in self.routes)
        return EDGE + names + (2.2 if loops else 1.2) * LANE

    def named(self, layer: int) -> list[str]:
        """What stands before a row."""
        kind = {0: "input", self.circuit.depth: "output"}.get(layer, "hidden")
        return [f"layer {layer}", kind]

    def x(self, column: int) -> float:
        """The left edge of a column."""
        return self.left + sum(width + GAP for width in self.widths[:column])

    def lane(self, column: int, name: str) -> float:
        """Where the vertical of a projection is at a column."""
        return self._lanes[column][name]

    @cached_property
    def _lanes(self) -> list[dict[str, float]]:
        """Column by column, the verticals of projections."""
        found = []
        for column, whole in enumerate(self.widths):
            widths = {name: self._lane_width(column, name) for name in self.lanes(column)}
            spare = (whole - sum(widths.values())) / max(len(widths), 1)
            at, lanes = self.x(column), {}
            for name, width in widths.items():
                lanes[name] = at + (width + spare) / 2
                at += width + spare
            found.append(lanes)
        return found

    @cached_property
    def past(self) -> dict[str, float]:
        """Where the verticals beside the boxes are."""
        names = dict.fromkeys(route.name for route in self.routes if route.way == "past")
        right = self.x(len(self.widths) - 1) + self.widths[-1]
        return {name: right + (k + 1.2) * LANE for k, name in enumerate(names)}

    @property
    def right(self) -> float:
        """Where the boxes and all that is beside them end."""
        last = self.x(len(self.widths) - 1) + self.widths[-1]
        return max([last, *self.past.values()]) + LANE

    # --- rows ---------------------------------------------------------------------------------

    @property
    def rows(self) -> range:
        return range(self.circuit.depth + 1)

    @cached_property
    def tracks(self) -> list[list[str]]:
        """Layer by layer, the projections with a horizontal above it, from above."""
        found: list[dict[str, None]] = [{} for _ in self.rows]
        for route in self.routes:
            for layer in self._crossed(route):
                found[layer][route.name] = None
        return list(map(list, found))

    def _crossed(self, route: Route) -> list[int]:
        """Above which layers a route runs to the side."""
        pre, post = route.pre, route.post
        if route.way == "side":
            return []
        if route.way == "over":
            return [pre.layer]
        if route.way in ("up", "down"):
            columns = self.columns[pre.population], self.columns[post.population]
            straight = self.lane(columns[0], route.name) == self.lane(columns[1], route.name)
            return [] if straight else [min(pre.layer, post.layer)]
        down = route.descends
        return [pre.layer - 1, post.layer] if down else [pre.layer, post.layer - 1]

    def height(self, layer: int) -> float:
        """Of the boxes of a row."""
        here = [group for group in self.groups if group.layer == layer]
        lines = max(len(self.heading(group)) for group in here)
        sides = max(len(self.slots(layer)), 1)
        edges = {edge for group, edge, name in self.labels if group in here
                 and self.labels[group, edge, name]}  # fmt: skip
        return max(lines, sides) * LINE + (0.5 + len(edges)) * LINE

    def slots(self, layer: int) -> list[tuple[str, int]]:
        """The horizontals from box to box in a row: projection and number, two of a loop."""
        return [
            (route.name, k)
            for route in self.routes
            if route.way == "side" and route.pre.layer == layer
            for k in range(2 if route.pre == route.post else 1)
        ]

    def space(self, layer: int) -> float:
        """Between a row and the next."""
        tracks = len(self.tracks[layer])
        if layer == self.circuit.depth:
            return tracks * TRACK + CLEAR if tracks else 0.0
        return 2 * CLEAR + max(tracks, 1) * TRACK

    def y(self, layer: int) -> float:
        """The lower edge of a row."""
        return self._ys[layer]

    @cached_property
    def _ys(self) -> list[float]:
        steps = (self.height(layer) + self.space(layer) for layer in self.rows)
        return list(accumulate(steps, initial=EDGE))

    def track(self, layer: int, name: str) -> float:
        """Where the horizontal of a projection is above a layer."""
        tracks = self.tracks[layer]
        below = len(tracks) - 1 - tracks.index(name)
        return self.y(layer) + self.height(layer) + CLEAR + (below + 0.5) * TRACK

    def slot(self, layer: int, name: str, number: int) -> float:
        """Where a horizontal from box to box is."""
        slots = self.slots(layer)
        k = slots.index((name, number))
        return self.middle(layer) + ((len(slots) - 1) / 2 - k) * LINE

    def middle(self, layer: int) -> float:
        """The middle of a row, between what is written at the edges of its boxes."""
        return self._middle([group for group in self.groups if group.layer == layer])

    def heading_at(self, group: Group) -> float:
        """The middle of the heading of one box."""
        return self._middle([group])

    def _middle(self, groups: Sequence[Group]) -> float:
        layer = groups[0].layer
        edges = {edge for (group, edge, _), text in self.labels.items()
                 if group in groups and text}  # fmt: skip
        shift = ("bottom" in edges) - ("top" in edges)
        return self.y(layer) + (self.height(layer) + shift * LINE) / 2

    @property
    def top(self) -> float:
        """Where the rows and all that is above them end."""
        return self._ys[-1]

    # --- routes -------------------------------------------------------------------------------

    def points(self, route: Route) -> list[Point]:
        """The corners of a route, from where it leaves to where it arrives."""
        if route.way == "side":
            return self._across(route)
        name, (pre, leaves, _), (post, arrives, _) = route.name, *route.ends
        start, end = self._edge(pre, leaves, name), self._edge(post, arrives, name)
        crossed = self._crossed(route)
        if not crossed:
            return [start, end]
        first, last = self.track(crossed[0], name), self.track(crossed[-1], name)
        between = [] if first == last else [(self.past[name], first), (self.past[name], last)]
        return [start, (start[0], first), *between, (end[0], last), end]

    def _edge(self, group: Group, edge: str, name: str) -> Point:
        y = self.y(group.layer) + (self.height(group.layer) if edge == "top" else 0)
        return self.lane(self.columns[group.population], name), y

    def _across(self, route: Route) -> list[Point]:
        layer, ends = route.pre.layer, []
        for group, _, right in self.sides(route):
            column = self.columns[group.population]
            ends.append(self.x(column) + (self.widths[column] if right else 0))
        y = self.slot(layer, route.name, 0)
        if route.pre != route.post:
            return [(ends[0], y), (ends[1], y)]
        below, out = self.slot(layer, route.name, 1), ends[0] - 1.4 * LANE
        return [(ends[0], y), (out, y), (out, below), (ends[1], below)]
