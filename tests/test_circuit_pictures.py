"""Circuits as pictures: everything is there, and nothing overlaps."""

from itertools import combinations, pairwise
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.transforms import Affine2D, Bbox
from shown_circuits import ALL, ODD, model

import neurosim as ns
from neurosim.figures.circuits import circuit_figure
from neurosim.figures.placement import Plan
from neurosim.models import circuitry


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odd.toml").write_text(ODD, encoding="utf-8")


# ------------------------------------------------------------------------------------- pictures


def test_only_sound_circuits_are_drawn():
    wires = {"projections.Q.wire": "controller.u[L] -> fedback[i]", "readout": "output.rates"}
    with pytest.raises(ns.InputError) as error:
        circuit_figure(model("controller", **wires))
    assert "controller: projections.Q.wire: " in str(error.value)
    assert "'feedback'" in str(error.value)


DEEP = {
    "controller": [[6, 4, 3], [6, 5, 4, 3], [5, 7, 6, 5, 4, 3, 2]],
    "microcircuit": [[5, 6, 3], [5, 6, 4, 3], [5, 7, 6, 5, 4, 3, 2]],
    "segregated-dendrites": [[6, 8, 4], [6, 8, 7, 4]],
    "odd": [[4, 4, 4, 4, 2]],
}


@pytest.fixture(params=[(n, k) for n in ALL for k in range(len(DEEP[n]))], ids=str)
def drawn(request):
    name, number = request.param
    spec = model(name, layers=DEEP[name][number])
    figure = circuit_figure(spec)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return spec, figure, canvas.get_renderer()


def inside(box, outer, by=0.0):
    return (
        outer.x0 + by <= box.x0 and box.x1 <= outer.x1 - by
        and outer.y0 + by <= box.y0 and box.y1 <= outer.y1 - by
    )  # fmt: skip


def overlap(a, b):
    return min(a.x1, b.x1) - max(a.x0, b.x0) > 0.5 and min(a.y1, b.y1) - max(a.y0, b.y0) > 0.5


def test_pictures_show_everything_and_nothing_overlaps(drawn):
    spec, figure, renderer = drawn
    (axes,) = figure.axes
    texts = [t for t in axes.texts if t.get_text()]
    extents = [t.get_window_extent(renderer) for t in texts]
    for extent in extents:
        assert inside(extent, figure.bbox, 2)
    for (a, one), (b, other) in combinations(zip(texts, extents, strict=True), 2):
        assert not overlap(one, other), (a.get_text(), b.get_text())
    plan = Plan(circuitry.circuit(spec))
    boxes = {p.get_gid(): p.get_window_extent(renderer) for p in axes.patches
             if p.get_gid() and "[" in p.get_gid()}  # fmt: skip
    assert set(boxes) == {f"{g.population}[{g.layer}]" for g in plan.groups}
    for a, b in combinations(boxes.values(), 2):
        assert not overlap(a, b)
    words = [t.get_text() for t in texts]
    for gid, box in boxes.items():
        name, layer = gid.rstrip("]").split("[")
        within = [t for t, e in zip(words, extents, strict=True) if inside(e, box)]
        assert name in within
        for synapses in plan.circuit.sending:
            if (synapses.post.population, str(synapses.post.layer)) == (name, layer):
                assert synapses.received in within
    for projection in plan.circuit.projections:
        assert projection.name in words
    ys = [boxes[f"{g.population}[{g.layer}]"].y0 for g in plan.groups]
    assert ys == sorted(ys)


def segments(corners):
    return [
        Bbox.from_extents(min(a[0], b[0]), min(a[1], b[1]), max(a[0], b[0]), max(a[1], b[1]))
        for a, b in pairwise(corners)
    ]


def enters(segment, box):
    """Whether a segment, which is no wider than a point, has a part inside a box."""
    low, high = box.min + 1e-6, box.max - 1e-6
    return bool((segment.max > low).all() and (segment.min < high).all())


def test_arrows_go_from_box_to_box_and_share_no_way(drawn):
    spec, figure, renderer = drawn
    points = figure.dpi_scale_trans.inverted() + Affine2D().scale(72)
    texts = [t.get_window_extent(renderer).transformed(points) for t in figure.axes[0].texts]
    plan = Plan(circuitry.circuit(spec))
    boxes = {
        g: Bbox.from_bounds(
            plan.x(plan.columns[g.population]),
            plan.y(g.layer),
            plan.widths[plan.columns[g.population]],
            plan.height(g.layer),
        )
        for g in plan.groups
    }
    ways = []
    for route in plan.routes:
        corners = plan.points(route)
        for group, (x, y) in ((route.pre, corners[0]), (route.post, corners[-1])):
            box = boxes[group]
            assert box.x0 <= x <= box.x1 and box.y0 <= y <= box.y1
            assert min(abs(x - box.x0), abs(x - box.x1), abs(y - box.y0), abs(y - box.y1)) < 1e-9
        for a, b in pairwise(corners):
            assert a[0] == b[0] or a[1] == b[1]
        for segment in segments(corners):
            assert not any(enters(segment, box) for box in (*boxes.values(), *texts))
            ways.append((route.name, segment))
    for (one, a), (other, b) in combinations(ways, 2):
        if one == other:
            continue
        if a.width == b.width == 0 and a.x0 == b.x0:
            assert min(a.y1, b.y1) <= max(a.y0, b.y0)
        if a.height == b.height == 0 and a.y0 == b.y0:
            assert min(a.x1, b.x1) <= max(a.x0, b.x0)
