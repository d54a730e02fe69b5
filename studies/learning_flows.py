"""Learning as an ODE: runs of the shipped protocol `learning-flow` beside its closed forms.

Of the study `random_feedback.py`, after Baldi, Sadowski & Lu 2018, section 7.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save
from neurosim.theory.learning_flows import Flow, Moments, velocity
from neurosim.theory.learning_limits import limit
from neurosim.theory.power_flows import PowerFlow, PowerMoments, drift_without_slope
from neurosim.theory.power_flows import limit as power_limit

BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"

COURSES = {
    "A[1, 1, 1], SRBP": {"model.layers": [1, 1, 1]},
    "A[1, 1, 1, 1], SRBP": {"model.layers": [1, 1, 1, 1]},
    "A[1, 4, 1], SRBP": {"model.layers": [1, 4, 1]},
    "A[3, 1, 3], SRBP": {"model.layers": [3, 1, 3], "task.layers": [3, 3]},
    "A[1, 1, 1, 1], RBP": {"model.layers": [1, 1, 1, 1], "model.credit": "rbp"},
    "A[1, 1, 1, 1], gradient": {"model.layers": [1, 1, 1, 1], "model.credit": "backprop"},
}
"""What is run, by its title; all with the same seeds."""

SHOWN = 2
"""The seed whose courses are drawn, of all networks the same."""


def chain(a1: float, a2: float, c1: float | None = 1.0) -> Flow:
    """A[1, 1, 1] with α = β = 1, as in figure 11; without c_1 its gradient flow."""
    one = np.ones((1, 1))
    return Flow((a1 * one, a2 * one), None if c1 is None else (c1 * one,), Moments(one, one))


def field(axis: Any, c1: float | None) -> Any:
    """The plane of weights of A[1, 1, 1], as figure 11: where the flow leads, and along what.

    Shaded by a_1 in the end, the basins of the two branches of critical points; arrows, all of one
    length, are colored by the sign of dP/dt. Thin curves are those of what is conserved. Returns
    what the shading means.
    """
    grid = np.linspace(-3, 3, 61)
    a1, a2 = np.meshgrid(grid, grid)
    ends, d1, d2 = np.empty_like(a1), np.empty_like(a1), np.empty_like(a1)
    for k in np.ndindex(a1.shape):
        flow = chain(a1[k], a2[k], c1)
        d1[k], d2[k] = (v.item() for v in velocity(flow))
        weights = limit(flow).weights
        assert weights is not None, "a chain has one"
        ends[k] = weights[0].item()
    shown = axis.pcolormesh(a1, a2, ends, cmap="coolwarm", clim=(-3, 3), alpha=0.5, rasterized=True)
    conserved = a1**2 - a2**2 if c1 is None else a2 - a1**2 / (2 * c1)
    levels = np.arange(-8.5, 9, 1.5) if c1 is None else np.arange(-7.25, 7, 0.75)
    axis.contour(a1, a2, conserved, levels, colors="gray", linewidths=0.5, linestyles="solid")
    few = (slice(1, None, 3), slice(1, None, 3))
    growth = a1 * d2 + a2 * d1
    size = np.hypot(d1, d2) + 1e-12
    colors = np.where(growth[few] > 0, BLUE, RED).ravel()
    axis.quiver(a1[few], a2[few], (d1 / size)[few], (d2 / size)[few], color=colors, scale=34)
    for side in (np.linspace(-3, -1 / 3, 400), np.linspace(1 / 3, 3, 400)):
        repels = (side**2 + (c1 or 0) / side < 0) if c1 is not None else np.zeros(len(side), bool)
        axis.plot(np.where(repels, np.nan, side), 1 / side, color="black", lw=2)
        axis.plot(np.where(repels, side, np.nan), 1 / side, color="black", lw=2, ls=":")
    if c1 is not None:
        axis.plot(grid, -(grid**2) / c1, color=GREEN, lw=1.5)
    axis.set(xlim=(-3, 3), ylim=(-3, 3), xlabel="$a_1$", ylabel="$a_2$", aspect="equal")
    return shown


def vector_fields(folder: Path) -> None:
    """Figure 11, with c_1 = 1 and −1, and the gradient flow beside them."""
    canvas = Figure(figsize=(13, 4.4), layout="constrained", dpi=110)
    cases = {"$c_1 = 1$": 1.0, "$c_1 = -1$": -1.0, "gradient": None}
    axes = canvas.subplots(1, len(cases))
    for axis, (title, c1) in zip(axes, cases.items(), strict=True):
        shown = field(axis, c1)
        axis.set_title(title)
    canvas.colorbar(shown, ax=axes, label="$a_1$ in the end")
    save(canvas, folder / "vector-fields.png")


ARCHITECTURES = {
    "A[1, 1, 1]": [1, 1, 1],
    "A[1, 1, 1, 1]": [1, 1, 1, 1],
    "A[1, …, 1]": [1, 1, 0, 1, 1],
    "A[1, N, 1]": [1, 3, 1],
    "A[N, 1, N]": [3, 1, 3],
    "A[$N_0$, …, $N_L$]": [3, 4, 2, 3],
}
"""Units of every layer, 0 where some are left out."""


def architectures(folder: Path) -> None:
    """Figures 10, 12, 13 and 14: forward weights black, the channel's (SRBP) red and dashed."""
    canvas = Figure(figsize=(13, 4.0), layout="constrained", dpi=110)
    for axis, (title, sizes) in zip(
        canvas.subplots(1, len(ARCHITECTURES)), ARCHITECTURES.items(), strict=True
    ):
        top, single = len(sizes) - 1, max(sizes) == 1
        places = [[(k - (n - 1) / 2, i) for k in range(n)] for i, n in enumerate(sizes)]
        for i, layer in enumerate(places):
            for x, y in layer:
                axis.plot(x, y, "o", ms=9, mfc="white", mec="black", zorder=3)
                for below, _ in places[i - 1] if i else ():
                    axis.plot([below, x], [y - 1, y], color="black", lw=0.9, zorder=1)
            if not layer:
                axis.text(0, i, "…", ha="center", va="center", rotation=90, fontsize=14)
            elif i and places[i - 1]:
                name = ("L" if i == top else str(i)) if 0 in sizes or max(sizes) > 3 else str(i)
                letter = "a" if single else "A"
                axis.text(max(sizes) / 2 + 0.1, i - 0.5, f"${letter}_{name}$", va="center")
            if 0 < i < top and layer:
                end, begin = layer[0], places[top][0]
                how = {"arrowstyle": "->", "color": RED, "ls": "--", "lw": 1.1}
                how |= {"connectionstyle": f"arc3,rad={0.35 - 0.05 * i}"}
                axis.annotate("", end, begin, arrowprops=how)
                letter = "c" if single else "C"
                name = "{L-1}" if 0 in sizes and i == top - 1 else str(i)
                axis.text(end[0] - 0.7, i, f"${letter}_{name}$", color=RED, ha="right", va="center")
        axis.set(xlim=(-2.6, 2.6), ylim=(-0.5, 4.5), title=title)
        axis.axis("off")
    save(canvas, folder / "architectures.png")


def courses(folder: Path, seeds: int) -> None:
    """Weights on their way to their limits, and how far off these they end."""
    canvas = Figure(figsize=(12, 6.5), layout="constrained", dpi=110)
    axes = canvas.subplots(2, 3).ravel()
    print(f"{'case':26} {'invariants':>12} {'limit':>10}   largest of {seeds} seeds")
    for k, (axis, (title, given)) in enumerate(zip(axes, COURSES.items(), strict=True)):
        path = folder / f"courses-{k}.h5"
        given = given | {"stages.0.phases.0.duration": "1000 s", "record.every": "200 ms"}
        ns.run(ns.load_protocol("learning-flow", given), seeds=range(seeds), out=path, force=True)
        found = [ns.analyze(path, seed=s, starts=0).flow for s in range(seeds)]
        flows = [flow for flow in found if flow is not None]
        changed = max(change for flow in flows for _, change in flow.invariants)
        off = [flow.off for flow in flows]
        print(f"{title:26} {changed:12.1e} {max(off):10.1e}")
        with h5py.File(path) as file:
            time = file["courses/time"][:] / 1e3
            layers = len(given["model.layers"]) - 1
            for i in range(1, layers + 1):
                values = file[f"courses/W{i}"][0, SHOWN].reshape(len(time), -1)
                axis.plot(time, values, color=(BLUE, RED, GREEN)[i - 1])
        for i, layer in enumerate(flows[SHOWN].weights or ()):
            for value in np.ravel(layer):
                axis.axhline(value, color=(BLUE, RED, GREEN)[i], lw=0.6, ls=":")
        axis.set(title=title, xlabel="time (s)", xscale="symlog", xlim=(0, 1000))
    save(canvas, folder / "courses.png")


def powers(folder: Path) -> None:
    """a_1 of the model `power`, with the slope and without it (μ = 2)."""
    rng = np.random.default_rng(1)
    x = rng.uniform(0.5, 1.5, 24)
    y = 1.2 * x + 0.3
    data = folder / "power.npz"
    np.savez(data, x=x[:, None], y=y, x_test=x[:, None], y_test=y)
    canvas = Figure(figsize=(8, 3.4), layout="constrained", dpi=110)
    axes = canvas.subplots(1, 2)
    m = PowerMoments.of(x, y, 2.0)
    for title, slope, color in (("with f'", True, BLUE), ("without f'", False, RED)):
        given: dict[str, Any] = {
            "model.use": "power",
            "model.credit": {"name": "srbp", "sparse": 1, "slope": slope},  # c_1 = 1
            "batch": 24,
            "task": {"name": "arrays", "path": str(data.resolve())},
            "stages.0.phases.0.duration": "40 s",
            "record.every": "1 s",
        }
        path = folder / f"power-{'with' if slope else 'without'}.h5"
        ns.run(ns.load_protocol("learning-flow", given), out=path, force=True)
        with h5py.File(path) as file:
            time = file["courses/time"][:] / 1e3
            a1, a2 = (file[f"courses/W{i}"][0, :, 0, 0] for i in (1, 2))
        axes[0].plot(time, a1, color=color, label=title)
        axes[1].plot(time, a2 * a1**2, color=color)
        print(f"power, {title}: a1 {a1[-1]:.6f}, moving at {a1[-1] - a1[-2]:.5f} per s")
    weights, speed = power_limit(PowerFlow(1, 1, 1, 2, True, m)).weights, drift_without_slope(1, m)
    assert weights is not None, "theorem 12"
    end = weights[0].item()
    print(f"in theory: a1 {end:.6f} with f', {speed:.5f} per s without")
    axes[0].axhline(end, color="black", lw=0.6, ls=":")
    axes[1].axhline(m.alpha / m.beta, color="black", lw=0.6, ls=":")
    axes[0].set(xlabel="time (s)", ylabel="$a_1$")
    axes[1].set(xlabel="time (s)", ylabel=r"$a_2 a_1^\mu$, and $\alpha/\beta$")
    axes[0].legend(frameon=False)
    save(canvas, folder / "power.png")
