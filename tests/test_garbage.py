"""How often Python looks for garbage: not while a program is made, seldom in a command."""

import gc
import subprocess
import sys

import jax.numpy as jnp
import pytest

from neurosim.process.compiled import compiled


@pytest.fixture
def looking():
    """Whether garbage is looked for, noted by a program whenever it is traced."""
    noted = []

    @compiled
    def program(x):
        noted.append(gc.isenabled())
        if x.ndim:
            raise ValueError("no single number")
        return x + 1

    return program, noted


def test_nobody_looks_while_a_program_is_made_and_everybody_does_after(looking):
    program, noted = looking
    assert program(jnp.float32(1)) == 2
    assert noted == [False]
    assert gc.isenabled()


def test_a_program_that_cannot_be_made_leaves_it_as_it_was(looking):
    program, noted = looking
    with pytest.raises(ValueError, match="no single number"):
        program(jnp.ones(2))
    assert noted == [False]
    assert gc.isenabled()


def test_who_looks_by_himself_goes_on_doing_so(looking):
    gc.disable()
    try:
        looking[0](jnp.float32(1))
        assert not gc.isenabled()
    finally:
        gc.enable()


COMMAND = """
import gc, sys
from neurosim.cli.commands import main
sys.argv = ["neurosim", "--version"]
assert gc.get_threshold()[0] < 10_000
try:
    main()
finally:
    assert gc.get_threshold()[0] == 50_000
    assert gc.get_freeze_count() > 10_000
"""


def test_a_command_looks_seldom_and_not_at_its_end():
    done = subprocess.run([sys.executable, "-c", COMMAND], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("neurosim ")
