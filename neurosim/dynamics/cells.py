"""Dynamics that are text: the cells of a model file as neurons of a layered network.

    forward   W_i up_{i−1}, what basal synapses bring (with the bias of layer 1 in it)
    feedback  what apical synapses bring: Q_i times what layer i+1 sends down, encoded as
              `model.feedback.form` says
    bias      b_i, 0 without biases
    target    h_L^trgt of the output layer; in phases without teaching what the layer itself sends
    s, slope  the transfer function of the layer and its derivative; t decodes apical potentials

A cell defines at least `up` and `down`, what it sends either way; `basal` and `apical`, its
dendritic potentials; `f` and `g`, what they predict; and `teacher`, what teaching moves.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Scalar

from neurosim.circuits.cells import Cell
from neurosim.circuits.description import DENDRITES, FUNCTIONS, sent
from neurosim.circuits.expressions import Expression
from neurosim.dynamics.base import Drive, Dynamics, Readout, State
from neurosim.network import Layers, Network, Weights

ELEMENTARY: dict[str, Callable] = {
    **{n: getattr(jnp, n) for n in ("exp", "log", "log1p", "expm1", "sqrt", "tanh", "sin", "cos")},
    "abs": jnp.abs,
    "clip": jnp.clip,
    "int": lambda condition: condition * 1.0,
}


class Cells(Dynamics):
    """Hidden layers of one cell, an output layer of another.

    parameters: by name; times in s. decay: by how much the teaching signal of layer i of L is
    expected to shrink, an expression. sigma: of noise, by compartment.
    """

    hidden: Cell = eqx.field(static=True)
    output: Cell = eqx.field(static=True)
    parameters: dict[str, Scalar | float]
    decay: Expression = eqx.field(static=True)
    sigma: dict[str, Scalar | float] = eqx.field(default_factory=dict)

    credits: ClassVar[tuple[str, ...]] = ("single-phase", "two-phase")

    @property
    def observed(self) -> tuple[str, ...]:  # type: ignore[override]
        """The compartments, and what the dendrites predict."""
        return (*self.hidden.states, *(n for n in ("f", "g") if n not in self.hidden.states))

    def observe(self, state: State, readout: Readout) -> dict[str, Layers]:
        return {"f": readout.basal, "g": readout.apical} | state

    @property
    def sent(self) -> str:
        """The compartment that spikes speak of."""
        return sent(self.hidden)

    def with_synapses(self, tau: float) -> "Cells":
        """The same, with dendrites that smooth what spikes bring where they followed at once."""
        hidden, output = (
            cell.smoothed(DENDRITES, "tau_synapse", FUNCTIONS)
            for cell in (self.hidden, self.output)
        )
        parameters = self.parameters | {"tau_synapse": tau}
        return replace(self, hidden=hidden, output=output, parameters=parameters)

    @property
    def time_constants(self) -> dict[str, Any]:
        """−1/F' of every compartment, at rest and without input."""
        return {name: -1 / self._slope_at_zero(name) for name in self.hidden.states}

    def _slope_at_zero(self, name: str):
        functions = ELEMENTARY | dict.fromkeys(FUNCTIONS, lambda v: v)

        def velocity(v):
            given = self.parameters | {name: v}
            return self.hidden.velocity(name, lambda n: given.get(n, jnp.zeros(())), functions)

        return jax.jvp(velocity, (jnp.zeros(()),), (jnp.ones(()),))[1]

    @property
    def noise(self):
        return self.sigma

    def layers(self, network: Network, compartment: str) -> int:
        return network.depth if compartment in self.output.states else network.depth - 1

    def attenuation(self, network: Network, i: int):
        """The expression in i, L and the parameters."""
        return self.decay(self.parameters | {"i": i, "L": network.depth}, ELEMENTARY)

    # --- what a layer is given ------------------------------------------------------------------

    def _cell(self, network: Network, i: int) -> Cell:
        return self.output if i == network.depth else self.hidden

    def _functions(self, network: Network, i: int) -> dict[str, Callable]:
        own = {
            "s": lambda a: network.s(i, a),
            "slope": lambda a: network.slope(i, a),
            "t": lambda a: network.decode(i, a),
        }
        return ELEMENTARY | own

    def _given(self, network: Network, weights: Weights, drive: Drive, state: State, i: int):
        """Values of what the cell of layer i takes, by name, when they are asked for."""

        def of(name: str):
            if name in state:
                return state[name][i - 1]
            if name in self.parameters:
                return self.parameters[name]
            match name:
                case "forward" if i == 1:
                    return drive.basal
                case "forward":
                    return weights.W[i - 1] @ self.quantity(
                        "up", network, weights, drive, state, i - 1
                    )
                case "feedback":
                    above = self.quantity("down", network, weights, drive, state, i + 1)
                    return network.apical(weights, i, above)
                case "bias":
                    return weights.b[i - 1] if weights.b and i > 1 else 0.0
                case "target":
                    sent = self.quantity("up", network, weights, drive, state, i)
                    return drive.target(network, sent)
                case _:
                    raise AssertionError(f"{name} was checked to be known")

        return of

    def quantity(
        self, name: str, network: Network, weights: Weights, drive: Drive, state: State, i: int
    ) -> Float[Array, " n_i"]:
        """Any quantity of the cells of layer i."""
        given = self._given(network, weights, drive, state, i)
        return self._cell(network, i).value(name, given, self._functions(network, i))

    # --- what every level asks ------------------------------------------------------------------

    def velocity(self, network: Network, weights: Weights, drive: Drive, state: State, name, i):
        given = self._given(network, weights, drive, state, i)
        return self._cell(network, i).velocity(name, given, self._functions(network, i))

    def pull(self, network: Network, weights: Weights, drive: Drive, state: State, name, i):
        """v − F(v)/F'(v): where F vanishes, if it is linear in v; a Newton step towards it if not.

        F' is elementwise: what the synapses bring is held.
        """
        cell, functions = self._cell(network, i), self._functions(network, i)
        given = self._given(network, weights, drive, state, i)
        held = {n: given(n) for n in cell.needed([name]) if n not in cell.defined}

        def velocity(v):
            def of(n):
                return v if n == name else (held[n] if n in held else given(n))

            return cell.velocity(name, of, functions)

        v = state[name][i - 1]
        moved, slope = jax.jvp(velocity, (v,), (jnp.ones_like(v),))
        return v - moved / slope

    def read(self, network: Network, weights: Weights, drive: Drive, state: State) -> Readout:
        def of_layers(name: str, count: int) -> Layers:
            return tuple(
                self.quantity(name, network, weights, drive, state, i) for i in range(1, count + 1)
            )

        basal = of_layers("basal", network.depth)
        return Readout(
            rate=of_layers("up", network.depth),
            basal=of_layers("f", network.depth),
            slope=tuple(network.slope(i, a) for i, a in enumerate(basal, start=1)),
            apical=of_layers("g", network.depth),
            teacher=of_layers("teacher", network.depth),
            downward=of_layers("down", network.depth),
            apical_potential=of_layers("apical", network.depth - 1),
        )
