"""The mixture network's neurons in time, beside what else integrates differential equations.

4 x 256 units, a batch of 128, float64, a free phase of ten time constants from rest. Every side is
first held against the same equations at a much tighter tolerance.
"""

from pathlib import Path
from typing import Any

import jax
import numpy as np
from contests import AbsentError, GateError, Taken, raced, solved
from measure import Absent, Entry, Row, duration, ratio

from neurosim.building import assembly
from neurosim.building.loading import load_model

ADAPTIVE = {"rate_torchdiffeq": (">=", 6.0), "rate_scipy": (">=", 8.0)}
"""Rivals with adaptive steps, and how many times faster than they neurosim should be."""

TOLERANCES = {"rtol": 1e-6, "atol": 1e-9}
TIGHT = {"rtol": 1e-10, "atol": 1e-12, "method": "DOP853"}
ALLOWED = 1e-5
"""How far a solution may be from the tight one: ten times rtol, of activities near 1.

Leaky units have kinks, at which methods of fifth order lose theirs.
"""

CHECKED = 4
"""Samples that are held against the tight solution; samples do not touch each other."""

STEP = 1e-3
"""Of the fixed steps (s), a twentieth of the time constant; Heun's error is then of order 1e-3."""


def integration(device: str, small: bool = False) -> list[Entry]:
    """Adaptive steps at equal tolerance, and fixed ones of equal length."""
    del device
    n, batch, repeats = (8, 4, 2) if small else (256, 128, 5)
    problem = _problem(n, batch)
    some = {name: a[:CHECKED] if name == "x" else a for name, a in problem.items()}
    tight = solved("rate_scipy", some | TIGHT)
    rows: list[Entry] = []
    for apart, how in ((False, "batch as one system"), (True, "samples apart, as in runs")):
        given = problem | TOLERANCES | {"method": "RK45", "scheme": "tsit5", "apart": apart}
        for rival, wanted in ADAPTIVE.items():
            pair = f"adaptive steps, {how}", rival
            rows += _pair(*pair, given, tight, ALLOWED, repeats, None if small else wanted)
    given = problem | TOLERANCES | {"scheme": "heun", "apart": True}
    pair = "fixed steps, samples apart, as in runs", "rate_numpy"
    return rows + _pair(*pair, given, tight, 1e-2, repeats, None)


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


def _pair(
    title: str,
    rival: str,
    given: dict[str, Any],
    tight: dict[str, np.ndarray],
    allowed: float,
    repeats: int,
    wanted: tuple[str, float] | None,
) -> list[Entry]:
    """neurosim beside one rival."""
    name, title = rival.removeprefix("rate_"), f"mixture, {title}"
    try:
        taken = raced(["rate_neurosim", rival], given, repeats)
        off = {of: _error(there.solution, tight) for of, there in taken.items()}
        for of, error in off.items():
            if not error <= allowed:
                raise GateError(f"{of}: {error:.1e} from the tight solution, {allowed:.0e} allowed")
    except (AbsentError, GateError) as error:
        return [Absent(f"{title}: {name}", str(error))]
    ours, theirs = taken["rate_neurosim"], taken[rival]
    rows: list[Entry] = []
    for label, of, there in (
        (f"neurosim (beside {name})", "rate_neurosim", ours),
        (name, rival, theirs),
    ):
        rows += _one(f"{title}: {label}", there, off[of])
    what = f"{title}: {name} over neurosim"
    rows.append(ratio(what, theirs.seconds, ours.seconds, limit=wanted))
    each = [there.seconds / there.solution["fields"] for there in (theirs, ours)]
    return [*rows, ratio(f"{what}, per field", *each)]


def _one(title: str, taken: Taken, error: float) -> list[Row]:
    return [
        duration(title, taken.seconds),
        Row(f"{title}, start", taken.start, "s"),
        Row(f"{title}, first run", taken.first, "s"),
        Row(f"{title}, peak memory", taken.peak, "MB"),
        Row(f"{title}, error", error, "h"),
        Row(f"{title}, fields evaluated", float(taken.solution["fields"]), ""),
    ]


def _error(found: dict[str, np.ndarray], tight: dict[str, np.ndarray]) -> float:
    """The largest over the samples that were solved tightly."""
    return max(float(np.abs(found[name][:CHECKED] - tight[name]).max()) for name in tight)
