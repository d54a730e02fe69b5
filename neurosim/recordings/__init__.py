"""Cells under stimuli: recordings of them, and the numbers that electrophysiologists take."""
