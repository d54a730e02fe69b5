"""How the zoo's page says what was found: words of its tables, and its figure."""

from fractions import Fraction
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

CONTROL = ", hidden layers frozen"
"""What names of the controls end in."""


def picture(found: dict[str, dict[str, Any]], titles: dict[str, str], models: list[str]) -> Figure:
    """Test errors of all seeds, a panel a task. titles: of the tasks."""
    drawing = Figure(figsize=(10.0, 1.0 + 0.34 * len(models)), layout="constrained", dpi=150)
    panels = drawing.subplots(1, len(found), sharey=True, squeeze=False)[0]
    shown = {title for results in found.values() for title in both(results, models)}
    names = [title for title in models if title in shown][::-1]
    for axes, (task, results) in zip(panels, found.items(), strict=True):
        for label, colour, marker in (("", "#0072B2", "o"), (CONTROL, "#999999", "s")):
            for title in both(results, models):
                k = names.index(title)
                errors = [100 * e for e in results[title + label]["errors"] if e is not None]
                axes.plot(errors, [k] * len(errors), marker, color=colour, alpha=0.45, ms=4, mew=0)
                if errors:
                    axes.plot(np.mean(errors), k, "|", color=colour, ms=13, mew=2)
        axes.set_yticks(range(len(names)), names)
        axes.set(title=titles[task], xlabel="test error (%)", xscale="log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.xaxis.set_minor_formatter(lambda value, _: f"{value:g}" if _apart(value) else "")
        axes.tick_params(axis="x", which="both", labelsize=8)
        axes.title.set_fontsize(10)
        axes.grid(axis="y", lw=0.4, color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
    handles = [
        Line2D([], [], color=c, marker=m, ls="", label=name)
        for c, m, name in (("#0072B2", "o", "all layers learn"), ("#999999", "s", "output only"))
    ]
    drawing.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return drawing


def _apart(value: float) -> bool:
    """Whether a tick of a logarithmic axis leaves room for its number."""
    return f"{value:e}"[0] in "2346"


def both(results: dict[str, Any], models: list[str]) -> list[str]:
    """Of which models there is a result, of their controls too."""
    return [title for title in models if {title, title + CONTROL} <= results.keys()]


def said(result: dict[str, Any]) -> str:
    """The mean of the errors of the seeds that lived, and their range."""
    errors = [100 * e for e in result["errors"] if e is not None]
    if not errors:
        return "all diverged"
    return f"{np.mean(errors):.1f} % ({min(errors):.1f}–{max(errors):.1f})"


def spiking(own: dict[str, Any]) -> tuple[str, str, str]:
    """Whether spikes can teach it; the error of what was learned at rest, as spikes; how far off.

    How far what units say is from rest, over the scatter of spikes.
    """
    taught = "yes" if own["levels"]["spiking"] else "no"
    if "spikes" not in own:
        return taught, "", ""
    ratio = own["spikes"]["distance"]
    return taught, said(own["spikes"]), "–" if ratio is None else f"{ratio:.1f}"


def lost(result: dict[str, Any]) -> int:
    """How many seeds diverged."""
    return sum(e is None for e in result["errors"])


def paced(result: dict[str, Any]) -> str:
    """The pace that was chosen."""
    return str(Fraction(result["pace"]).limit_denominator(100))


def degrees(angles: list[float]) -> str:
    """Of every layer."""
    return ", ".join("–" if np.isnan(a) else f"{a:.0f}°" for a in angles)
