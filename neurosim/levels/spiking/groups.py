"""What a layered network is made of in Brian2: parallel copies of it.

One group of units a layer, copy by copy, and beneath it one group of neurons; synapses live
between units, since all neurons of an ensemble share their dendrites. Without neurons the units
integrate the rate equations themselves.
"""

import signal
import warnings
from typing import Any

import numpy as np

from neurosim.dynamics.base import Dynamics
from neurosim.levels.spiking.equations import units
from neurosim.levels.spiking.neurons import Neurons
from neurosim.network import Network

_interrupt = signal.getsignal(signal.SIGINT)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # what Brian2's own imports say of their future
    import brian2 as b2
    from brian2.codegen.runtime.cython_rt.extension_manager import get_cython_cache_dir
    from brian2.devices.device import auto_target, reset_device
# Brian2 takes Ctrl-C for itself, to end a run early as if all were well; it is the process's own.
signal.signal(signal.SIGINT, _interrupt)

__all__ = ["Groups", "auto_target", "b2", "get_cython_cache_dir", "reset_device"]


class Groups:
    """Copies of a network, side by side, as objects of Brian2's device of the moment.

    Objects have the same names whenever they are made, so that what is compiled serves again:
    `units1` …, the neurons `cells1` … beneath them, and the synapses `up1` … and `down2` … by the
    layer that sends.

    Args: as of a `Machine`.
    """

    def __init__(
        self,
        dynamics: Dynamics,
        network: Network,
        neurons: Neurons | None,
        dt: float,
        copies: int,
        leak: float,
    ) -> None:
        self.network, self.neurons, self.copies, self.dt = network, neurons, copies, dt
        self.clock = b2.Clock(dt * b2.second, name="clock")
        self._called = neurons.namespace(b2) if neurons else {}
        self._namespace: dict[str, Any] = {"leak": leak, "inf": np.inf}
        if hasattr(dynamics, "mu"):
            self._namespace["mu"] = float(dynamics.mu)
        for name in ("tau_soma", "tau_basal", "tau_apical"):
            if getattr(dynamics, name, None) is not None:
                self._namespace[name] = float(getattr(dynamics, name)) * b2.second
        self.units = [self._units(dynamics, i) for i in range(1, network.depth + 1)]
        self.cells = [self._cells(k, neurons) for k in range(network.depth)] if neurons else []
        self.synapses = []
        for i in range(1, network.depth):
            self.synapses.append(self._project(i, i + 1, "basal_in", "up"))
            self.synapses.append(self._project(i + 1, i, "apical_in", "down"))
        self._told = [self._tell(k, neurons) for k in range(network.depth)] if neurons else []

    @property
    def all(self) -> list[Any]:
        """Every object of the network."""
        return [*self.units, *self.cells, *self._told, *self.synapses]

    @property
    def arrays(self) -> dict[tuple[str, str], Any]:
        """Variables that live in memory, by the names of group and variable."""
        found = {
            (group.name, name): variable
            for group in (*self.units, *self.cells)
            for name, variable in group.variables.items()
            if isinstance(variable, b2.core.variables.ArrayVariable)
        }
        weights = {(s.name, "weight"): s.variables["weight"] for s in self.synapses}
        return found | weights

    def _units(self, dynamics: Dynamics, i: int) -> Any:
        group = b2.NeuronGroup(
            self.copies * self.network.sizes[i],
            units(dynamics, self.network, i, self.neurons),
            method="euler",
            clock=self.clock,
            namespace=self._namespace | self._called,
            name=f"units{i}",
        )
        if self.neurons is not None:  # spikes count for the step after theirs
            counts = "events = 0; bursts = 0" if self.neurons.bursts else "spikes = 0"
            group.run_regularly(
                counts.replace("; ", "\n"),
                when="after_groups",
                clock=self.clock,
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
            clock=self.clock,
            namespace=self._called,
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
            clock=self.clock,
            namespace={},
            name=f"telling{k + 1}",
        )
        told.connect(i=np.arange(len(cells)), j=np.arange(len(cells)) // neurons.count)
        return told

    def _project(self, pre: int, post: int, received: str, sent: str) -> Any:
        """All-to-all synapses from layer to layer within every copy, post-synaptic unit first."""
        synapses = b2.Synapses(
            self.units[pre - 1],
            self.units[post - 1],
            f"weight : 1\n{received}_post = weight * {sent}_pre : 1 (summed)",
            clock=self.clock,
            namespace={},
            name=f"{sent}{pre}",
        )
        n_pre, n_post = self.network.sizes[pre], self.network.sizes[post]
        copy, q, p = np.meshgrid(
            np.arange(self.copies), np.arange(n_post), np.arange(n_pre), indexing="ij"
        )
        synapses.connect(i=(copy * n_pre + p).ravel(), j=(copy * n_post + q).ravel())
        return synapses
