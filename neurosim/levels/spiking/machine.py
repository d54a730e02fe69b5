"""A layered network in Brian2: parallel copies of it, driven from phase to phase.

One group of units a layer, copy by copy, and beneath it one group of neurons; synapses live
between units, since all neurons of an ensemble share their dendrites. Weights, inputs and targets
are written in place while it runs. Without neurons it integrates the rate equations themselves.
"""

import signal
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import numpy as np

from neurosim.dynamics import Dynamics
from neurosim.errors import NeurosimWarning
from neurosim.levels.spiking.equations import units
from neurosim.levels.spiking.neurons import Neurons
from neurosim.network import Network, Weights

_interrupt = signal.getsignal(signal.SIGINT)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Brian2's own imports say of their future
    import brian2 as b2
    from brian2.devices.device import auto_target
# Brian2 takes Ctrl-C for itself, to end a run early as if all were well; it is the process's own.
signal.signal(signal.SIGINT, _interrupt)

# A network is some thirty programs, each compiled when it is first needed: a third faster than with
# -O3, for a few percent of the speed they then have.
b2.prefs.codegen.cpp.extra_compile_args_gcc = [
    "-O1" if flag == "-O3" else flag for flag in b2.prefs.codegen.cpp.extra_compile_args_gcc
]

Program = Iterator[int]
"""What happens to a machine: it acts on it, then yields for how many steps (≥ 1) to let it run."""


@cache
def _compiled() -> str:
    """Cython where it can be had; else numpy, which is said once."""
    chosen: str = auto_target().class_name
    if chosen != "cython":
        warnings.warn(
            "Brian2 finds no C++ compiler and runs in plain numpy, ten times slower; install one, "
            "or write spiking.target = 'numpy' to say that this is meant",
            NeurosimWarning,
            stacklevel=2,
        )
    return chosen


class Machine:
    """Copies of a network that run side by side under the same weights.

    Objects have the same names in every machine, so that what is compiled serves the next one too.

    Args:
        dynamics, network: as at the other levels.
        neurons: the spike generators; None for the rate equations themselves.
        dt: step (s).
        copies: how many.
        leak: conductance of the somatic leak over that of both dendrites.
        target: `cython`, `numpy`, or `auto`: Cython where there is a compiler.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        network: Network,
        neurons: Neurons | None,
        dt: float,
        copies: int,
        leak: float = 0.0,
        target: str = "auto",
    ) -> None:
        self._target = b2.prefs.codegen.target = _compiled() if target == "auto" else target
        self.network, self.neurons, self.copies = network, neurons, copies
        self._clock = b2.Clock(dt * b2.second, name="clock")
        self.dt, self._dt = dt, dt * b2.second
        self._namespace: dict[str, Any] = {"leak": leak, "inf": np.inf}
        if hasattr(dynamics, "mu"):
            self._namespace["mu"] = float(dynamics.mu)
        for name in ("tau_soma", "tau_basal", "tau_apical"):
            if getattr(dynamics, name, None) is not None:
                self._namespace[name] = float(getattr(dynamics, name)) * b2.second
        self.units = [self._units(dynamics, i) for i in range(1, network.depth + 1)]
        self.cells = [self._cells(k, neurons) for k in range(network.depth)] if neurons else []
        self._basal, self._apical = [], []
        for i in range(1, network.depth):
            self._basal.append(self._project(i, i + 1, "basal_in", "up"))
            self._apical.append(self._project(i + 1, i, "apical_in", "down"))
        self._program: Program = iter(())
        self._left = 0
        act = b2.NetworkOperation(
            self._act, clock=self._clock, when="before_start", order=-1, name="program"
        )
        spikes = [self._tell(k, neurons) for k in range(network.depth)] if neurons else []
        self._monitors = [self._monitor(k) for k in range(len(self.cells))]
        self._brian = b2.Network(
            act, *self.units, *self.cells, *spikes, *self._basal, *self._apical, *self._monitors
        )

    # --- what it is made of -----------------------------------------------------------------

    def _units(self, dynamics: Dynamics, i: int) -> Any:
        group = b2.NeuronGroup(
            self.copies * self.network.sizes[i],
            units(dynamics, self.network, i, self.neurons),
            method="euler",
            clock=self._clock,
            namespace=self._namespace | (self.neurons.namespace(b2) if self.neurons else {}),
            name=f"units{i}",
        )
        if self.neurons is not None:  # spikes count for the step after theirs
            counts = "events = 0; bursts = 0" if self.neurons.bursts else "spikes = 0"
            group.run_regularly(
                counts.replace("; ", "\n"),
                when="after_groups",
                clock=self._clock,
                name=f"units{i}_forget",
            )
        return group

    def _cells(self, k: int, neurons: Neurons) -> Any:
        group = self.units[k]
        cells = b2.NeuronGroup(
            len(group) * neurons.count,
            neurons.equations,
            threshold=neurons.threshold,
            reset=neurons.reset,
            refractory=neurons.refractory * b2.second if neurons.kind == "lif" else False,
            method="euler",
            clock=self._clock,
            namespace=neurons.namespace(b2),
            name=f"cells{k + 1}",
        )
        unit = np.arange(len(cells)) // neurons.count
        for name in neurons.told:
            setattr(cells, name, b2.linked_var(group, name, index=unit))
        return cells

    def _tell(self, k: int, neurons: Neurons) -> Any:
        """Every neuron of a layer tells its unit of its spikes."""
        cells, group = self.cells[k], self.units[k]
        told = b2.Synapses(
            cells,
            group,
            on_pre=neurons.on_spike,
            clock=self._clock,
            namespace={},
            name=f"telling{k + 1}",
        )
        told.connect(i=np.arange(len(cells)), j=np.arange(len(cells)) // neurons.count)
        return told

    def _monitor(self, k: int) -> Any:
        monitor = b2.SpikeMonitor(self.cells[k], name=f"spikes{k + 1}")
        monitor.active = False
        return monitor

    def _project(self, pre: int, post: int, received: str, sent: str) -> Any:
        """All-to-all synapses from layer to layer within every copy, post-synaptic unit first."""
        synapses = b2.Synapses(
            self.units[pre - 1],
            self.units[post - 1],
            f"weight : 1\n{received}_post = weight * {sent}_pre : 1 (summed)",
            clock=self._clock,
            namespace={},
            name=f"{sent}{pre}",
        )
        n_pre, n_post = self.network.sizes[pre], self.network.sizes[post]
        copy, q, p = np.meshgrid(
            np.arange(self.copies), np.arange(n_post), np.arange(n_pre), indexing="ij"
        )
        synapses.connect(i=(copy * n_pre + p).ravel(), j=(copy * n_post + q).ravel())
        return synapses

    # --- acting on it -----------------------------------------------------------------------

    def reseed(self, seed: int) -> None:
        """The spikes to come are drawn from this seed, an integer of 32 bits."""
        b2.seed(seed)

    @contextmanager
    def recording(self, copies: int) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
        """Runs within record the spikes of some copies: per layer, times (s from now), neurons."""
        start = self._clock.variables["t"].get_value().item()
        recorded: list[tuple[np.ndarray, np.ndarray]] = []
        already = [monitor.num_spikes for monitor in self._monitors]
        for monitor in self._monitors:
            monitor.active = True
        try:
            yield recorded
        finally:
            for monitor, n in zip(self._monitors, already, strict=True):
                monitor.active = False
                # In whole steps from now on, lest the clock's last digits tell what came before.
                steps = np.rint((np.asarray(monitor.t_[n:]) - start) / self.dt)
                times, nodes = steps * self.dt, np.asarray(monitor.i[n:])
                kept = nodes < len(monitor.source) * copies // self.copies
                recorded.append((times[kept], nodes[kept]))

    def run(self, program: Program, steps: int) -> None:
        """Let a program act for so many steps, which must be the sum of what it yields."""
        kept = np.random.get_state()
        b2.prefs.codegen.target = self._target
        try:
            self._program, self._left = program, 0
            self._brian.run(steps * self._dt, namespace={})
            next(program, None)
        finally:
            np.random.set_state(kept)

    def _act(self) -> None:
        if self._left == 0:
            self._left = next(self._program)
        self._left -= 1

    def array(self, i: int, name: str) -> np.ndarray:
        """A variable of the units of layer i in place, shape (copies, n_i)."""
        values = self.units[i - 1].variables[name].get_value()
        return values.reshape(self.copies, -1)

    def has(self, i: int, name: str) -> bool:
        """Whether the units of layer i hold such a variable in memory."""
        variables = self.units[i - 1].variables
        return name in variables and isinstance(variables[name], b2.core.variables.ArrayVariable)

    def rest(self, rng: np.random.Generator | None = None) -> None:
        """Everything at rest; neurons somewhere in their cycle at the base rate."""
        for i in range(1, self.network.depth + 1):
            for name in (*RESTING, *COUNTED):
                if self.has(i, name):
                    self.array(i, name)[:] = 0
            if self.has(i, "event_trace"):
                assert self.neurons is not None
                self.array(i, "event_trace")[:] = self.neurons.base_in_h
                self.array(i, "burst_trace")[:] = (
                    self.neurons.base_in_h * self.neurons.base_probability
                )
        if self.neurons is not None:
            assert rng is not None, "neurons start somewhere in their cycle"
            step = int(self._clock.variables["timestep"].get_value().item())
            for cells in self.cells:
                start = self.neurons.start(rng, len(cells), step)
                for name, values in start.items():
                    cells.variables[name].get_value()[:] = values

    def apical(self, i: int) -> np.ndarray:
        """The apical potential of layer i, shape (copies, n_i)."""
        if self.has(i, "apical"):
            return self.array(i, "apical").copy()
        noise = self.array(i, "apical_noise") if self.has(i, "apical_noise") else 0.0
        return self.array(i, "apical_in") + noise

    def write_weights(self, weights: Weights) -> None:
        """The weights and biases of all layers."""
        for synapses, w in zip(self._basal, weights.W[1:], strict=True):
            self._write(synapses, np.asarray(w))
        for synapses, q in zip(self._apical, weights.Q, strict=True):
            self._write(synapses, np.asarray(q))
        for i, b in enumerate(weights.b, start=1):
            self.array(i, "bias")[:] = np.asarray(b)

    def _write(self, synapses: Any, matrix: np.ndarray) -> None:
        held = synapses.variables["weight"].get_value()
        held.reshape(self.copies, *matrix.shape)[:] = matrix

    def drive(self, basal: np.ndarray) -> None:
        """The input of every copy as W_1 x, shape (copies, n_1)."""
        self.array(1, "basal_in")[:] = basal

    def teach(self, target: np.ndarray | None) -> None:
        """h_L^trgt of every copy, shape (copies, n_L); None for the short-circuit h_L."""
        top = self.network.depth
        self.array(top, "taught")[:] = target is not None
        if target is not None:
            self.array(top, "target")[:] = target

    def tally(self) -> dict[str, list[Any]]:
        """What was counted and summed so far, by layer; None where a layer has no such thing."""
        layers = range(1, self.network.depth + 1)
        return {
            name: [self.array(i, name).copy() if self.has(i, name) else None for i in layers]
            for name in COUNTED
        }


RESTING = (
    *("basal", "apical", "soma", "felt", "basal_in", "apical_in", "apical_noise"),
    *("spikes", "events", "bursts"),
)
COUNTED = ("spike_count", "event_count", "burst_count", "basal_sum", "apical_sum")
