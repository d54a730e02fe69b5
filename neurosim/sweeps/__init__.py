"""Sweeps: one protocol at many points, run by many processes, and what comes of it."""
