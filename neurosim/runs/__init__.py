"""Runs: their beginning, chunk by chunk into a trace, their resumption, what they cost."""
