"""Pictures of traces. Everything shown is read from traces; no display is needed."""

from neurosim.figures.pairs import comparison
from neurosim.figures.runs import overview, overview_figure, variables, variables_figure
from neurosim.figures.spikes import raster

__all__ = [
    "comparison",
    "overview",
    "overview_figure",
    "raster",
    "variables",
    "variables_figure",
]
