"""The command line as the tool that Sphinx describes commands with takes it."""

from typer.main import get_command

from neurosim.cli import app

commands = get_command(app)
