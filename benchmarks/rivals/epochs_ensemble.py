"""An ensemble of networks of a protocol that learns for an epoch whenever it is asked."""

import sys
from pathlib import Path

from serving import Problem, Solution, Solve, serve

sys.path.insert(0, str(Path(__file__).parents[1]))


def make(given: Problem) -> Solve:
    """So many networks in one program on a device, at the equilibrium level."""
    import jax
    from bench import Bench, protocol

    from neurosim.runs.launch import computing

    told = protocol(given["protocol"], {"level": "equilibrium", "precision": "float64"})
    with computing(told.spec, given["device"]):
        epoch = Bench(told, list(range(given["networks"]))).epoch()
        jax.block_until_ready(epoch())

    def solve() -> Solution:
        with computing(told.spec, given["device"]):
            jax.block_until_ready(epoch())
        return {}

    return solve


serve(make)
