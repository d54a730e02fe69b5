"""Figures 5.7, 5.8 and 5.13 – 5.19: the student-teacher task under the family of methods.

Also `mtp`: modified target propagation, which the thesis tried on this task and shows no figure of;
and `slower`: methods of figure 5.18 that diverge in half of the seeds, at their rates of 5.14.
"""

import time
from collections.abc import Callable, Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

PROTOCOLS = Path(__file__).parents[1] / "protocols" / "thesis"
BASELINES = ("backprop", "bp-fixed")
BASELINE: dict[str, Any] = {"model.projections.W.bias": True, "schedule.final": 0.52}
"""In the thesis' experiments only they train biases, and their rates, which would fall to a fifth
over 100 epochs, are at 52 % after 60."""

FEW, DRAWS = 15, 10_000
"""Seeds of a figure of the thesis; draws with replacement that say how far its means scatter."""
COLOURS = {
    "backprop": "#222222",
    "bp-fixed": "#999999",
    "tp-ei": "#0072B2",
    "tp-ai": "#0072B2",
    "rtp-ei": "#56B4E9",
    "rtp-ai": "#56B4E9",
    "rmtp-ei": "#F0E442",
    "mtp": "#A6761D",
    "rmtp": "#F0E442",
    "dtp-ai": "#D55E00",
    "rdtp-ai": "#E69F00",
    "original-tp": "#009E73",
    "original-rtp": "#66A61E",
    "original-dtp": "#CC79A7",
    "original-rdtp": "#7570B3",
}
"""One a method in every figure; exact and approximate inverses of a method never share one."""


class Experiment(NamedTuple):
    """A protocol and the forward and feedback rates of its methods, as the captions give them.

    The forward rates of target propagation are doubled in use: the gradient of the local loss
    ‖h − ĥ‖² has a factor 2, which the thesis counts apart from the rate.
    """

    protocol: str
    methods: dict[str, tuple[float, float]]


EXPERIMENTS = {
    "exact": Experiment(
        "fig-5-7",
        {
            "tp-ei": (0.01, 0.0),
            "rtp-ei": (0.01, 0.0),
            "rmtp-ei": (0.0005, 0.0),
            "backprop": (0.001, 0.0),
            "bp-fixed": (0.001, 0.0),
        },
    ),
    "deep": Experiment(
        "fig-5-13",
        {
            "tp-ai": (1e-4, 0.005),
            "rtp-ai": (1e-4, 0.005),
            "backprop": (5e-6, 0.0),
            "bp-fixed": (5e-6, 0.0),
        },
    ),
    "random": Experiment(
        "fig-5-14",
        {
            "rtp-ai": (0.09, 0.08),
            "rdtp-ai": (0.1, 0.05),
            "original-rtp": (0.01, 0.01),
            "original-rdtp": (0.1, 0.01),
            "backprop": (0.01, 0.0),
            "bp-fixed": (0.01, 0.0),
        },
    ),
    "together": Experiment(
        "fig-5-15",
        {
            "tp-ai": (0.09, 0.08),
            "dtp-ai": (0.1, 0.05),
            "original-tp": (0.01, 0.01),
            "original-dtp": (0.1, 0.01),
            "backprop": (0.01, 0.0),
            "bp-fixed": (0.01, 0.0),
        },
    ),
    "modified": Experiment(
        "fig-5-14",
        {
            "mtp": (0.005, 0.0),
            "rmtp": (0.005, 0.0),
            "dtp-ai": (0.1, 0.05),
            "backprop": (0.01, 0.0),
            "bp-fixed": (0.01, 0.0),
        },
    ),
    "contracting": Experiment(
        "fig-5-18",
        {
            "rtp-ai": (0.09, 0.01),
            "rdtp-ai": (0.1, 0.05),
            "original-rtp": (0.005, 0.01),
            "original-rdtp": (0.1, 0.05),
            "backprop": (0.05, 0.0),
            "bp-fixed": (0.05, 0.0),
        },
    ),
    "slower": Experiment(
        "fig-5-18",
        {
            "original-rdtp": (0.1, 0.01),
            "backprop": (0.01, 0.0),
            "bp-fixed": (0.01, 0.0),
        },
    ),
}


class Trained(NamedTuple):
    """A method over seeds: presentation- and epoch-wise curves with the seed second; seconds."""

    train: np.ndarray
    test: np.ndarray
    signals: dict[str, np.ndarray]
    diverged: np.ndarray
    seconds: float


def protocol(name: str, method: str, epochs: int | None = None) -> ns.Protocol:
    """One method of an experiment."""
    experiment = EXPERIMENTS[name]
    rate, feedback = experiment.methods[method]
    own: dict[str, Any] = {
        "model.credit": method,
        "model.projections.W.rate": rate if method in BASELINES else 2 * rate,
        "model.credit.rate": feedback,
    }
    if not feedback:
        own["stages.0.phases.0.plastic"] = ["forward"]
    if method in BASELINES:
        own |= BASELINE
    if epochs is not None:
        own["stages.0.epochs"] = epochs
    return ns.load_protocol(PROTOCOLS / f"{experiment.protocol}.toml", own)


@cache
def trained(name: str, method: str, seeds: int, epochs: int | None, folder: Path) -> Trained:
    """One method of an experiment over all seeds. folder: for the trace."""
    what = protocol(name, method, epochs)
    out = folder / f"{EXPERIMENTS[name].protocol}-{method}.h5"
    began = time.perf_counter()
    try:
        run = ns.run(what, seeds=range(seeds), out=out, force=True)
    except ns.DivergedError as error:
        run = error.run
    seconds = time.perf_counter() - began
    trace = ns.open_trace(out)
    units = what.spec.model.layers[-1]  # the thesis' loss is the mean over output units
    test = trace["evaluation/loss"].values.reshape(-1, seeds) / units
    train = trace["metrics/loss"].values.reshape(-1, seeds) / units
    signals = {
        key: trace[f"metrics/{key}"].values.reshape(len(train), seeds, -1)[:, :, 0]
        for key in trace["metrics"].data_vars
        if key.startswith(("norm", "cosine"))
    }
    lost = np.isin(range(seeds), [failure["seed"] for failure in run.diverged])
    lost |= ~(test[-1] < test[0])  # what ends above where it began has not learned
    return Trained(train, test, signals, lost, seconds)


def statistics(final: np.ndarray, diverged: np.ndarray) -> dict[str, float | None]:
    """Of the final losses of the seeds that did not diverge; None where all did."""
    lived = final[~diverged]
    return {
        "mean": float(np.mean(lived)) if lived.size else None,
        "median": float(np.median(lived)) if lived.size else None,
        "geometric_mean": float(np.exp(np.mean(np.log(lived)))) if lived.size else None,
        "fraction_diverged": float(diverged.mean()),
    }


def summary(found: Trained) -> dict[str, Any]:
    """The final test losses: of every seed, statistics of all and of the first fifteen."""
    final, lost = found.test[-1], found.diverged
    means = redrawn(found, FEW)
    return {
        "final_test_loss": [float(x) if np.isfinite(x) else None for x in final],
        **statistics(final, lost),
        f"first_{FEW}": statistics(final[:FEW], lost[:FEW]),
        f"means_of_{FEW}": np.nanquantile(means, [0.05, 0.95]).tolist() if not lost.all() else None,
        "seconds": round(found.seconds, 2),
    }


def redrawn(found: Trained, count: int) -> np.ndarray:
    """Means of so many seeds, drawn with replacement; the same seeds for every method. (DRAWS,)"""
    seeds = len(found.diverged)
    drawn = np.random.default_rng(0).integers(seeds, size=(DRAWS, count))
    lived = ~found.diverged[drawn]
    total = np.sum(np.where(lived, found.test[-1][drawn], 0), axis=1)
    return np.divide(total, lived.sum(1), out=np.full(DRAWS, np.nan), where=lived.any(1))


def order(summaries: dict[str, dict[str, Any]], key: str) -> list[str]:
    """The methods from the lowest to the highest."""
    known = {name: s[key] for name, s in summaries.items() if s[key] is not None}
    return sorted(known, key=lambda name: known[name])


def neighbours(found: dict[str, Trained], names: list[str]) -> dict[str, dict[str, Any]]:
    """Of neighbours in the order by mean: how sure it is, and their means on the same seeds.

    kept: how often the order is that of all seeds, among fifteen seeds and among as many as there
    are. Methods lose other seeds, perhaps the harder ones; means_where_both_lived are free of that.
    """
    pairs: dict[str, dict[str, Any]] = {}
    for low, high in pairwise(names):
        a, b = found[low], found[high]
        both = ~(a.diverged | b.diverged)
        pairs[f"{low} < {high}"] = {
            "kept": {
                n: float(np.mean(redrawn(a, n) < redrawn(b, n)))
                for n in sorted({FEW, len(a.diverged)})
            },
            "both_lived": int(both.sum()),
            "means_where_both_lived": [
                float(t.test[-1][both].mean()) if both.any() else None for t in (a, b)
            ],
        }
    return pairs


def table(found: dict[str, Any]) -> str:
    """A line a method: mean, median and geometric mean, the first fifteen seeds beside all."""
    few = f"first_{FEW}"
    lines = [f"{'':15}{'seeds':>7}{'mean':>10}{'median':>10}{'geometric':>11}{'diverged':>10}"]
    for method in sorted(found["methods"], key=[*found["order_by_mean"], *found["methods"]].index):
        row = found["methods"][method]
        shown = [(found["seeds"], row), (FEW, row[few])]
        for seeds, values in shown[: 1 + (found["seeds"] > FEW)]:
            keys = ("mean", "median", "geometric_mean")
            known = [f"{values[k]:.3g}" if values[k] is not None else "none" for k in keys]
            share = f"{values['fraction_diverged']:.0%}"
            lines.append(
                f"{method:15}{seeds:7}{known[0]:>10}{known[1]:>10}{known[2]:>11}{share:>10}"
            )
        if row[f"means_of_{FEW}"]:
            low, high = row[f"means_of_{FEW}"]
            lines.append(f"{'':15}means of {FEW} seeds, 90 %: {low:.3g} to {high:.3g}")
    for pair, of in found["neighbours"].items():
        kept = ", ".join(f"{share:.0%} of draws of {n}" for n, share in of["kept"].items())
        low, high = of["means_where_both_lived"]
        same = (
            f"; {low:.3g} and {high:.3g} on the {of['both_lived']} of both"
            if of["both_lived"]
            else ""
        )
        lines.append(f"{pair}: {kept}{same}")
    return "\n".join(lines)


def losses(name: str) -> Callable[..., dict[str, Any]]:
    """The figure of training and test losses of an experiment."""

    def figure(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
        found = _all(name, seeds, epochs, path.parent)
        canvas, panels = _panels("training loss", "test loss")
        for method, t in found.items():
            epoch = np.arange(t.test.shape[0])
            length = len(t.train) // (len(epoch) - 1)
            train = t.train.reshape(-1, length, seeds).mean(axis=1)
            _curve(panels[0], epoch[1:], train, t.diverged, method)
            _curve(panels[1], epoch, t.test, t.diverged, method)
        for panel in panels:
            panel.set(xlabel="epoch", yscale="log")
        return _finish(canvas, path, found, seeds)

    return figure


TEXTS = {
    "norm_approx": "norm of the approximation error, e$^{approx}_1$",
    "cosine_tp": "cosine to the useful signal, e$^{TP}_1$",
    "cosine_gn": "cosine to Gauss–Newton, e$^{GN}_1$",
    "cosine_bp": "cosine to backprop, e$^{BP}_1$",
}
"""The y axes of measures of the teaching signal ĥ_1 − h_1."""


def signals(name: str, keys: tuple[str, str]) -> Callable[..., dict[str, Any]]:
    """A figure of two measures of the teaching signals of layer 1."""

    def figure(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
        methods = (m for m in EXPERIMENTS[name].methods if m not in BASELINES)
        found = _all(name, seeds, epochs, path.parent, methods)
        canvas, panels = _panels(*(TEXTS[key] for key in keys))
        more: dict[str, Any] = {}
        for panel, key in zip(panels, keys, strict=True):
            for method, t in found.items():
                more.setdefault(method, {})[key] = _signal(panel, t, key, method)
            if key.startswith("norm"):
                panel.set_yscale("log")
        return _finish(canvas, path, found, seeds) | {"layer_1": more}

    return figure


def contracting(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
    """Figure 5.18: the test loss and the cosine to the useful signal."""
    found = _all("contracting", seeds, epochs, path.parent)
    canvas, panels = _panels("test loss", TEXTS["cosine_tp"])
    panels[0].set(xlabel="epoch", yscale="log")
    for method, t in found.items():
        _curve(panels[0], np.arange(len(t.test)), t.test, t.diverged, method)
        if method not in BASELINES:
            _signal(panels[1], t, "cosine_tp", method)
    return _finish(canvas, path, found, seeds)


def _all(
    name: str, seeds: int, epochs: int | None, folder: Path, methods: Iterable[str] | None = None
) -> dict[str, Trained]:
    chosen = EXPERIMENTS[name].methods if methods is None else methods
    return {method: trained(name, method, seeds, epochs, folder) for method in chosen}


def _panels(*labels: str) -> tuple[Figure, Any]:
    canvas = Figure(figsize=(9.5, 3.4), layout="constrained", dpi=130)
    panels = canvas.subplots(1, len(labels))
    for panel, label in zip(panels, labels, strict=True):
        panel.set_ylabel(label)
    return canvas, panels


def _curve(panel: Any, x: np.ndarray, y: np.ndarray, diverged: np.ndarray, method: str) -> None:
    """Mean, median and quartiles over the seeds that lived; y (x, seeds)."""
    lived = y[:, ~diverged]
    if not lived.size:
        return
    colour = COLOURS[method]
    low, middle, high = np.nanquantile(lived, [0.25, 0.5, 0.75], axis=1)
    panel.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)
    panel.plot(x, middle, color=colour, lw=0.9, ls=(0, (3, 1.5)))
    panel.plot(x, np.nanmean(lived, axis=1), color=colour, lw=1.5)


def _signal(panel: Any, found: Trained, key: str, method: str) -> dict[str, float | None]:
    """Draw a measure of layer 1 over mini-batches, in bins as fine as its first changes need."""
    y = found.signals[key]
    edges = np.unique(np.geomspace(1, len(y) + 1, 80).astype(int)) - 1
    y = np.add.reduceat(y, edges[:-1], axis=0) / np.diff(edges)[:, None]
    middle = 1 + (edges[:-1] + edges[1:] - 1) / 2  # the first mini-batch is 1
    _curve(panel, middle, y, found.diverged, method)
    panel.set(xlabel="mini-batch", xscale="log")
    if found.diverged.all():
        return dict.fromkeys(("first", "lowest", "at_lowest", "highest", "at_highest", "last"))
    mean = np.nanmean(y[:, ~found.diverged], axis=1)
    late = np.nanmean(found.signals[key][-len(found.signals[key]) // 6 :][:, ~found.diverged])
    return {
        "first": float(mean[0]),
        "lowest": float(mean.min()),
        "at_lowest": float(middle[mean.argmin()]),
        "highest": float(mean.max()),
        "at_highest": float(middle[mean.argmax()]),
        "last": float(late),
    }


def _finish(canvas: Figure, path: Path, found: dict[str, Trained], seeds: int) -> dict[str, Any]:
    for method, t in found.items():
        share = f"\n({t.diverged.mean():.0%} diverged)" if t.diverged.any() else ""
        canvas.axes[0].plot([], [], color=COLOURS[method], label=method + share)
    canvas.suptitle(
        f"{seeds} seeds less those that diverged: mean (line), median (dashed), quartiles (band)",
        size=9,
    )
    canvas.legend(loc="outside right center")
    save(canvas, path)
    methods = {method: summary(t) for method, t in found.items()}
    by_mean = order(methods, "mean")
    return {
        "seeds": seeds,
        "seconds": sum(m["seconds"] for m in methods.values()),
        "order_by_mean": by_mean,
        "order_by_median": order(methods, "median"),
        "order_by_geometric_mean": order(methods, "geometric_mean"),
        "neighbours": neighbours(found, by_mean),
        "methods": methods,
    }


FIGURES: dict[str, Callable[..., dict[str, Any]]] = {
    "5.7": losses("exact"),
    "5.8": signals("exact", ("norm_approx", "cosine_tp")),
    "5.13": losses("deep"),
    "5.14": losses("random"),
    "5.15": losses("together"),
    "5.16": signals("random", ("norm_approx", "cosine_tp")),
    "5.17": signals("random", ("cosine_gn", "cosine_bp")),
    "5.18": contracting,
    "5.19": signals("contracting", ("cosine_gn", "cosine_bp")),
    "mtp": losses("modified"),
    "slower": losses("slower"),
}
