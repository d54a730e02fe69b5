"""Equilibrium propagation and predictive coding: how close to the gradient, and what they learn.

    python studies/energy_models.py              # both, a quarter of an hour on two cores
    python studies/energy_models.py gradient

`gradient` shows fifty digits to networks that have not learned yet and measures by how much what
they learn is off the gradient of the cost, over β and over the variance of the output. `digits`
trains over seeds, beside backprop of the same network and beside hidden layers that do not learn,
with the rates that a part of the training data chose (`--choose` tries them again). Writes traces,
`energy-models.png` and `results.json` to `outputs/energy-models/`.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import typer
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

OUT = Path("outputs/energy-models")
EQUILIBRIUM, CODING, BACKPROP = (
    f"{name}-digits" for name in ("equilibrium-propagation", "predictive-coding", "backprop")
)
SYMMETRIC, GAUSSIAN = (f"equilibrium-propagation-{name}" for name in ("symmetric", "gaussian"))
RATE, VARIANCE = "model.projections.W.rate", "model.cells.output_error.parameters.variance"

BOTH_WAYS = {
    "model.use": SYMMETRIC,
    "stages.0.phases": [
        {"name": "free", "duration": "800 ms"},
        {"name": "nudged", "duration": "400 ms", "teaching": "clamped", "plastic": ["W"]},
        {
            "name": "nudged away",
            "duration": "400 ms",
            "teaching": "clamped",
            "plastic": ["W"],
            "parameters": {"beta": -0.1},
        },
    ],
}
AS_OTHERS = {
    "precision": "float64",
    "stages.0.epochs": 15,
    "model.activation": {"name": "tanh"},
    "model.output": "linear",
    "model.loss": "half-squared",
    "model.cells.neuron.equations": "dbasal/dt = (forward + bias - basal)/tau_basal\n"
    "rate = s(basal)",
    "model.projections.W.bias": True,
}
VARIANTS: dict[str, tuple[str, dict[str, Any], bool]] = {
    "equilibrium propagation": (EQUILIBRIUM, {}, False),
    "equilibrium propagation, rate level": (EQUILIBRIUM, {"level": "rate"}, False),
    "nudged both ways": (EQUILIBRIUM, BOTH_WAYS, False),
    "equilibrium propagation, hidden layer frozen": (EQUILIBRIUM, {}, True),
    "predictive coding": (CODING, {}, False),
    "predictive coding, rate level": (CODING, {"level": "rate"}, False),
    "predictive coding, hidden layer frozen": (CODING, {}, True),
    "backprop": (BACKPROP, AS_OTHERS, False),
    "backprop, hidden layer frozen": (BACKPROP, AS_OTHERS, True),
}
"""Of each: protocol, what is changed in it, and whether W of the hidden layer stays."""

RATES = {EQUILIBRIUM: (0.1, 0.3, 1.0), CODING: (1.0, 3.0, 10.0), BACKPROP: (0.1, 0.3, 1.0)}
"""Of W; predictive coding learns from errors over a variance of 10."""

TRIALS = {"task.validation": 0.2, "stages.0.epochs": 8}
"""How rates are tried."""

# --------------------------------------------------------------------------------------- digits


def trained(
    variant: str, rate: float, seeds: int, more: dict[str, Any], name: str, force: bool
) -> list[float]:
    """Errors over seeds, NaN of all where one diverged. A trace that is there is not made again."""
    protocol, changes, frozen = VARIANTS[variant]
    given = {"record.presentations": 0, RATE: [0.0, rate] if frozen else rate} | changes | more
    path = OUT / f"{name.replace(', ', '-').replace(' ', '-')}.h5"
    if force or not path.exists():
        try:
            ns.run(ns.load_protocol(protocol, given), seeds=range(seeds), out=path, force=True)
        except ns.DivergedError as error:
            print(f"{variant} at a rate of {rate:g}: {error}", flush=True)
    with ns.open_trace(path) as trace:
        errors = trace["evaluation/error"].values
    return errors[-1].tolist() if np.isfinite(errors[-1]).all() else [float("nan")] * seeds


def chosen(seeds: int, force: bool) -> dict[str, float]:
    """The rate with the least error on a part of the training data that is not trained on.

    Levels share the rate of the equilibrium level. Where errors are equal, the lower rate.
    """
    found: dict[str, float] = {}
    for variant, (protocol, changes, _) in VARIANTS.items():
        if "level" in changes:
            continue
        means = {}
        for rate in RATES[protocol]:
            errors = trained(variant, rate, seeds, TRIALS, f"trial {variant} {rate:g}", force)
            means[rate] = np.mean(np.nan_to_num(errors, nan=1.0))
            print(f"{variant:45} rate {rate:5g}: {100 * means[rate]:.2f} % held out", flush=True)
        found[variant] = min(means, key=lambda rate: (round(means[rate], 9), rate))
    return found


CHOSEN = {
    "equilibrium propagation": 0.3,
    "nudged both ways": 0.3,
    "equilibrium propagation, hidden layer frozen": 0.3,
    "predictive coding": 3.0,
    "predictive coding, hidden layer frozen": 3.0,
    "backprop": 0.3,
    "backprop, hidden layer frozen": 0.3,
}
"""What `chosen` found with two seeds."""


def digits(seeds: int, choose: bool, force: bool) -> dict[str, Any]:
    """Test errors of all variants."""
    rates, found = chosen(2, force) if choose else CHOSEN, {}
    for variant in VARIANTS:
        rate = rates[variant.removesuffix(", rate level")]
        errors = trained(variant, rate, seeds, {}, variant, force)
        found[variant] = {"errors": errors, "rate": rate}
        print(
            f"{variant:45} rate {rate:5g}: {100 * np.mean(errors):.2f} % "
            f"({100 * min(errors):.2f} to {100 * max(errors):.2f})",
            flush=True,
        )
    return found


# ------------------------------------------------------------------------------------- gradients

BETAS = (0.3, 0.1, 0.03, 0.01, 0.003)
VARIANCES = (2.0, 10.0, 100.0, 1000.0)
SMALL = 1e-3
"""A rate that leaves the network as it is, near enough to be tested once it has learned."""
ONCE = {
    "stages.0.epochs": None,
    "stages.0.presentations": 1,
    "record.presentations": [0],
    "record.samples": 50,
    "equilibrium.tolerance": 1e-10,
    "equilibrium.max_sweeps": 500,
    RATE: SMALL,
}


def shown(protocol: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Weights before one presentation, what it adds to them, inputs and labels."""
    path = OUT / "gradient.h5"
    ns.run(ns.load_protocol(protocol, ONCE | changes), out=path, force=True)
    with ns.open_trace(path) as trace:
        arrays = [trace[f"weights/{name}"].values for name in ("W1", "W2", "b1", "b2")]
        return {
            "before": [a[0] for a in arrays],
            "learned": np.concatenate([np.ravel(a[1] - a[0]) for a in arrays]) / SMALL,
            "x": trace["traces/input"].values[0],
            "y": trace["traces/label"].values[0],
            "settled": float(trace["metrics/settled"].values.min()),
        }


def rested(arrays: list[jax.Array], x: jax.Array) -> jax.Array:
    """The free answer of the Hopfield energy, u_2 = W_2 ρ(u_1) + b_2, by Newton's method."""
    _, W2, b1, b2 = arrays

    def force(u: jax.Array, W1: Any, W2: Any, b1: Any, b2: Any) -> jax.Array:
        h = jnp.tanh(u)
        return (1 - h**2) * (W1 @ x + b1 + W2.T @ (W2 @ h + b2)) - u

    held = jax.lax.stop_gradient(arrays)

    def stepped(u: jax.Array, given: list[jax.Array]) -> jax.Array:
        return u - jnp.linalg.solve(jax.jacobian(force)(u, *held), force(u, *given))

    u = jax.lax.fori_loop(0, 30, lambda _, u: stepped(u, held), jnp.zeros(len(b1)))
    return W2 @ jnp.tanh(stepped(jax.lax.stop_gradient(u), arrays)) + b2


def passed(arrays: list[jax.Array], x: jax.Array) -> jax.Array:
    """The forward pass."""
    W1, W2, b1, b2 = arrays
    return W2 @ jnp.tanh(W1 @ x + b1) + b2


def off(
    found: dict[str, Any], answer: Callable[..., jax.Array], scale: float = 1.0
) -> dict[str, float]:
    """How far what was learned, times a scale, is from −∂⟨C⟩/∂(W, b), over the size of that.

    Also the angle between both (degrees), and the least share of samples that settled in a phase.
    """

    def cost(arrays: list[jax.Array]) -> jax.Array:
        each = jax.vmap(lambda x: answer(arrays, x))(jnp.asarray(found["x"]))
        return jnp.mean(jnp.sum((each - found["y"]) ** 2, axis=1)) / 2

    with jax.enable_x64(True):
        slopes = jax.jit(jax.grad(cost))([jnp.asarray(a) for a in found["before"]])
    a, b = scale * found["learned"], -np.concatenate([np.ravel(g) for g in slopes])
    cosine = a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    return {
        "deviation": float(np.linalg.norm(a - b) / np.linalg.norm(b)),
        "angle": float(np.degrees(np.arccos(np.clip(cosine, -1, 1)))),
        "settled": found["settled"],
    }


def gradient() -> dict[str, Any]:
    """Of every model and β (of predictive coding 1/variance): how far off the gradient."""
    found: dict[str, dict[float, Any]] = {}
    beta = "model.parameters.beta"
    for value in BETAS:
        away = json.loads(json.dumps(BOTH_WAYS))
        away["stages.0.phases"][2]["parameters"]["beta"] = -value
        for name, changes, answer in (
            ("nudged once", {}, rested),
            ("nudged both ways", away, rested),
            ("conditional Gaussian", {"model.use": GAUSSIAN}, passed),
        ):
            seen = off(shown(EQUILIBRIUM, changes | {beta: value}), answer)
            found.setdefault(name, {})[value] = seen
            print(f"{name:25} β {value:6g}: {seen}", flush=True)
    for value in VARIANCES:
        seen = off(shown(CODING, {VARIANCE: value}), passed, value)
        found.setdefault("predictive coding", {})[1 / value] = seen
        print(f"{'predictive coding':25} variance {value:6g}: {seen}", flush=True)
    return found


# --------------------------------------------------------------------------------------- picture

STYLES = {
    "nudged once": ("#0072B2", "o-", "Hopfield energy, nudged once"),
    "nudged both ways": ("#56B4E9", "s-", "Hopfield energy, nudged both ways"),
    "conditional Gaussian": ("#E69F00", "^-", "conditional Gaussian, nudged once"),
    "predictive coding": ("#D55E00", "v--", "predictive coding, over 1/Σ of the output"),
}


def picture(found: dict[str, Any]) -> Figure:
    """Deviations from the gradient, and test errors of every seed."""
    figure = Figure(figsize=(9.6, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    for name, (color, style, label) in STYLES.items():
        rows = {float(value): row["deviation"] for value, row in found["gradient"][name].items()}
        left.plot(list(rows), list(rows.values()), style, color=color, label=label)
    left.set(xscale="log", yscale="log", ylim=(5e-6, 20), xlabel="β, or 1/Σ")
    left.set_title("deviation from the gradient, over its size", loc="left", fontsize=9)
    left.legend(frameon=False, fontsize=7, loc="upper left")
    names = list(found["digits"])
    for at, name in enumerate(reversed(names)):
        errors = 100 * np.array(found["digits"][name]["errors"])
        color = "#999999" if "frozen" in name else "#0072B2"
        right.plot(errors, [at] * len(errors), "o", color=color, alpha=0.5, ms=5)
        right.plot([errors.mean()], [at], "|", color="black", ms=14)
    right.set_yticks(range(len(names)), list(reversed(names)), fontsize=8)
    right.set(xlabel="test error (%)", xlim=(0, None))
    right.set_title("digits, every seed and the mean", loc="left", fontsize=9)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(
    parts: Annotated[
        list[str] | None, typer.Argument(help="digits, gradient; both if none.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, help="How many.")] = 5,
    choose: Annotated[bool, typer.Option(help="Try rates on a part of the training data.")] = False,
    force: Annotated[bool, typer.Option(help="Train again what has been trained.")] = False,
) -> None:
    """Run the study."""
    known = ("gradient", "digits")
    if strange := [part for part in parts or () if part not in known]:
        raise typer.BadParameter(f"{strange[0]!r}; expected digits or gradient")
    OUT.mkdir(parents=True, exist_ok=True)
    results = OUT / "results.json"
    found = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    for part in parts or known:
        found[part] = gradient() if part == "gradient" else digits(seeds, choose, force)
        results.write_text(json.dumps(found, indent=1), encoding="utf-8")
    found = json.loads(results.read_text(encoding="utf-8"))
    if all(part in found for part in known):
        save(picture(found), OUT / "energy-models.png")


if __name__ == "__main__":
    typer.run(main)
