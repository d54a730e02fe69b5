"""A run as spikes."""

from neurosim.spiking.engine import SpikingEngine, Timing

__all__ = ["SpikingEngine", "Timing"]
