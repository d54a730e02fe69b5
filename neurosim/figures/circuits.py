"""The picture of a circuit: its layers as rows, and what reaches what."""

from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon, Rectangle
from matplotlib.path import Path as Line

from neurosim.circuits.description import Circuit
from neurosim.circuits.populations import Group, Projection
from neurosim.figures.placement import (
    EDGE,
    HEAD,
    LABEL,
    LINE,
    TITLE,
    Plan,
    Point,
    Route,
    wide,
)
from neurosim.figures.runs import COLOURS, GREY, INK, STYLE, save
from neurosim.models.circuitry import sound
from neurosim.specs import ModelSpec

MORE = (INK, "#8C564B", "#7F7F7F", "#B59A00")
"""Colours of projections beyond the first six."""

BAND = "#f2f4f7"


def _rounded(points: Sequence[Point], radius: float = 4.0) -> Line:
    """A line through corners, which are rounded."""
    vertices, codes = [points[0]], [Line.MOVETO]
    for before, corner, after in zip(points, points[1:], points[2:], strict=False):
        vertices += [_towards(corner, before, radius), corner, _towards(corner, after, radius)]
        codes += [Line.LINETO, Line.CURVE3, Line.CURVE3]
    return Line([*vertices, points[-1]], [*codes, Line.LINETO])


def _towards(start: Point, end: Point, length: float) -> Point:
    """A point so far from one to another, at most in the middle."""
    (x, y), (to_x, to_y) = start, end
    share = min(0.5, length / max(abs(to_x - x) + abs(to_y - y), 1e-9))
    return x + share * (to_x - x), y + share * (to_y - y)


def _arrow(axes: Axes, points: Sequence[Point], colour: str, dense: bool, name: str) -> None:
    """A route with its head."""
    (x, y), tip = points[-2:]
    long = abs(tip[0] - x) + abs(tip[1] - y)
    along = (tip[0] - x) / long, (tip[1] - y) / long
    size = 6.0 if dense else 5.0
    base = tip[0] - size * along[0], tip[1] - size * along[1]
    look = {"lw": 1.5, "ls": "-"} if dense else {"lw": 1.0, "ls": (0, (4, 2))}
    line = _rounded([*points[:-1], base])
    axes.add_patch(PathPatch(line, fill=False, ec=colour, capstyle="butt", gid=name, **look))
    across = -along[1] * size * 0.45, along[0] * size * 0.45
    corners = [(base[0] + across[0], base[1] + across[1]), tip,
               (base[0] - across[0], base[1] - across[1])]  # fmt: skip
    axes.add_patch(Polygon(corners, closed=True, fc=colour, ec="none", gid=f"{name} head"))


def _text(axes: Axes, x: float, y: float, text: str, **look: Any) -> None:
    """A text in the middle of a line at y, as it stands."""
    usual: dict[str, Any] = {
        "size": LABEL,
        "color": INK,
        "va": "center_baseline",
        "parse_math": False,
    }
    axes.text(x, y, text, **usual | look)


def _box(axes: Axes, plan: Plan, group: Group) -> None:
    column, layer = plan.columns[group.population], group.layer
    x, y, across, high = plan.x(column), plan.y(layer), plan.widths[column], plan.height(layer)
    kind = "square,pad=0" if layer == 0 else "round,pad=0,rounding_size=5"
    axes.add_patch(FancyBboxPatch((x, y), across, high, boxstyle=kind, fc="white", ec=INK, lw=1,
                                  gid=f"{group.population}[{layer}]"))  # fmt: skip
    heading = plan.heading(group)
    for k, (text, size, bold) in enumerate(heading):
        at = plan.heading_at(group) + ((len(heading) - 1) / 2 - k) * LINE
        states = {"style": "italic", "color": GREY} if k == 2 else {}
        look: dict[str, Any] = {"weight": "bold"} if bold else states
        _text(axes, x + across / 2, at, text, size=size, ha="center", **look)
    for (other, edge, name), text in plan.labels.items():
        if other == group and text:
            inside = y + (high - 0.75 * LINE if edge == "top" else 0.75 * LINE)
            _text(axes, plan.lane(column, name), inside, text, ha="center")


def _beside(axes: Axes, plan: Plan, route: Route) -> None:
    """What is written where a route leaves and enters boxes at their sides."""
    points = plan.points(route)
    for (_, text, right), (x, y) in zip(plan.sides(route), (points[0], points[-1]), strict=True):
        _text(axes, x + (-4 if right else 4), y, text, ha="right" if right else "left")


def _what(projection: Projection) -> str:
    """What the legend says of a projection beside its wire."""
    if not projection.weighed:
        return "one to one, without weights"
    kind = "all to all" if projection.wire.dense else "one to one"
    if any(s.convolution is not None for s in projection.synapses):
        kind = "convolution between maps"
    if projection.post is not None:
        return f"{kind}, learns"
    return f"{kind}, {projection.rule}"


def _entries(circuit: Circuit) -> list[tuple[Projection, str, str, str]]:
    """The legend: of every projection its colour, its wire and what it is."""
    colours: tuple[str, ...] = (*COLOURS, *MORE)
    if len(circuit.projections) > len(colours):
        scale = matplotlib.colormaps["turbo"]
        count = len(circuit.projections)
        colours = tuple(
            matplotlib.colors.to_hex(scale(0.05 + 0.9 * k / (count - 1))) for k in range(count)
        )
    return [
        (p, colours[k], p.wire.text.replace("->", "→").replace("=>", "⇒"), _what(p))
        for k, p in enumerate(circuit.projections)
    ]


@matplotlib.rc_context(STYLE)
def circuit_figure(model: ModelSpec) -> Figure:
    """The figure that `circuit` saves."""
    plan = Plan(sound(model))
    entries = _entries(plan.circuit)
    names = max(wide(p.name, HEAD, True) for p, *_ in entries)
    said = max(wide(text, LABEL) for _, _, *texts in entries for text in texts)
    source = model.source and " ".join(model.source.split())
    name = " ".join(model.name.split())
    legend = plan.right + EDGE
    title = 2 * EDGE + max(wide(name, TITLE, True), wide(source, LABEL))
    width = max(legend + 26 + names + 8 + said + EDGE, title)
    head = (3.4 if source else 2.2) * LINE
    drawn = max(plan.top, EDGE + 2.6 * LINE * len(entries))
    height = drawn + head + EDGE
    figure = Figure((width / 72, height / 72), dpi=150)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(0, height))
    axes.axis("off")
    _text(axes, EDGE, height - EDGE, name, size=TITLE, weight="bold", va="top")
    _text(axes, EDGE, height - EDGE - 1.4 * LINE, source, color=GREY, va="top")
    for layer in plan.rows:
        y, high = plan.y(layer), plan.height(layer)
        axes.add_patch(Rectangle((EDGE / 2, y - 5), plan.right - EDGE / 2, high + 10, fc=BAND,
                                 ec="none", zorder=0))  # fmt: skip
        for k, text in enumerate(plan.named(layer)):
            at = y + high / 2 + (0.5 - k) * LINE
            _text(axes, EDGE, at, text, color=GREY if k else INK)
    for group in plan.groups:
        _box(axes, plan, group)
    colours = {p.name: colour for p, colour, *_ in entries}
    for route in plan.routes:
        dense = route.projection.wire.dense
        _arrow(axes, plan.points(route), colours[route.name], dense, route.name)
        if route.way == "side":
            _beside(axes, plan, route)
    for k, (projection, colour, way, what) in enumerate(entries):
        y = drawn - LINE - 2.6 * LINE * k
        line = [(legend, y), (legend + 20, y)]
        _arrow(axes, line, colour, projection.wire.dense, f"{projection.name} legend")
        _text(axes, legend + 26, y, projection.name, size=HEAD, weight="bold", color=colour)
        _text(axes, legend + 34 + names, y, way)
        _text(axes, legend + 34 + names, y - LINE, what, color=GREY)
    return figure


@matplotlib.rc_context(STYLE)
def circuit(model: ModelSpec, out: str | PathLike[str]) -> Path:
    """A circuit: its layers from the input up, the populations in them, what reaches what.

    out: PNG, SVG or PDF by its ending. Returns where it is.

    Raises:
        InputError: the model is no circuit, or no sound one; `out` cannot be written.
    """
    return save(circuit_figure(model), Path(out))
