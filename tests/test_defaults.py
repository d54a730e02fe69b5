"""No shipped model diverges at its own defaults, on standardised data of ordinary shapes.

Two hidden layers at most of those that mix, up to a hundred units a layer: see docs/performance.md
for what lies beyond. Every seed is counted.
"""

from itertools import pairwise

import numpy as np
import pytest
import tomlkit

import neurosim as ns

pytestmark = pytest.mark.filterwarnings("ignore::neurosim.errors.NeurosimWarning")

SEEDS, PRESENTATIONS = 5, 60

REGRESSION = (
    [2, 2],
    [3, 5, 2],
    [6, 6, 6],
    [6, 6, 6, 6],
    [10, 20, 5],
    [30, 20, 10],
    [20, 10, 10, 1],
)
DIGITS = ([64, 10], [64, 32, 10], [64, 100, 10], [64, 32, 32, 10])
YIN_YANG = ([4, 30, 3], [4, 20, 20, 3])
SHAPES = [
    (task, layers)
    for task, several in (("arrays", REGRESSION), ("digits", DIGITS), ("yin-yang", YIN_YANG))
    for layers in several
]
QUICK = [("arrays", [6, 6, 6]), ("digits", [64, 32, 10])]

TWO_PHASES = (
    {"name": "free", "duration": "600 ms", "plastic": ["feedback"]},
    {"name": "learning", "duration": "600 ms", "teaching": "frozen", "plastic": ["forward"]},
)
PHASES = {
    "mixture-two-phase": TWO_PHASES,
    "mixture-dendrites": TWO_PHASES,
    "multiplexing": TWO_PHASES,
    "mixture": (
        {"name": "a", "duration": "800 ms", "teaching": "following", "plastic": ["forward"]},
    ),
    "microcircuit": (
        {"name": "a", "duration": "200 ms", "teaching": "clamped", "plastic": ["forward", "A"]},
    ),
    "feedback-control": (
        {"name": "free", "duration": "800 ms"},
        {"name": "taught", "duration": "800 ms", "teaching": "frozen", "plastic": ["W"]},
    ),
    "target-propagation": (
        {"name": "a", "duration": "600 ms", "plastic": ["forward", "feedback"]},
    ),
    "backprop": ({"name": "a", "duration": "600 ms", "plastic": ["forward"]},),
}
"""What a protocol does with each model."""


def regression(path, layers):
    """Inputs and targets of mean 0 and variance 1: a random network's, of the same layers."""
    rng = np.random.default_rng(0)
    x = h = rng.standard_normal((1000, layers[0]))
    for below, n in pairwise(layers):
        h = h @ rng.standard_normal((below, n)) / np.sqrt(below)
        h = h if n == layers[-1] else np.where(h > 0, h, 0.35 * h)
    np.savez(path, x=x, y=(h - h.mean(0)) / h.std(0))
    return str(path)


def fits(model, layers):
    """Whether a model's own start of its feedback exists."""
    if model == "mixture":  # inverses
        return len(set(layers[1:])) == 1
    if model == "feedback-control":  # the transpose of W from the output
        return len(layers) == 3
    return len(layers) > 2 or model in ("mixture-two-phase", "backprop")


def protocol(tmp_path, model, task, layers, level):
    """At the defaults of the model: what is given is what it has none of."""
    given = {"use": model, "layers": layers}
    shipped = ns.load_model(model)
    if task == "arrays":
        data = {"name": "arrays", "path": regression(tmp_path / "data.npz", layers)}
        given |= {"output": "linear", "loss": "half-squared"} if shipped.output == "softmax" else {}
    else:
        data = {"name": task}
    if model == "target-propagation":  # which starts near a teacher, of another task
        given["projections"] = {"W": {"init": "orthogonal"}}
    phases = [dict(phase) for phase in PHASES[model]]
    if len(layers) == 2:
        phases = [p | {"plastic": [x for x in p["plastic"] if x != "feedback"]} for p in phases]
    stage = {"name": "training", "presentations": PRESENTATIONS, "phases": phases}
    overrides = {
        "name": "defaults",
        "level": level,
        "precision": "float64",
        "batch": 32,
        "model": given,
        "task": data,
        "stages": [stage],
        "schedule": {"kind": "constant", "final": 1.0},
        "record": {"presentations": 0},
        "rate": {"dt": "1 ms" if model == "microcircuit" else "5 ms"},
        "equilibrium": {"max_newton": 0},
    }
    (tmp_path / "p.toml").write_text(tomlkit.dumps(overrides))
    return ns.load_protocol(tmp_path / "p.toml")


def diverged(tmp_path, model, shapes, level, seeds=SEEDS):
    """Of every shape the seeds that left the numbers, and losses that did not fall in the mean."""
    lost = {}
    for task, layers in shapes:
        loaded = protocol(tmp_path, model, task, layers, level)
        run = ns.run(loaded, seeds=range(seeds), out=tmp_path / "run.h5", force=True)
        with ns.open_trace(run.path) as trace:
            before, after = trace["evaluation/loss"].values[[0, -1]]
        bad = [entry["message"] for entry in run.diverged]
        if not after.mean() < before.mean():
            bad.append(f"{before} to {after}")
        if bad:
            lost[task, *layers] = bad
    return lost


@pytest.mark.parametrize("model", ["mixture-two-phase", "multiplexing"])
def test_the_quickest_of_them(tmp_path, model):
    assert diverged(tmp_path, model, QUICK[:1], "equilibrium") == {}


def parts(shapes):
    """Of every model and task the shapes that the model can have; no part is empty.

    All of them where feedback has to invert what learns, of the other models every third.
    """
    found = {}
    for model in PHASES:
        every = 1 if model in ("mixture-two-phase", "multiplexing") else 3
        for task, layers in shapes[::every]:
            if fits(model, layers):
                found.setdefault((model, task), []).append((task, layers))
    return [pytest.param(m, own, id=f"{m}-{task}") for (m, task), own in found.items()]


@pytest.mark.long
@pytest.mark.seldom
@pytest.mark.parametrize(("model", "shapes"), parts(SHAPES))
def test_at_rest(tmp_path, model, shapes):
    assert diverged(tmp_path, model, shapes, "equilibrium") == {}


@pytest.mark.long
@pytest.mark.parametrize(("model", "shapes"), parts(QUICK))
def test_in_time(tmp_path, model, shapes):
    """At fixed steps such as their protocols take."""
    assert diverged(tmp_path, model, shapes, "rate", seeds=3) == {}
