"""The mixture network's neurons in time, beside what else integrates differential equations.

4 x 256 units, a batch of 128, float64, a free phase of ten time constants from rest. Every side is
first held against the same equations at a much tighter tolerance.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from contests import Taken, raced, solved
from measure import Absent, Entry, Row, duration, ratio

from neurosim.building import assembly
from neurosim.building.loading import load_model

WANTED = {"torchdiffeq": (">=", 6.0), "scipy": (">=", 8.0)}
"""How many times faster than a rival with adaptive steps neurosim should be; all by the method of
Dormand and Prince."""

TOLERANCES = {"rtol": 1e-6, "atol": 1e-9}
TIGHT = {"rtol": 1e-10, "atol": 1e-12, "method": "DOP853"}
ALLOWED = 1e-5
"""How far a solution may be from the tight one: ten times rtol, of activities near 1.

Leaky units have kinks, at which methods of fifth order lose theirs.
"""

CHECKED = 4
"""Samples that are held against the tight solution; samples do not touch each other."""

STEP = 1e-3
"""Of the fixed steps (s), a twentieth of the time constant."""

ALLOWED_OF_FIXED = (1e-3 / 20e-3) ** 2
"""The order of Heun's error at such steps."""

LAYERS = tuple(f"h{i}" for i in range(4))
REPEATS = 5


def integration(device: str, small: bool = False) -> list[Entry]:
    """Adaptive steps at equal tolerance, and fixed ones of equal length.

    Rivals have the whole batch as one system, with one error norm and the same steps for all its
    samples; so has neurosim on one line, and on another every sample has steps of its own, as in
    runs.
    """
    del device
    n, batch, repeats = (8, 4, 1) if small else (256, 128, REPEATS)
    problem = _problem(n, batch)
    some = {name: a[:CHECKED] if name == "x" else a for name, a in problem.items()}
    tight = solved("rate_scipy", some | TIGHT)
    given = problem | TOLERANCES | {"method": "RK45", "scheme": "dopri5"}
    adaptive = {
        "neurosim, one system": ("rate_neurosim", given | {"apart": False}),
        "neurosim, samples apart": ("rate_neurosim", given | {"apart": True}),
        "torchdiffeq": ("rate_torchdiffeq", given),
        "scipy": ("rate_scipy", given),
    }
    given = problem | TOLERANCES | {"scheme": "heun"}
    fixed = {
        "neurosim, samples apart": ("rate_neurosim", given | {"apart": True}),
        "numpy": ("rate_numpy", given),
    }
    return [
        *_rows("mixture, adaptive steps", adaptive, tight, ALLOWED, repeats),
        *_rows("mixture, fixed steps", fixed, tight, ALLOWED_OF_FIXED, repeats),
    ]


def _problem(n: int, batch: int) -> dict[str, Any]:
    layers = [n] * 5
    # The inverses that feedback starts from take minutes where layers are wide.
    spec = load_model("mixture-two-phase", {"layers": layers, "projections.Q.init": "xavier"})
    with jax.enable_x64(True):
        drawn = assembly.weights(spec, 0, None, Path())
    weights = {f"{name}{i}": np.asarray(w) for name in "WQ" for i, w in enumerate(drawn[name])}
    of: dict[str, Any] = {"mu": spec.parameters["mu"], "tau": spec.parameters["tau_soma"]}
    of |= {"slope": spec.activation.slope, "depth": 4, "duration": 0.2, "dt": STEP}
    return weights | of | {"x": np.random.default_rng(0).standard_normal((batch, n))}


def _rows(
    title: str,
    sides: dict[str, tuple[str, dict[str, Any]]],
    tight: dict[str, np.ndarray],
    allowed: float,
    repeats: int,
) -> list[Entry]:
    """What each took that is accurate enough, and every rival over neurosim."""
    taken, absent = raced(sides, repeats)
    rows: list[Entry] = [Absent(f"{title}: {name}", why) for name, why in absent.items()]
    for name, there in list(taken.items()):
        error = max(float(np.abs(there.solution[h][:CHECKED] - tight[h]).max()) for h in LAYERS)
        if error > allowed:
            why = f"{error:.1e} from the tight solution, {allowed:.0e} allowed"
            rows.append(Absent(f"{title}: {name}", why))
            del taken[name]
        else:
            rows += _one(f"{title}: {name}", there, error)
    for theirs, there in taken.items():
        for ours, here in taken.items():
            if theirs.startswith("neurosim") or not ours.startswith("neurosim"):
                continue
            what, limit = f"{title}: {theirs} over {ours}", WANTED.get(theirs)
            rows.append(ratio(what, there.seconds, here.seconds, limit=limit))
            pair = there.processors, here.processors
            rows.append(ratio(f"{what}, processor time", *pair))
            each = [side.processors / side.solution["fields"] for side in (there, here)]
            rows.append(ratio(f"{what}, processor time per field", *each))
    return rows


def _one(title: str, taken: Taken, error: float) -> list[Row]:
    return [
        duration(title, taken.seconds),
        duration(f"{title}, processor time", taken.processors),
        Row(f"{title}, start", taken.start, "s"),
        Row(f"{title}, first run", taken.first, "s"),
        Row(f"{title}, peak memory", taken.peak, "MB"),
        Row(f"{title}, error", error, "h"),
        Row(f"{title}, fields evaluated", float(taken.solution["fields"]), ""),
    ]
