"""Figures 5.2 – 5.6 and 5.9 – 5.12: the toy network, Gauss–Newton and learned inverses."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from training import COLOURS

from neurosim.credit import CREDITS
from neurosim.figures import save
from neurosim.functions.activations import LeakyReLU, Linear, Tanh
from neurosim.functions.losses import Loss
from neurosim.networks.dynamics import Readout
from neurosim.networks.network import Network, Weights
from neurosim.plasticity.rank_one import Pair, robust_update
from neurosim.plasticity.signals import apical_delta, there_and_back
from neurosim.theory.gauss_newton import (
    block_diagonal_step,
    factorised_pseudo_inverse,
    full_step,
    jacobians_to_the_output,
)

BLUE, RED, GREEN = "#0072B2", "#D55E00", "#009E73"
OF_METHOD = {
    "gauss-newton": "#B2182B",
    "tp": COLOURS["tp-ei"],
    "mtp": COLOURS["mtp"],
    "backprop": COLOURS["backprop"],
}
"""Those of figures 5.7 to 5.19 where a method is in both."""
ROBUST = 0.4
"""σ_min σ_max that the thesis asks of its random matrices."""


def robust(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """Gaussian matrices (…, n, m), each redrawn until σ_min σ_max > 0.4."""
    matrices = rng.standard_normal(shape)
    while True:
        s = np.linalg.svd(matrices, compute_uv=False)
        bad = s[..., 0] * s[..., -1] <= ROBUST
        if not bad.any():
            return matrices
        matrices[bad] = rng.standard_normal((*np.atleast_1d(matrices[bad]).shape,))


def panels(count: int, titles: list[str], height: float = 3.2) -> tuple[Figure, Any]:
    """A row of panels."""
    canvas = Figure(figsize=(3.4 * count, height), layout="constrained", dpi=130)
    axes = canvas.subplots(1, count, squeeze=False)[0]
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title)
    return canvas, axes


# ------------------------------------------------------------------- the toy network, 1-2-2

W2 = np.array([[1.6, 0.5], [0.2, 0.5]])
START, OPTIMUM = np.array([1.5, 2.0]), np.array([-0.6, -0.9])


def toy_paths(method: str, slope: float, size: float, iterations: int, seeds: int) -> np.ndarray:
    """The ways of W_1, (seeds, iterations + 1, 2), under one sample an iteration [T 5.1.1].

    W_2 is fixed. size: η̂ of target propagation, η of backprop; Gauss–Newton has none.
    """
    hidden = LeakyReLU(slope) if slope < 1 else Linear()
    network = Network((1, 2, 2), (hidden, Linear()), "inverse", Loss("half-squared", "linear"))
    optimum = Weights((jnp.asarray(OPTIMUM[:, None]), jnp.asarray(W2)), (), ())
    inverse = jnp.asarray(np.linalg.inv(W2))
    assign = CREDITS["backprop" if method == "backprop" else "tp-ei"].assign

    def step(W1, h0):
        x = h0[None]
        weights = Weights((W1, optimum.W[1]), (), (inverse,))
        rate = network.forward_pass(weights, x)
        D = (network.slope(1, W1 @ x), jnp.ones(2))
        label = network.forward_pass(optimum, x)[-1]
        now = Readout(rate, D, rate)
        if method == "gauss-newton":  # through the Jacobian of h_2 to W_1 [T 5.20]
            J = weights.W[1] @ jnp.diag(D[0]) * h0
            change = -(jnp.linalg.pinv(J) @ (rate[1] - label))[:, None]
        else:
            teaching = assign(network, weights, now, label, size)[0]
            change = jnp.outer(teaching / D[0] if method == "mtp" else D[0] * teaching, x)
            if method == "mtp":  # normalised, the one input has a second moment of 1
                change = change / h0**2
            if method == "backprop":
                change = size * change
        return W1 + change, (W1 + change)[:, 0]

    def way(draws):
        return jax.lax.scan(step, jnp.asarray(START[:, None]), draws)[1]

    draws = np.random.default_rng(0).standard_normal((seeds, iterations))
    ways = np.asarray(jax.jit(jax.vmap(way))(draws))
    return np.concatenate([np.broadcast_to(START, (seeds, 1, 2)), ways], axis=1)


def toy(cases: list[tuple[str, str, float, int]], slope: float) -> Callable[..., dict[str, Any]]:
    """A figure of ways through the contours of the expected loss."""

    def figure(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
        with jax.enable_x64(True):
            canvas, axes = panels(len(cases), [title for _, title, _, _ in cases])
            grid = np.stack(np.meshgrid(*[np.linspace(-2.6, 2.6, 121)] * 2), axis=-1)
            found: dict[str, Any] = {}
            for axis, (method, _, step, iterations) in zip(axes, cases, strict=True):
                _contours(axis, grid, slope)
                ways = toy_paths(method, slope, step, iterations, seeds)
                axis.plot(*ways[0].T, "*-", color=OF_METHOD[method], ms=5, lw=0.8)
                axis.plot(*OPTIMUM, "o", color="black", ms=4)
                axis.set(xlim=(-2.6, 2.6), ylim=(-2.6, 2.6), aspect="equal")
                axis.set(xlabel="W$_1$, first weight", ylabel="W$_1$, second weight")
                distance = np.linalg.norm(ways - OPTIMUM, axis=-1)
                near = [int(np.argmax(d < 0.05)) if (d < 0.05).any() else None for d in distance]
                found[method] = {
                    "steps_to_within_0.05": near,
                    "final_distance_median": float(np.median([d[-1] for d in distance])),
                }
            save(canvas, path)
        return {"seeds": seeds, "methods": found}

    return figure


def _contours(axis: Any, grid: np.ndarray, slope: float) -> None:
    """Of E[ℓ] over h_0 ~ N(0, 1): half from each sign of the input [T 5.6, 5.15]."""

    def s(a):
        return np.where(a > 0, a, slope * a)

    loss = 0.0
    for sign in (1.0, -1.0):
        miss = (s(sign * grid) - s(sign * OPTIMUM)) @ W2.T
        loss = loss + 0.25 * np.sum(miss**2, axis=-1)
    axis.contour(grid[..., 0], grid[..., 1], np.sqrt(loss), 14, colors="#bbbbbb", linewidths=0.5)


# ------------------------------------------------------------------ assumptions of chapter 4


def sherman_morrison_trials(trials: int, n: int, threshold: float, seed: int):
    """|1 + d| and σ_min of the updated matrix, plain and robust, over random draws [T 5.1.2]."""
    rng = np.random.default_rng(seed)
    W = robust(rng, trials, n, n)
    u, v = rng.standard_normal((2, trials, n))
    inverse = np.linalg.inv(W)
    d = np.einsum("ti,tij,tj->t", v, inverse, u)
    with jax.enable_x64(True):
        update = jax.jit(jax.vmap(lambda W, Q, u, v: robust_update(Pair(W, Q), u, v, threshold)))
        moved = np.asarray(update(W, inverse, u, v).W)
    plain = np.linalg.svd(W + u[:, :, None] * v[:, None], compute_uv=False)[:, -1]
    return np.abs(1 + d), plain, np.linalg.svd(moved, compute_uv=False)[:, -1]


def figure_5(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
    """Figure 5.5: σ_min against the divisor of the Sherman–Morrison update."""
    divisor, plain, safe = sherman_morrison_trials(20_000, 6, 0.1, seed=0)
    canvas, axes = panels(2, ["u v$^T$ added", "robust update, ε = 0.1"])
    for axis, sigma in zip(axes, (plain, safe), strict=True):
        axis.loglog(divisor, sigma, ".", ms=1, color=BLUE, alpha=0.4, rasterized=True)
        axis.set(xlabel="|1 + d|", ylabel="σ$_{min}$ of the updated W")
    save(canvas, path)
    by_size = {}
    for n in (2, 4, 6, 10):
        draws = [sherman_morrison_trials(20_000, n, 0.1, seed=s)[:2] for s in range(3)]
        by_size[n] = {
            "of_logarithms": [pearson(np.log(d), np.log(s), d < 0.1) for d, s in draws],
            "of_numbers": [pearson(d, s, d < 0.1) for d, s in draws],
        }
    small = divisor < 0.1
    return {
        "pearson_below_0.1_by_layer_size": by_size,
        "sigma_min_smallest_plain": float(plain[small].min()),
        "sigma_min_smallest_robust": float(safe[small].min()),
    }


def pearson(x: np.ndarray, y: np.ndarray, where: np.ndarray) -> float:
    """Correlation of some of the draws."""
    return float(np.corrcoef(x[where], y[where])[0, 1])


def block_angles(hidden: int, batch: int, trials: int, n: int, seed: int) -> np.ndarray:
    """Angles (rad) between full and block-diagonal Gauss–Newton steps of random Jacobians."""
    rng = np.random.default_rng(seed)
    angles = []
    for start in range(0, trials, 250):
        count = min(250, trials - start)
        J = rng.standard_normal((hidden, count, batch, n, n))
        blocks = [b.reshape(count, batch * n, n) for b in jacobians_to_the_output(list(J))]
        error = rng.standard_normal((count, batch * n))
        full, block = full_step(blocks, error), block_diagonal_step(blocks, error)
        cosine = np.sum(full * block, -1) / np.linalg.norm(full, axis=-1)
        angles.append(np.arccos(np.clip(cosine / np.linalg.norm(block, axis=-1), -1, 1)))
    return np.concatenate(angles)


def figure_6(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
    """Figure 5.6: the angle between full and block-diagonal Gauss–Newton."""
    cases = {"a": (2, 1, 10_000), "b": (10, 1, 10_000), "c": (10, 100, 1_000)}
    titles = [f"{h} hidden layers, batch {b}" for h, b, _ in cases.values()]
    canvas, axes = panels(3, titles)
    found = {}
    for axis, (name, (hidden, batch, trials)) in zip(axes, cases.items(), strict=True):
        angles = np.degrees(block_angles(hidden, batch, trials, 6, seed=0))
        axis.hist(angles, np.linspace(0, 180, 61), color=BLUE)
        axis.set(xlabel="angle (degree)", ylabel="trials")
        found[name] = {
            "hidden_layers": hidden,
            "batch": batch,
            "trials": trials,
            "median_degrees": float(np.median(angles)),
            "quartiles_degrees": np.quantile(angles, [0.25, 0.75]).tolist(),
        }
        axis.set_xlim(0, 180)
    save(canvas, path)
    return found


# ------------------------------------------------------------------------- learned inverses


def learn_inverse(
    sizes: tuple[int, int],
    source: int | None,
    batch: int,
    steps: tuple[float, float],
    iterations: int,
    decay: float,
    seeds: int,
    form: str = "inverse",
) -> tuple[np.ndarray, np.ndarray]:
    """‖Q − W^†‖_∞ and ‖g(f(h)) − h‖ along feedback learning, (iterations, seeds) [T 5.2.1].

    source: the size of the white noise h_0 behind coloured activity h_1 = C h_0; None: white.
    """
    n1, n2 = sizes
    s = Tanh() if form == "autoencoder" else LeakyReLU(0.35)
    activations = (Tanh() if form == "autoencoder" else Linear(), s)
    network = Network((n1, n1, n2), activations, form, Loss("squared", "linear"))
    rng = np.random.default_rng(0)
    W, Q = robust(rng, seeds, n2, n1), robust(rng, seeds, n1, n2)
    C = (
        np.eye(n1)[None].repeat(seeds, 0)
        if source is None
        else rng.standard_normal((seeds, n1, source))
    )

    def one(W, Q, C, key):
        inverse = jnp.linalg.pinv(W)

        def step(Q, t):
            white = jax.random.normal(jax.random.fold_in(key, t), (batch, C.shape[1]), W.dtype)
            weights = Weights((jnp.eye(n1), W), (), (Q,))
            signal = there_and_back(network, weights, 1, white @ C.T)
            rate = steps[0] + (steps[1] - steps[0]) * t / iterations
            missing = jnp.mean(jnp.linalg.norm(signal.predicted - signal.actual, axis=-1))
            distance = jnp.linalg.norm(Q - inverse, jnp.inf)
            return Q + rate * apical_delta(signal, Q, decay), (distance, missing)

        return jax.lax.scan(step, Q, jnp.arange(iterations))[1]

    with jax.enable_x64(True):
        keys = jax.random.split(jax.random.key(0), seeds)
        found = jax.jit(jax.vmap(one))(W, Q, C, keys)
    return np.asarray(found[0]).T, np.asarray(found[1]).T


INVERSES: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "equal layers, 5 → 5": [
        (text, {"sizes": (5, 5), "source": source, "batch": 1, "decay": 0.0,
                "steps": (0.01, 0.008), "iterations": 2500})
        for text, source in (("white", None), ("coloured, full rank", 5), ("coloured, rank 2", 2))
    ],
    "contracting, 5 → 3": [
        (text, {"sizes": (5, 3), "source": source, "batch": batch, "decay": 0.0,
                "steps": (0.01, 1e-4), "iterations": 2000})
        for text, source, batch in (
            ("coloured", 5, 1), ("white", None, 1), ("white, B = 16", None, 16),
        )
    ],
    "expanding, 3 → 5": [
        (text, {"sizes": (3, 5), "source": source, "batch": 1, "decay": decay,
                "steps": (0.01, 0.008), "iterations": 2000})
        for text, source, decay in (
            ("white, λ = 0", None, 0.0),
            ("white, λ = 0.2", None, 0.2),
            ("coloured, λ = 0.2", 5, 0.2),
        )
    ],
}  # fmt: skip


def inverses(which: int) -> Callable[..., dict[str, Any]]:
    """Figures 5.9 (distance to the pseudo-inverse) and 5.10 (reconstruction error)."""

    def figure(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
        canvas, axes = panels(3, list(INVERSES))
        found: dict[str, Any] = {"seeds": seeds}
        for axis, (title, cases) in zip(axes, INVERSES.items(), strict=True):
            for colour, (text, case) in zip((BLUE, RED, GREEN), cases, strict=True):
                y = learn_inverse(**case, seeds=seeds)[which]
                _curve(axis, y, colour, text)
                found.setdefault(title, {})[text] = _ends(y)
            axis.set(yscale="log", ylim=(1e-3, 30))
            axis.legend()
            axis.set_xlabel("iteration")
            axis.set_ylabel("‖Q − W$^†$‖$_∞$" if which == 0 else "‖g(f(h)) − h‖")
        beyond = "above 30 draws diverge, below 0.001 they go on falling"
        canvas.suptitle(f"median and quartiles of {seeds} seeds; {beyond}", size=9)
        save(canvas, path)
        return found

    return figure


def figure_11(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
    """Figure 5.11: the reconstruction error of autoencoders without a hidden layer."""
    canvas, axes = panels(1, ["g(f(h)) = tanh(Q tanh(W h))"])
    found: dict[str, Any] = {"seeds": seeds}
    sizes = {"contracting, 5 → 3": (5, 3), "equal, 5 → 5": (5, 5), "expanding, 3 → 5": (3, 5)}
    for colour, (text, size) in zip((BLUE, RED, GREEN), sizes.items(), strict=True):
        y = learn_inverse(size, None, 8, (0.002, 1e-4), 2000, 0.0, seeds, form="autoencoder")[1]
        _curve(axes[0], y, colour, text)
        found[text] = _ends(y)
    axes[0].legend()
    axes[0].set(xlabel="iteration", ylabel="‖g(f(h)) − h‖", ylim=(0, None))
    save(canvas, path)
    return found


def _curve(axis: Any, y: np.ndarray, colour: str, text: str) -> None:
    """Median and quartiles over seeds, averaged over fifty iterations."""
    width = 50
    y = y[: len(y) // width * width].reshape(-1, width, y.shape[1]).mean(axis=1)
    low, middle, high = np.quantile(y, [0.25, 0.5, 0.75], axis=1)
    x = width * (np.arange(len(y)) + 0.5)
    axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    axis.plot(x, middle, color=colour, lw=1.3, label=text)


def _ends(y: np.ndarray) -> dict[str, float]:
    return {
        "first_median": float(np.median(y[:100].mean(axis=0))),
        "last_median": float(np.median(y[-100:].mean(axis=0))),
        "fraction_grown": float(np.mean(y[-100:].mean(axis=0) > y[:100].mean(axis=0))),
    }


def factorisation_distances(sizes: tuple[int, int, int], trials: int, seed: int) -> np.ndarray:
    """‖J_1^f e − J_1^† e‖ over random networks n_1-n_2-n_3, means over eight errors [T 5.12]."""
    rng = np.random.default_rng(seed)
    n1, n2, n3 = sizes
    W2, W3 = robust(rng, trials, n2, n1), robust(rng, trials, n3, n2)
    D2, D3 = (_slopes(rng, trials, n) for n in (n2, n3))
    J = D3[:, :, None] * W3 @ (D2[:, :, None] * W2)
    difference = factorised_pseudo_inverse([W2, W3], [D2, D3]) - np.linalg.pinv(J)
    errors = rng.standard_normal((trials, n3, 8))
    return np.linalg.norm(difference @ errors, axis=1).mean(axis=1)


def _slopes(rng: np.random.Generator, trials: int, n: int) -> np.ndarray:
    """Gaussian diagonals, each redrawn until its smallest times its largest size exceeds 0.4."""
    slopes = rng.standard_normal((trials, n))
    while (bad := np.abs(slopes).min(1) * np.abs(slopes).max(1) <= ROBUST).any():
        slopes[bad] = rng.standard_normal((int(bad.sum()), n))
    return slopes


def figure_12(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
    """Figure 5.12: how far the factorised pseudo-inverse is from the true one."""
    cases = [(5, 5, 5), (7, 5, 5), (5, 5, 3)]
    canvas, axes = panels(3, ["-".join(map(str, sizes)) for sizes in cases])
    found = {}
    for axis, sizes in zip(axes, cases, strict=True):
        distance = factorisation_distances(sizes, 1000, seed=0)
        axis.hist(np.log10(distance), 40, color=BLUE)
        axis.set(xlabel="log$_{10}$ ‖J$^f$e − J$^†$e‖", ylabel="trials")
        found["-".join(map(str, sizes))] = {
            "median": float(np.median(distance)),
            "largest": float(distance.max()),
        }
    save(canvas, path)
    return found


LINEAR = [
    ("gauss-newton", "Gauss–Newton", 1.0, 2),
    ("tp", "target propagation, η̂ = 0.8", 0.8, 30),
    ("backprop", "backprop, η = 0.3", 0.3, 60),
]
LEAKY = [
    ("gauss-newton", "Gauss–Newton", 1.0, 4),
    ("tp", "target propagation, η̂ = 1", 1.0, 300),
    ("backprop", "backprop, η = 0.5", 0.5, 300),
]

FIGURES: dict[str, Callable[..., dict[str, Any]]] = {
    "5.2": toy(LINEAR, 1.0),
    "5.3": toy(LEAKY, 0.1),
    "5.4": toy([("mtp", "modified target propagation", 1.0, 4)], 0.1),
    "5.5": figure_5,
    "5.6": figure_6,
    "5.9": inverses(0),
    "5.10": inverses(1),
    "5.11": figure_11,
    "5.12": figure_12,
}
