"""A run as spikes."""

from neurosim.spiking.engine import SpikingEngine

__all__ = ["SpikingEngine"]
