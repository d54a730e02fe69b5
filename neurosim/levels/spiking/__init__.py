"""The spiking level: the rate equations with what neurons send replaced by spikes.

In Brian2, or in JAX. Nothing is imported here, so that a protocol can be checked without either.
"""
