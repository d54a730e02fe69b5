"""What `neurosim analyze` finds out: where a network rests, how fast, and its learning signals."""

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float

from neurosim.bounds import inside
from neurosim.building import assembly
from neurosim.building.loading import Protocol
from neurosim.circuits.chain import links
from neurosim.credit import named
from neurosim.errors import DivergedError, InputError, either
from neurosim.levels.equilibrium import Equilibrium
from neurosim.models import circuitry, parameters
from neurosim.networks.circuit import CircuitDynamics, Signals
from neurosim.networks.dynamics import Readout, State, Target
from neurosim.networks.network import Layers, Network, Weights, standardized
from neurosim.plain import plain
from neurosim.plasticity.local import teaching
from neurosim.process import devices
from neurosim.process.compiled import compiled
from neurosim.reports import flows
from neurosim.reports.subjects import Subject, subject
from neurosim.runs import programs
from neurosim.specs import ModelSpec
from neurosim.theory import fixed_points, linearisation, signal_to_noise, stability
from neurosim.theory.decomposition import attribution, gradient_signals
from neurosim.theory.diagnosis import angle
from neurosim.theory.findings import Analysis, Inverses, LayerAnalysis, PhaseAnalysis
from neurosim.theory.linearisation import System, flat_size
from neurosim.theory.relaxation import chain

SMALL = 256
"""States up to which every sample's spectrum is computed; of larger networks the first two's."""

SEARCHED = 400
"""States up to which other fixed points are sought."""


def analyze(
    what: str | Path | Protocol,
    overrides: Mapping[str, Any] | None = None,
    *,
    seed: int | None = None,
    at: str | int | None = None,
    samples: int = 8,
    starts: int = 32,
) -> Analysis:
    """Fixed points, stability, relaxation and learning signals of a network, in float64.

    what: a model or a protocol (a file or a shipped name), or a trace. overrides: of its keys.
    seed: of the weights, and which of a trace's. at: of a trace, whose weights: `initial`, `final`
    (if not given), or a presentation at which they were recorded. samples: how many; test samples
    of the task, standard normal ones for a model alone. starts: from how many points other fixed
    points are sought.

    Raises:
        InputError: what cannot be loaded, or has no theory.
        DivergedError: no sample has a fixed point that was found.
    """
    seed, at, samples, starts = plain([seed, at, samples, starts])
    with programs.kept(), devices.numbers(x64=True), devices.on(None):
        return _analyze(subject(what, overrides or {}, seed, at, samples), starts)


class _Parts(NamedTuple):
    """What everything is computed from."""

    about: Subject
    dynamics: CircuitDynamics
    network: Network
    found: dict[str, Any]

    def system(self, kind: str, sample: int) -> System:
        drive = jax.tree.map(lambda a: a[sample], self.found[kind][0])
        return System(self.dynamics, self.network, self.about.weights, drive)

    def state(self, kind: str, sample: int) -> State:
        return jax.tree.map(lambda a: a[sample], self.found[kind][1].state)

    def readouts(self, kind: str) -> Any:
        """Of all samples."""
        drives, rests = self.found[kind]
        read = jax.vmap(self.dynamics.read, (None, None, 0, 0))
        return read(self.network, self.about.weights, drives, rests.state)

    def layers(self, kind: str) -> Readout:
        """What the readouts say of the layers of a chain."""
        return self.dynamics.layers(self.network, self.readouts(kind))

    @property
    def chain(self) -> Weights | None:
        """The weights of a chain of layers, of which alone inverses and signals are known."""
        known = links(self.dynamics.circuit) is not None
        return self.dynamics.chain(self.about.weights) if known else None

    @property
    def examined(self) -> range:
        """The samples whose spectra are computed."""
        count = len(self.about.x)
        return range(count if flat_size(self.dynamics, self.network) <= SMALL else min(count, 2))


def _analyze(about: Subject, starts: int) -> Analysis:
    model = about.model
    unspoken = [f"{about.name}: {message}" for message in circuitry.unspoken(model, "equilibrium")]
    if unspoken:  # what is analysed is how equations without spikes rest
        raise InputError(unspoken)
    if circuitry.circuit(model).convolves:
        raise InputError(
            f"{about.name}: has convolutions, and the theory of spectra, inverses and signals is "
            "of dense weights; 'neurosim check' says what is in it, and 'inspect' what a run did"
        )
    dynamics, network = assembly.dynamics(model).with_layers(), assembly.network(model)
    kinds, taught = ["none"], None
    credit = named(model.credit)
    if credit.normalized:
        chain = dynamics.chain(about.weights)
        assert chain is not None, "checked at load"
        network, x = standardized(network, chain, about.x)
        about = replace(about, x=x)
    if not credit.own_channel:
        stages = about.protocol.stages if about.protocol else []
        used = [phase.teaching for stage in stages for phase in stage.phases]
        default = "frozen" if _remembered(dynamics) else "following"
        taught = next((kind for kind in used if kind in ("following", "frozen")), default)
        kinds = list(dict.fromkeys(["none", *used, taught, "clamped"]))
    parts = _bounded(_Parts(about, dynamics, network, _rests(dynamics, network, about, kinds)))
    about = parts.about
    inverses = _inverses(parts, taught or "none") if _has_inverses(parts) else None
    exact = inverses is not None and max(inverses.errors, default=0.0) < 1e-8
    return Analysis(
        name=about.name,
        kind=about.kind,
        model=model.name,
        populations=list(model.populations),
        layers=list(model.layers),
        states=flat_size(dynamics, network),
        seed=about.seed,
        moment=about.moment,
        inputs=about.inputs,
        phases=[_phase(parts, kind, starts, exact) for kind in kinds],
        credit=_credit_named(model),
        taught=taught,
        signals=_signals(parts, taught or "none") if _has_signals(parts) else [],
        inverses=inverses,
        flow=flows.found(about),
    )


def _remembered(dynamics: CircuitDynamics) -> list[str]:
    """The phases whose ends the rule of W compares with."""
    forward = dynamics.circuit.projection.get("W")
    return [] if forward is None else [recalled.phase for _, recalled in forward.remembered]


def _has_inverses(parts: _Parts) -> bool:
    """Whether there are maps g, down a chain of layers, that should be inverses."""
    credit = named(parts.about.model.credit)
    if parts.chain is None or not parts.chain.Q:
        return False
    if credit.own_channel:
        return credit.form is not None
    feedback = parts.dynamics.circuit.projection["Q"]
    heard = {s.post.layer: 0 if s.pre is None else s.pre.layer for s in feedback.synapses}
    neighbors = {i: i + 1 for i in range(1, parts.network.depth)}
    return feedback.wire.dense and heard == neighbors and _encodes(parts)


def _encodes(parts: _Parts) -> bool:
    """Whether what comes down is encoded as the form says, so that g is what the cells do."""
    circuit = parts.dynamics.circuit
    feedback = circuit.projection["Q"]
    groups = [s.pre for s in feedback.synapses if s.pre is not None]
    return all("encode" in circuit.cell(g).right(feedback.wire.pre.name).functions for g in groups)


def _has_signals(parts: _Parts) -> bool:
    """Whether a chain of layers is taught sample by sample, by a rule that is text or a credit."""
    if parts.chain is None:
        return False
    credit = named(parts.about.model.credit)
    if credit.own_channel:
        return not credit.nodes
    return parts.dynamics.circuit.projection["W"].post is not None and _has_inverses(parts)


def _credit_named(model: ModelSpec) -> str:
    if model.credit is None:
        return "local rules"
    return model.credit.name if isinstance(model.credit.name, str) else "a credit of your own"


def _rests(
    dynamics: CircuitDynamics, network: Network, about: Subject, kinds: list[str]
) -> dict[str, Any]:
    """Every kind of phase of every sample; the root solver helps where sweeps do not settle."""

    @compiled
    def all_samples(
        weights: Any,
        x: Float[Array, "samples n_0"],
        y: Float[Array, "samples n_L"],
        how: Equilibrium,
    ) -> dict[str, Any]:
        def one(x: Float[Array, " n_0"], y: Float[Array, " n_L"]) -> dict[str, Any]:
            drive = dynamics.drive(network, weights, x, Target("none"))
            system = System(dynamics, network, weights, drive)
            return fixed_points.phases(system, about.model.target_step, y, kinds, how)

        return jax.vmap(one)(x, y)

    found = all_samples(about.weights, about.x, about.y, fixed_points.SWEEPS)
    if all(bool(rests.settled.all()) for _, rests in found.values()):
        return found
    return all_samples(about.weights, about.x, about.y, fixed_points.RESCUED)


def _bounded(parts: _Parts) -> _Parts:
    """What is left without samples of which some phase left all bounds: they have no numbers.

    Raises:
        DivergedError: none is left.
    """
    about, ok = parts.about, np.ones(len(parts.about.x), bool)
    lost = []
    for kind, (_, rests) in parts.found.items():
        leaves = jax.tree.leaves((rests.state, rests.residual))
        leaves = [np.asarray(v).reshape(len(ok), -1) for v in leaves]
        finite = np.logical_and.reduce([inside(v).all(axis=1) for v in leaves])
        lost += [] if finite.all() else [repr(kind)]
        ok &= finite
    if ok.all():
        return parts
    if not ok.any():
        raise DivergedError(
            f"{about.name}: no fixed point was found for any of {len(ok)} samples: with teaching "
            f"{either(lost)} the state leaves all bounds; {_calmer(parts)}"
        )
    kept = np.flatnonzero(ok)
    inputs = f"{about.inputs}, without {len(ok) - len(kept)} whose state leaves all bounds"
    found = jax.tree.map(lambda a: a[kept], parts.found)
    return parts._replace(
        about=replace(about, x=about.x[kept], y=about.y[kept], inputs=inputs), found=found
    )


def _calmer(parts: _Parts) -> str:
    """What keeps a network in bounds that has left them: a smaller mu, where one does."""
    about, model = parts.about, parts.about.model
    key = "parameters.mu" if about.protocol is None else "model.parameters.mu"
    mu = model.parameters.get("mu")
    for halvings in range(1, 6) if isinstance(mu, float | int) else ():
        less = mu / 2**halvings
        values = dict(model.parameters) | {"mu": less}
        dynamics = assembly.dynamics(model.model_copy(update={"parameters": values})).with_layers()
        found = _rests(dynamics, parts.network, about, list(parts.found))
        if all(inside(rests.residual).any() for _, rests in found.values()):
            return f"with {key} = {less:g} some have one"
    return (
        "weights of a smaller projections.W.gain, or feedback closer to inverses, such as "
        "projections.Q.init = 'pinv(W[i+1])', may have one"
    )


# --- phases -------------------------------------------------------------------------------------


def _phase(parts: _Parts, kind: str, starts: int, exact: bool) -> PhaseAnalysis:
    rests = parts.found[kind][1]
    spectra = [
        linearisation.modes(parts.system(kind, k), parts.state(kind, k)) for k in parts.examined
    ]
    known = [spectrum for spectrum in spectra if spectrum.known]
    first = next(iter(known), spectra[0])
    closed, error = (
        _closed_form(parts, kind, first.eigenvalues) if exact and known else (None, None)
    )
    return PhaseAnalysis(
        teaching=kind,
        residual=float(np.max(rests.residual)),
        settled=float(jnp.mean(rests.settled)),
        points=_points(parts, kind, starts),
        eigenvalues=first.eigenvalues,
        complete=first.complete,
        time_constant=max((s.time_constant for s in known), default=math.nan),
        stable=float(np.mean([s.stable for s in known])) if known else None,
        closed_form=closed,
        closed_form_error=error,
        durations=_durations(parts, kind),
        needed=_needed(parts, kind),
    )


def _points(parts: _Parts, kind: str, starts: int) -> list[tuple[int, bool]] | None:
    """Distinct fixed points of the first sample: how many starts lead there, and whether stable."""
    if not starts or flat_size(parts.dynamics, parts.network) > SEARCHED:
        return None
    system, like = parts.system(kind, 0), parts.state(kind, 0)
    begin = fixed_points.starts(system, starts, 3.0, jax.random.key(parts.about.seed))
    found = fixed_points.search(system, begin)
    unravel = ravel_pytree(like)[1]
    points = []
    for state, count in zip(found.states, found.counts, strict=True):
        matrix = linearisation.jacobian(system, unravel(jnp.asarray(state)))
        points.append((count, linearisation.spectrum(matrix).stable))
    return sorted(points, key=lambda point: (not point[1], -point[0]))


def _closed_form(
    parts: _Parts, kind: str, eigenvalues: np.ndarray
) -> tuple[np.ndarray | None, float | None]:
    """The spectrum of any network with exact inverses, and how far the computed one is from it.

    Where layers contract, directions that a layer does not send up end a chain of their own.
    """
    model, network = parts.about.model, parts.network
    if kind == "following" and network.loss.output == "softmax":
        return None, None  # the target bends with the output, unit by unit
    way = None if parameters.spreads(model) else chain(model, kind)
    if way is None:  # cells that differ have no unit that stands for all
        return None, None
    sizes = network.sizes[1:]
    contracting = [i for i in range(1, network.depth) if sizes[i - 1] > sizes[i]]
    ends = [chain(model, kind, i) for i in contracting]
    matrices = [way.A, *(end.A for end in ends if end is not None)]
    closed = np.concatenate([np.linalg.eigvals(matrix) for matrix in matrices])
    closed = closed[np.argsort(-closed.real)]
    gaps = np.abs(eigenvalues[:, None] - closed[None, :]).min(axis=1)
    return closed, float(gaps.max() / np.abs(closed).max())


def _durations(parts: _Parts, kind: str) -> dict[str, float]:
    protocol = parts.about.protocol
    if protocol is None or not protocol.timed:
        return {}
    several = len(protocol.stages) > 1
    return {
        f"{stage.name}.{phase.name}" if several else phase.name: phase.duration
        for stage in protocol.stages
        for phase in stage.phases
        if phase.teaching == kind and phase.duration is not None
    }


def _needed(parts: _Parts, kind: str) -> float | None:
    """How long the phase takes to settle to a hundredth of the learning signal (s)."""
    dynamics, network, model = parts.dynamics, parts.network, parts.about.model
    free, way = chain(model), chain(model, kind)
    if free is None or way is None or named(model.credit).own_channel:
        return None
    if not np.isfinite([free.slowest, way.slowest]).all():
        return None
    start = free.rest if kind in ("frozen", "clamped", "held") else np.zeros_like(way.b)
    layers = range(1, network.depth + 1)
    signal = model.target_step * np.array([float(dynamics.attenuation(network, i)) for i in layers])
    return way.until(start, 1e-2 * signal)


# --- signals ------------------------------------------------------------------------------------


def _inverses(parts: _Parts, taught: str) -> Inverses | None:
    network, weights, layers = parts.network, parts.chain, parts.layers(taught)
    assert weights is not None, "asked of chains"
    per_sample = [
        stability.bearings(network, weights, jax.tree.map(lambda a, k=k: a[k], layers))
        for k in range(len(parts.about.x))
    ]
    if not per_sample[0]:
        return None
    by_layer = list(zip(*per_sample, strict=True))
    tolerated, share = None, _share(parts)
    mixes = share > 0 and network.form == "inverse"
    if mixes and flat_size(parts.dynamics, network) <= SMALL:
        tolerated = stability.tolerated_error(parts.system(taught, 0), parts.state(taught, 0))
    return Inverses(
        errors=[float(np.max([b.error for b in layer])) for layer in by_layer],
        gains=[float(np.max([b.gain for b in layer])) for layer in by_layer],
        straddling=[float(np.mean([b.straddling for b in layer])) for layer in by_layer],
        kink_gain=stability.worst_kink_gain(share, network),
        tolerated=tolerated,
    )


def _share(parts: _Parts) -> float:
    """μ of a network that mixes, whose attenuation is (μ/(1−μ))^{L+1−i} [T 6.15]; 0 of others."""
    depth = parts.network.depth
    found = [float(parts.dynamics.attenuation(parts.network, i)) for i in range(1, depth + 1)]
    mixed = [found[-1] ** (depth + 1 - i) for i in range(1, depth + 1)]
    return found[-1] / (1 + found[-1]) if found[-1] < 1 and np.allclose(found, mixed) else 0.0


def _signals(parts: _Parts, taught: str) -> list[LayerAnalysis]:
    about, network, dynamics, weights = parts.about, parts.network, parts.dynamics, parts.chain
    assert weights is not None, "asked of chains"
    step, credit = about.model.target_step, named(about.model.credit)
    now = parts.layers(taught)
    free = parts.layers("none") if _remembered(dynamics) and not credit.own_channel else None
    if credit.own_channel:
        more = assembly.undisturbed(about.model)
        assign = jax.vmap(lambda now, y: credit.assign(network, weights, now, y, step, *more))
        signal = assign(now, about.y)
    else:
        given = network, about.weights, parts.readouts(taught), _before(parts)
        signal = teaching(dynamics, *given)

    def one(
        now: Readout, free: Readout | None, y: Float[Array, " n_L"], signal: Layers
    ) -> dict[str, Layers]:
        if credit.own_channel and credit.form is None:
            return gradient_signals(network, weights, now.rate, y, step) | {"signal": signal}
        direct = signal[len(weights.Q) :] if credit.own_channel else ()
        found = attribution(dynamics, network, weights, now, free, y, step, direct)
        known = zip(signal, found["tp"], found["rec"], strict=True)
        return found | {"signal": signal, "taylor": tuple(s - t - r for s, t, r in known)}

    found = jax.vmap(one, (0, None if free is None else 0, 0, 0))(now, free, about.y, signal)

    norm = lambda layer: float(jnp.mean(jnp.linalg.norm(layer, axis=-1)))  # noqa: E731
    between = lambda a, b: float(jnp.nanmean(jax.vmap(angle)(a, b)))  # noqa: E731
    ratios = _ratios(parts, taught, found["signal"])
    precision = about.protocol.precision if about.protocol else "float32"
    rows = []
    for i in range(network.depth):
        part = {name: layers[i] for name, layers in found.items()}
        size, targets = norm(part["signal"]), "tp" in part
        resolution = float(np.finfo(precision).eps) * norm(now.rate[i])
        digits = math.log10(size / resolution) if size and resolution else math.nan
        rows.append(
            LayerAnalysis(
                layer=i + 1,
                signal=size,
                tp=norm(part["tp"]) if targets else None,
                reconstruction=norm(part["rec"]) if targets else None,
                taylor=norm(part["taylor"]) if targets else None,
                to_tp=between(part["signal"], part["tp"]) if targets else None,
                to_gauss_newton=between(part["signal"], part["gn"]),
                to_backprop=between(part["signal"], part["bp"]),
                snr=ratios[i] if ratios else None,
                digits=digits if targets else None,
            )
        )
    return rows


def _before(parts: _Parts) -> dict[str, Signals]:
    """What the rule of W remembers: of phases by name, those of a protocol as they are taught."""
    protocol = parts.about.protocol
    stages = protocol.stages if protocol else []
    taught = {phase.name: phase.teaching for stage in stages for phase in stage.phases}
    names = dict.fromkeys(_remembered(parts.dynamics))
    return {name: parts.readouts(taught.get(name, "none")) for name in names}


def _ratios(parts: _Parts, taught: str, signals: Layers) -> list[float] | None:
    """Signal-to-noise of every layer: powers, summed over the samples examined."""
    dynamics, network = parts.dynamics, parts.network
    if not any(dynamics.noise.values()) or flat_size(dynamics, network) > linearisation.DENSE:
        return None
    powers = np.zeros((2, network.depth))
    for k in parts.examined:
        phases = [
            (parts.system(kind, k), parts.state(kind, k), reading)
            for kind, reading in _readings(parts, taught, k)
        ]
        signal = tuple(layer[k] for layer in signals)
        ratios = signal_to_noise.learning_signal(phases, signal)
        powers += np.array([[r.signal**2 for r in ratios], [r.noise**2 for r in ratios]])
    return [float(s / n) if n else math.inf for s, n in powers.T]


def _readings(
    parts: _Parts, taught: str, k: int
) -> list[tuple[str, signal_to_noise.OfPhases | signal_to_noise.OfChannel]]:
    """The phases that the learning signal of a sample compares, and how it reads each."""
    about, credit = parts.about, named(parts.about.model.credit)
    if credit.own_channel:
        given = about.y[k], about.model.target_step, assembly.undisturbed(about.model)
        return [(taught, signal_to_noise.OfChannel(credit, *given))]
    now, before = jax.tree.map(lambda a: a[k], (parts.readouts(taught), _before(parts)))
    kinds = [(taught, None), *(("none", name) for name in before)]
    return [(kind, signal_to_noise.OfPhases(name, now, before)) for kind, name in kinds]
