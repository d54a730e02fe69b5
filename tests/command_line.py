"""Calls of the command line."""

from typer.testing import CliRunner

from neurosim.cli import app

LIGHT = """
import json, sys
from neurosim.cli import app
HEAVY = ("jax", "equinox", "diffrax", "optimistix", "lineax", "optax", "brian2", "sklearn",
         "distributed", "xarray", "h5netcdf", "pandas", "matplotlib", "rich", "scipy")
for arguments in json.loads(sys.argv[1]):
    try:
        app(arguments)
    except SystemExit as end:
        assert not end.code, arguments
    print([name for name in HEAVY if name in sys.modules], file=sys.stderr)
"""


def call(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
