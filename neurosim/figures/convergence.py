"""How far neurons came to rest, over a run: what is left, and how many samples settled."""

from os import PathLike

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from neurosim.figures.runs import COLOURS, GREY, STYLE, above, band, decades, new_figure, title
from neurosim.traces.reader import studying
from neurosim.traces.scenes import Trace


@matplotlib.rc_context(STYLE)
def convergence_figure(path: str | PathLike[str], tolerance: float) -> Figure | None:
    """Of every phase the largest residual of a batch and the fraction settled, over presentations.

    Residuals are fractions of the learning signal that is expected, of which `tolerance` is the one
    at which a phase has settled. None where nothing is known, as of spikes.

    Raises:
        InputError: the trace cannot be read.
    """
    with studying(path) as tree:
        trace = Trace(path, tree)
        x, residual = trace.series("metrics/residual")
        settled = trace.series("metrics/settled")[1]
        if not np.isfinite(settled).any():
            return None
        names = tree["phases/phase"].attrs["flag_meanings"].split()
        figure = new_figure("", 8, 2.8)
        left, right = figure.subplots(1, 2)
        for k, name in enumerate(names):
            colour = COLOURS[k % len(COLOURS)]
            wide = 1.2 + 1.6 * (len(names) - 1 - k)  # so that equal lines show
            band(left, x, residual[..., k], colour, name.replace("_", " "), lw=wide)
            band(right, x, 100 * settled[..., k], colour, name.replace("_", " "), lw=wide)
        decades(left, residual, 3)
        left.axhline(tolerance, color=GREY, lw=0.8, ls=(0, (4, 3)), label="tolerance")
        right.set(ylim=(-4, 104), ylabel="samples (%)", xlabel="presentations")
        left.set(ylabel="of the expected signal", xlabel="presentations")
        title(left, "a", "largest residual", pad=16)
        title(right, "b", "settled", pad=16)
        above(left, left.lines)
        return figure
