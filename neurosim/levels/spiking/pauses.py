"""Networks of Brian2 that pause on their way, are kept, and go on in another process.

Brian2 stores all that a network is at the end of a time step, random numbers that are drawn ahead
and spikes on their way among it. A run that stops there and goes on computes the numbers of one
that does not.
"""

import math

import numpy as np

from neurosim.levels.keeping import Keep
from neurosim.levels.spiking.brian import b2

LOOK = 5e-3
"""About so much of the time of a network passes before it is asked again (s)."""

NAME = "kept"


def run(network: b2.Network, steps: int, dt: float, every: float, keep: Keep) -> bool:
    """Let a network run for so many steps of dt since its beginning; whether it came to their end.

    every: a multiple of dt, as all moments are at which monitors look. Its objects have the names
    that they have in every process.
    """

    def look() -> None:
        if keep.due():
            network.stop()

    period = every * max(1, math.ceil(LOOK / every))
    clock = b2.Clock(period * b2.second, name="looking_clock")
    network.add(b2.NetworkOperation(look, clock=clock, when="end", name="looking"))
    if keep.state is not None:
        network._stored_state[NAME] = keep.state
        network.restore(NAME, restore_random_state=True)
    while True:
        done = round(network.t_ / dt)
        if done >= steps:
            return True
        network.run((steps - done) * dt * b2.second, namespace={})
        if round(network.t_ / dt) < steps:
            # Where it stopped, in place of the clock that goes on.
            network.t_ = np.asarray(network.t_).item()
            network.store(NAME)
            if not keep.save(network._stored_state[NAME], network.t_):
                return False
