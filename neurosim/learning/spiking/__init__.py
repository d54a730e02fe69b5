"""A run as spikes."""

from neurosim.learning.spiking.engine import SpikingEngine

__all__ = ["SpikingEngine"]
