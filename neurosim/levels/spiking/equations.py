"""The rate equations of a layer in the language of Brian2.

`dynamics/` holds the same equations for JAX; the bridge test holds the two equal to rounding. Per
layer i they say what the compartments are drawn to and which two signals leave the neuron, `up` to
the basal dendrites above and `down` to the apical dendrites below:

    basal_in_i = W_i up_{i−1},   apical_in_i = Q_i down_{i+1}.

A noiseless network sends its rates themselves; a spiking one what its spikes say of them. That is
the only difference between the levels.
"""

from math import inf

from neurosim.activations import Activation, LeakyReLU, Linear, Sigmoid, Softplus, Tanh
from neurosim.dynamics import Mixture, Multiplexing
from neurosim.dynamics.base import Dynamics
from neurosim.levels.spiking.neurons import Neurons
from neurosim.network import Network

MARGIN = 1e-2
"""How far estimated rates are kept inside the domain of an inverse that is bounded."""


def transfer(activation: Activation, a: str) -> str:
    """s(a) as an expression."""
    match activation:
        case Linear():
            return a
        case LeakyReLU(slope=slope):
            return f"{a} * (int({a} > 0) + {slope!r} * int({a} <= 0))"
        case Tanh():
            return f"tanh({a})"
        case Sigmoid():
            return f"1 / (1 + exp(-({a})))"
        case Softplus():
            return f"log1p(exp(-abs({a}))) + clip({a}, 0, inf)"
    raise TypeError(f"{activation} is not known to Brian2")


def inverse(activation: Activation, h: str) -> str:
    """s⁻¹(h) as an expression."""
    match activation:
        case Linear():
            return h
        case LeakyReLU(slope=slope):
            return f"{h} * (int({h} > 0) + {1 / slope!r} * int({h} <= 0))"
        case Tanh():
            return f"0.5 * log((1 + {h}) / (1 - {h}))"
        case Sigmoid():
            return f"log({h}) - log1p(-{h})"
        case Softplus():
            return f"{h} + log(-expm1(-{h}))"
    raise TypeError(f"{activation} is not known to Brian2")


def derivative(activation: Activation, a: str) -> str:
    """s'(a) as an expression."""
    match activation:
        case Linear():
            return "1"
        case LeakyReLU(slope=slope):
            return f"int({a} > 0) + {slope!r} * int({a} <= 0)"
        case Tanh():
            return f"1 - tanh({a})**2"
        case Sigmoid():
            return f"1 / (1 + exp(-({a}))) / (1 + exp({a}))"
        case Softplus():
            return f"1 / (1 + exp(-({a})))"
    raise TypeError(f"{activation} is not known to Brian2")


def known(activation: Activation) -> bool:
    """Whether the expressions above exist."""
    return isinstance(activation, Linear | LeakyReLU | Tanh | Sigmoid | Softplus)


def within(activation: Activation, h: str) -> str:
    """h kept inside the domain of s⁻¹."""
    low, high = activation.domain or (-inf, inf)
    if low == -inf and high == inf:
        return h
    top = f"{high - MARGIN!r}" if high < inf else "inf"
    return f"clip({h}, {low + MARGIN!r}, {top})"


def units(dynamics: Dynamics, network: Network, i: int, neurons: Neurons | None) -> str:
    """The equations of the units of layer i; without neurons, of the noiseless rate model."""
    match dynamics:
        case Mixture():
            lines = _mixture(dynamics, network, i, neurons)
        case Multiplexing():
            lines = _multiplexing(dynamics, network, i, neurons)
        case _:
            raise TypeError(f"{type(dynamics).__name__} is not known to Brian2")
    lines += ["basal_in : 1", "bias : 1 (constant)"]
    if neurons is not None:
        lines.append("dbasal_sum/dt = basal/second : 1")
    if i < network.depth:
        lines.append("apical_in : 1")
        if neurons is not None:
            lines.append("dapical_sum/dt = apical/second : 1")
    else:
        lines += ["target : 1", "taught : 1"]
    return "\n".join(lines)


def _dendrite(dynamics: Dynamics, name: str, pull: str, smoothed: bool = False) -> str:
    """A dendritic potential with its time constant, or one that follows at once.

    smoothed: whether its inputs were filtered before they came.
    """
    if getattr(dynamics, f"tau_{name}") is None:
        return f"{name} = {pull} : 1"
    noise = _noise(dynamics, name)
    if not smoothed:
        return f"d{name}/dt = ({pull} - {name})/tau_{name}{noise} : 1"
    if not noise:
        return f"{name} = {pull} : 1"
    return (
        f"{name} = {pull} + {name}_noise : 1\n"
        f"d{name}_noise/dt = -{name}_noise/tau_{name}{noise} : 1"
    )


def _noise(dynamics: Dynamics, name: str) -> str:
    """The noise of a compartment, shared by the neurons of an ensemble.

    Euler's steps of dt hold σ with a little less than √(2/τ).
    """
    sigma = dynamics.noise.get(name, 0.0)
    return f" + {sigma!r} * sqrt((2 - dt/tau_{name})/tau_{name}) * xi_{name}" if sigma else ""


def _decode(network: Network, i: int) -> str:
    """The dendritic rate of the apical potential."""
    if network.form == "autoencoder":
        return transfer(network.activations[i - 1], "apical")
    return "apical"


def _encode(network: Network, i: int, h: str) -> str:
    """What the apical synapses below layer i receive when it sends h."""
    if network.form == "autoencoder":
        return h
    return f"{inverse(network.activations[i - 1], h)} - bias"


def filtered_first(network: Network, i: int) -> bool:
    """Whether what layer i sends down passes a nonlinearity, before which spikes are smoothed.

    The apical filter then stands in front of it, and the dendrite below follows at once.
    """
    return network.form == "inverse" and not isinstance(network.activations[i - 1], Linear)


def _apical(dynamics: Dynamics, network: Network, i: int, neurons: Neurons | None) -> list[str]:
    if i == network.depth:
        return []
    smoothed = neurons is not None and (neurons.bursts or filtered_first(network, i + 1))
    return [_dendrite(dynamics, "apical", "apical_in", smoothed)]


def _sends(up: str, down: str) -> list[str]:
    """What leaves a neuron, settled once a step and not once a synapse."""
    return [f"up = {up} : 1 (constant over dt)", f"down = {down} : 1 (constant over dt)"]


def _mixture(dynamics: Mixture, network: Network, i: int, neurons: Neurons | None) -> list[str]:
    """τ dh/dt = −h + (1−μ) f + μ g [T 6.1]."""
    top = i == network.depth
    lines = [
        _dendrite(dynamics, "basal", "basal_in + bias"),
        *_apical(dynamics, network, i, neurons),
        f"predicted = {transfer(network.activations[i - 1], 'basal')} : 1",
        "fed_back = "
        + ("taught * target + (1 - taught) * soma" if top else _decode(network, i))
        + " : 1",
        "dsoma/dt = ((1 - mu) * predicted + mu * fed_back - (1 + leak) * soma)/tau_soma"
        f"{_noise(dynamics, 'soma')} : 1",
    ]
    if neurons is None:
        return [
            *lines,
            "up = soma : 1 (constant over dt)",
            f"down = {_encode(network, i, 'soma')} : 1 (constant over dt)",
        ]
    return [*lines, *_rate_coded(network, i, neurons, "soma", "tau_apical")]


def _rate_coded(network: Network, i: int, neurons: Neurons, h: str, tau: str) -> list[str]:
    """Neurons whose spikes speak of h, and what leaves them; tau: of what smooths spikes."""
    felt = within(network.activations[i - 1], "felt")
    source = "kept" if filtered_first(network, i) else "sent"
    return [
        neurons.drive(h),
        "spikes : 1",
        "spike_count : 1",
        f"sent = spikes * {neurons.per_spike!r} - {neurons.base_in_h!r} : 1",
        f"dfelt/dt = (sent - felt)/{tau} : 1",
        f"kept = {felt} : 1",
        *_sends("sent", _encode(network, i, source)),
    ]


def _multiplexing(
    dynamics: Multiplexing, network: Network, i: int, neurons: Neurons | None
) -> list[str]:
    """h_i = s_i(a_i^b), ĥ_i = t_i(a_i^a), ĥ_L = h_L^trgt [T 6.43–6.46]."""
    top = i == network.depth
    lines = [
        _dendrite(dynamics, "basal", "basal_in + bias"),
        *_apical(dynamics, network, i, neurons),
        f"predicted = {transfer(network.activations[i - 1], 'basal')} : 1",
        "fed_back = "
        + ("taught * target + (1 - taught) * predicted" if top else _decode(network, i))
        + " : 1",
    ]
    if neurons is None:
        return [
            *lines,
            "up = predicted : 1 (constant over dt)",
            f"down = {_encode(network, i, 'fed_back')} : 1 (constant over dt)",
        ]
    felt = within(network.activations[i - 1], "felt") if filtered_first(network, i) else "felt"
    return [
        *lines,
        neurons.drive("predicted"),
        neurons.burst_drive("fed_back"),
        "events : 1",
        "bursts : 1",
        "event_count : 1",
        "burst_count : 1",
        f"devent_trace/dt = (events * {neurons.per_spike!r} - event_trace)/tau_apical : 1",
        f"dburst_trace/dt = (bursts * {neurons.per_spike!r} - burst_trace)/tau_apical : 1",
        f"felt = (burst_trace / clip(event_trace, {neurons.base_in_h * 1e-3!r}, inf)"
        f" - {neurons.base_probability!r}) / {neurons.probability_gain!r} : 1",
        f"kept = {felt} : 1",
        *_sends(
            f"events * {neurons.per_spike!r} - {neurons.base_in_h!r}", _encode(network, i, "kept")
        ),
    ]
