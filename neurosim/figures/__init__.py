"""Pictures of traces, analyses and circuits. Everything shown is read from them; no display is
needed."""

from neurosim.figures.analyses import analysis, analysis_figure
from neurosim.figures.circuits import circuit, circuit_figure
from neurosim.figures.convergence import convergence_figure
from neurosim.figures.neurons import calibration
from neurosim.figures.pairs import comparison, comparison_figure, comparison_of
from neurosim.figures.recordings import recording, recording_figure
from neurosim.figures.runs import overview, overview_figure, save, variables, variables_figure
from neurosim.figures.spikes import raster, raster_figure
from neurosim.figures.sweeps import sweep, sweep_figure

__all__ = [
    "analysis",
    "analysis_figure",
    "calibration",
    "circuit",
    "circuit_figure",
    "comparison",
    "comparison_figure",
    "comparison_of",
    "convergence_figure",
    "overview",
    "overview_figure",
    "raster",
    "raster_figure",
    "recording",
    "recording_figure",
    "save",
    "sweep",
    "sweep_figure",
    "variables",
    "variables_figure",
]

NAMED = {
    "overview": overview,
    "raster": raster,
    "calibration": calibration,
    "recording": recording,
}
"""Pictures that can be asked for by name instead of by variables."""
