"""A run as spikes."""

from neurosim.spiking.circuit_engine import CircuitSpikingEngine
from neurosim.spiking.engine import SpikingEngine

__all__ = ["CircuitSpikingEngine", "SpikingEngine"]
