"""The equations of motion, one file a model family."""

from neurosim.dynamics.base import Layered
from neurosim.dynamics.feedforward import Feedforward
from neurosim.dynamics.mixture import Mixture
from neurosim.dynamics.multiplexing import Multiplexing

DYNAMICS: dict[str, type[Layered]] = {
    "mixture": Mixture,
    "multiplexing": Multiplexing,
    "feedforward": Feedforward,
}
