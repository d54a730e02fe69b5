"""The spiking level: the rate equations with what neurons send replaced by spikes, in Brian2.

Nothing is imported here, so that a protocol can be checked without Brian2.
"""
