"""The picture of an analysis: spectra, what learning signals are made of, and where they point."""

from os import PathLike
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from neurosim.figures.runs import COLOURS, GREY, INK, STYLE, aside, new_figure, save, title
from neurosim.theory.findings import TEACHING, Analysis

PARTS = {
    "signal": ("signal", INK, "o"),
    "tp": ("target propagation", COLOURS[0], "s"),
    "reconstruction": ("reconstruction errors", COLOURS[1], "^"),
    "taylor": ("higher orders", COLOURS[2], "v"),
}
ANGLES = {
    "to_tp": ("target propagation", COLOURS[0], "s"),
    "to_gauss_newton": ("Gauss–Newton", COLOURS[3], "D"),
    "to_backprop": ("backprop", COLOURS[4], "v"),
}


def _spectrum(axes: Axes, found: Analysis) -> None:
    """Eigenvalues of every phase in the complex plane, closed forms as lines."""
    for k, (phase, colour) in enumerate(zip(found.phases, COLOURS, strict=False)):
        values = phase.eigenvalues
        axes.plot(values.real, values.imag, "o", ms=2.5 + 3 * k, mew=0.8, color=colour,
                  mfc="none" if k else colour, label=TEACHING[phase.teaching])  # fmt: skip
        for value in phase.closed_form if phase.closed_form is not None else ():
            axes.axvline(value.real, color=colour, lw=0.7, ls=(0, (4, 3)), zorder=-1)
    axes.axvline(0, color=GREY, lw=1)
    every = np.concatenate([phase.eigenvalues for phase in found.phases])
    if np.abs(every.imag).max(initial=0) <= 1e-6 * np.abs(every).max(initial=0):
        axes.set_ylim(-1, 1)
    if not every.size:
        axes.text(0.5, 0.6, "no mode is known", transform=axes.transAxes, ha="center", color=GREY)
    axes.set(xlabel="real part (1/s)", ylabel="imaginary part (1/s)")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.22), borderaxespad=0)
    closed = any(phase.closed_form is not None for phase in found.phases)
    title(axes, "a", "spectrum" + (" (lines: closed form)" if closed else ""))


def _rows(
    axes: Axes, found: Analysis, names: dict, floor: float | None = None, absent: str = ""
) -> bool:
    """Numbers over layers, those above a floor; where there are none, why. Returns which it is."""
    layers = [row.layer for row in found.signals]
    for name, (label, colour, marker) in names.items():
        values = np.array([getattr(row, name) for row in found.signals], float)
        shown = values if floor is None else np.where(values > floor, values, np.nan)
        if np.isfinite(shown).any():
            axes.plot(layers, shown, marker=marker, ms=4, color=colour, label=label)
    axes.set(xlabel="layer", xticks=layers, xlim=(layers[0] - 0.5, layers[-1] + 0.5))
    if not axes.lines:
        axes.text(0.5, 0.6, absent, transform=axes.transAxes, ha="center", color=GREY)
        return False
    aside(axes)
    return True


@matplotlib.rc_context(STYLE)
def analysis_figure(found: Analysis) -> Figure:
    """The figure that `analysis` saves."""
    layers = "-".join(map(str, found.layers))
    text = (
        f"{found.name}: {found.model}, layers {layers}, {found.moment} weights, seed {found.seed}"
    )
    if not found.signals:  # of circuits, whose rules are their own
        figure = new_figure(text, 5.4, 3.8)
        _spectrum(figure.subplots(), found)
        return figure
    figure = new_figure(text, 12.6, 3.8)
    spectrum, norms, angles = figure.subplots(1, 3)
    _spectrum(spectrum, found)
    largest = max(row.signal for row in found.signals)
    if _rows(norms, found, PARTS, 1e-14 * largest, "nothing is learned here"):
        norms.set_yscale("log")
    norms.set_ylabel("norm (a.u.)")
    title(norms, "b", "learning signal and its parts")
    _rows(angles, found, ANGLES, absent="no angle: a signal is zero")
    angles.set(ylabel="angle (degrees)", ylim=(-4, 184), yticks=range(0, 181, 45))
    angles.axhline(90, color=GREY, lw=0.8, ls=(0, (4, 3)), zorder=-1)
    title(angles, "c", "angle of the signal to")
    return figure


@matplotlib.rc_context(STYLE)
def analysis(found: Analysis, out: str | PathLike[str]) -> Path:
    """Spectra, learning signals and their angles of an analysis, as `ns.analyze` returns it.

    out: PNG, SVG or PDF by its ending. Returns where it is.

    Raises:
        InputError: `out` cannot be written.
    """
    return save(analysis_figure(found), Path(out))
