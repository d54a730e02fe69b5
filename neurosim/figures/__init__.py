"""Pictures of traces. Everything shown is read from traces; no display is needed."""

from neurosim.figures.comparison import comparison
from neurosim.figures.overview import overview, overview_figure, variables, variables_figure
from neurosim.figures.raster import raster

__all__ = [
    "comparison",
    "overview",
    "overview_figure",
    "raster",
    "variables",
    "variables_figure",
]
