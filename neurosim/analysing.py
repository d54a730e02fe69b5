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

from neurosim import build, devices, programs
from neurosim._plain import plain
from neurosim.compiled import compiled
from neurosim.credit import named
from neurosim.dynamics import DYNAMICS, Mixture
from neurosim.dynamics.base import Dynamics, State, Target
from neurosim.errors import DivergedError, either
from neurosim.findings import Analysis, Inverses, LayerAnalysis, PhaseAnalysis
from neurosim.levels.equilibrium import Equilibrium
from neurosim.loading import Protocol
from neurosim.network import Layers, Network, standardized
from neurosim.spec import ModelSpec
from neurosim.subjects import Subject, subject
from neurosim.theory import fixed_points, linearisation, signal_to_noise, stability
from neurosim.theory.decomposition import attribution, gradient_signals
from neurosim.theory.diagnosis import angle
from neurosim.theory.linearisation import System, flat_size
from neurosim.theory.relaxation import chain

SMALL = 256
"""States up to which every sample's spectrum is computed; of larger networks the first two's."""

SHIPPED = tuple(DYNAMICS.values())
"""Families that have a chain to compare with; a user's own may not be made for one unit a layer."""

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
    dynamics: Any
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

    @property
    def examined(self) -> range:
        """The samples whose spectra are computed."""
        count = len(self.about.x)
        return range(count if flat_size(self.dynamics, self.network) <= SMALL else min(count, 2))


def _analyze(about: Subject, starts: int) -> Analysis:
    model = about.model
    dynamics, network = build.dynamics(model), build.network(model)
    kinds, taught = ["none"], None
    credit = named(model.credit)
    if credit.normalized:
        network, x = standardized(network, about.weights, about.x)
        about = replace(about, x=x)
    if not credit.own_channel:
        stages = about.protocol.stages if about.protocol else []
        used = [phase.teaching for stage in stages for phase in stage.phases]
        default = "frozen" if credit.kind == "two-phase" else "following"
        taught = next((kind for kind in used if kind in ("following", "frozen")), default)
        kinds = list(dict.fromkeys(["none", *used, taught, "clamped"]))
    parts = _bounded(_Parts(about, dynamics, network, _rests(dynamics, network, about, kinds)))
    about = parts.about
    sends = not model.circuit and (taught is not None or credit.form is not None)
    inverses = _inverses(parts, taught or "none") if sends else None
    exact = inverses is not None and max(inverses.errors, default=0.0) < 1e-8
    return Analysis(
        name=about.name,
        kind=about.kind,
        model=model.name,
        dynamics=_named(model, dynamics),
        layers=list(model.layers),
        states=flat_size(dynamics, network),
        seed=about.seed,
        moment=about.moment,
        inputs=about.inputs,
        phases=[_phase(parts, kind, starts, exact) for kind in kinds],
        credit=_credit_named(model),
        taught=taught,
        signals=[] if model.circuit else _signals(parts, taught or "none"),
        inverses=inverses,
    )


def _named(model: ModelSpec, dynamics: Any) -> str:
    if model.circuit:
        return f"circuit of {', '.join(model.populations)}"
    return model.dynamics if isinstance(model.dynamics, str) else type(dynamics).__name__


def _credit_named(model: ModelSpec) -> str:
    if model.circuit:
        return "local rules"
    return model.credit if isinstance(model.credit, str) else "a credit of your own"


def _rests(
    dynamics: Dynamics, network: Network, about: Subject, kinds: list[str]
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
        finite = np.logical_and.reduce([np.isfinite(v).all(axis=1) for v in leaves])
        lost += [] if finite.all() else [repr(kind)]
        ok &= finite
    if ok.all():
        return parts
    if not ok.any():
        raise DivergedError(
            f"{about.name}: no fixed point was found for any of {len(ok)} samples: with teaching "
            f"{either(lost)} the state leaves all bounds; a smaller weights.gain or mu, or "
            "feedback closer to inverses may keep it in"
        )
    kept = np.flatnonzero(ok)
    inputs = f"{about.inputs}, without {len(ok) - len(kept)} whose state leaves all bounds"
    found = jax.tree.map(lambda a: a[kept], parts.found)
    return parts._replace(
        about=replace(about, x=about.x[kept], y=about.y[kept], inputs=inputs), found=found
    )


# --- phases -------------------------------------------------------------------------------------


def _phase(parts: _Parts, kind: str, starts: int, exact: bool) -> PhaseAnalysis:
    rests = parts.found[kind][1]
    spectra = [
        linearisation.modes(parts.system(kind, k), parts.state(kind, k)) for k in parts.examined
    ]
    first = spectra[0]
    closed, error = _closed_form(parts, kind, first.eigenvalues) if exact else (None, None)
    return PhaseAnalysis(
        teaching=kind,
        residual=float(np.max(rests.residual)),
        settled=float(jnp.mean(rests.settled)),
        points=_points(parts, kind, starts),
        eigenvalues=first.eigenvalues,
        complete=first.complete,
        time_constant=max(s.time_constant for s in spectra),
        stable=float(np.mean([s.stable for s in spectra])),
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
    dynamics, network = parts.dynamics, parts.network
    if not isinstance(dynamics, SHIPPED):
        return None, None
    step = parts.about.model.target_step
    matrices = [chain(dynamics, network.depth, network.loss, kind, step).A]
    if kind == "following" and network.loss.output == "softmax":
        return None, None  # the target bends with the output, unit by unit
    sizes = network.sizes[1:]
    for i in range(1, network.depth):
        if sizes[i - 1] > sizes[i]:
            matrices.append(chain(dynamics, i, network.loss, "clamped", step).A)
    apical = dynamics.time_constants.get("apical")
    if len(matrices) > 1 and apical is not None:
        matrices.append(np.array([[-1 / float(apical)]]))
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
    if not isinstance(dynamics, SHIPPED) or named(model.credit).own_channel:
        return None
    way = chain(dynamics, network.depth, network.loss, kind, model.target_step)
    start = np.zeros_like(way.b)
    if kind in ("frozen", "clamped"):
        start = chain(dynamics, network.depth, network.loss).rest
    layers = range(1, network.depth + 1)
    signal = model.target_step * np.array([float(dynamics.attenuation(network, i)) for i in layers])
    return way.until(start, 1e-2 * signal)


# --- signals ------------------------------------------------------------------------------------


def _inverses(parts: _Parts, taught: str) -> Inverses | None:
    network, readouts = parts.network, parts.readouts(taught)
    per_sample = [
        stability.bearings(
            network, parts.about.weights, jax.tree.map(lambda a, k=k: a[k], readouts)
        )
        for k in range(len(parts.about.x))
    ]
    if not per_sample[0]:
        return None
    by_layer = list(zip(*per_sample, strict=True))
    tolerated = None
    mixes = isinstance(parts.dynamics, Mixture) and network.form == "inverse"
    if mixes and flat_size(parts.dynamics, network) <= SMALL:
        tolerated = stability.tolerated_error(parts.system(taught, 0), parts.state(taught, 0))
    return Inverses(
        errors=[max(b.error for b in layer) for layer in by_layer],
        gains=[max(b.gain for b in layer) for layer in by_layer],
        straddling=[float(np.mean([b.straddling for b in layer])) for layer in by_layer],
        kink_gain=stability.worst_kink_gain(parts.dynamics, network),
        tolerated=tolerated,
    )


def _signals(parts: _Parts, taught: str) -> list[LayerAnalysis]:
    about, network, weights = parts.about, parts.network, parts.about.weights
    step, credit = about.model.target_step, named(about.model.credit)
    now = parts.readouts(taught)
    free = parts.readouts("none") if credit.kind == "two-phase" else None

    def one(now: Any, free: Any, y: Float[Array, " n_L"]) -> dict[str, Layers]:
        signal = credit.assign(network, weights, now, free, y, step)
        if credit.own_channel and credit.form is None:
            return gradient_signals(network, weights, now.rate, y, step) | {"signal": signal}
        direct = signal[len(weights.Q) :] if credit.own_channel else ()
        found = attribution(parts.dynamics, network, weights, now, free, y, step, direct)
        known = zip(signal, found["tp"], found["rec"], strict=True)
        return found | {"signal": signal, "taylor": tuple(s - t - r for s, t, r in known)}

    found = jax.vmap(one, (0, None if free is None else 0, 0))(now, free, about.y)

    norm = lambda layer: float(jnp.mean(jnp.linalg.norm(layer, axis=-1)))  # noqa: E731
    between = lambda a, b: float(jnp.nanmean(jax.vmap(angle)(a, b)))  # noqa: E731
    ratios = _ratios(parts, taught, found["signal"], free is not None)
    precision = about.protocol.precision if about.protocol else "float32"
    rows = []
    for i in range(network.depth):
        part = {name: layers[i] for name, layers in found.items()}
        size, targets = norm(part["signal"]), "tp" in part
        resolution = float(np.finfo(precision).eps) * norm(now.teacher[i])
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


def _ratios(parts: _Parts, taught: str, signals: Layers, two_phases: bool) -> list[float] | None:
    """Signal-to-noise of every layer: powers, summed over the samples examined."""
    dynamics, network, about = parts.dynamics, parts.network, parts.about
    if not any(dynamics.noise.values()) or flat_size(dynamics, network) > linearisation.DENSE:
        return None
    step = about.model.target_step
    credit, powers = named(about.model.credit), np.zeros((2, network.depth))
    for k in parts.examined:
        kinds = ["none", taught] if two_phases else [taught]
        ratios = signal_to_noise.learning_signal(
            [(parts.system(kind, k), parts.state(kind, k)) for kind in kinds],
            credit.assign,
            about.y[k],
            step,
            tuple(layer[k] for layer in signals),
        )
        powers += np.array([[r.signal**2 for r in ratios], [r.noise**2 for r in ratios]])
    return [float(s / n) if n else math.inf for s, n in powers.T]
