"""Calls of the command line."""

from typer.testing import CliRunner

from neurosim.cli.commands import app


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
