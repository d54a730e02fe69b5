"""The command line."""

from neurosim.cli.commands import app, main

__all__ = ["app", "main"]
