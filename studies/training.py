"""Figures 5.7, 5.8 and 5.13 – 5.19: the student-teacher task under the family of methods.

Also `mtp`: modified target propagation, which the thesis tried on this task and shows no figure of.
"""

import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

import neurosim as ns

PROTOCOLS = Path(__file__).parents[1] / "protocols" / "thesis"
BASELINES = ("backprop", "bp-fixed")
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
            "tp-ai": (1e-4, 0.01),
            "rtp-ai": (1e-4, 0.01),
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
            "rtp-ai": (0.09, 0.08),
            "rdtp-ai": (0.1, 0.05),
            "original-rtp": (0.005, 0.01),
            "original-rdtp": (0.1, 0.01),
            "backprop": (0.01, 0.0),  # the caption's 0.05 diverges: docs/chapter5.md
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


def summary(found: Trained) -> dict[str, Any]:
    """The final test losses over seeds; means over the seeds that did not diverge."""
    final = found.test[-1]
    lived = final[~found.diverged]
    return {
        "final_test_loss": [float(x) if np.isfinite(x) else None for x in final],
        "mean": float(np.mean(lived)) if lived.size else None,
        "median": float(np.median(lived)) if lived.size else None,
        "geometric_mean": float(np.exp(np.mean(np.log(lived)))) if lived.size else None,
        "median_of_all": float(np.median(np.where(found.diverged, np.inf, final)))
        if found.diverged.mean() < 0.5
        else None,
        "fraction_diverged": float(found.diverged.mean()),
        "seconds": round(found.seconds, 2),
    }


def order(summaries: dict[str, dict[str, Any]], key: str) -> list[str]:
    """The methods from the lowest to the highest."""
    known = {name: s[key] for name, s in summaries.items() if s[key] is not None}
    return sorted(known, key=lambda name: known[name])


def losses(name: str) -> Callable[..., dict[str, Any]]:
    """The figure of training and test losses of an experiment."""

    def figure(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
        found = _all(name, seeds, epochs, path.parent)
        canvas, panels = _panels(("training loss", "test loss"), log=True)
        for method, t in found.items():
            colour = COLOURS[method]
            epoch = np.arange(t.test.shape[0])
            length = len(t.train) // (len(epoch) - 1)
            train = t.train.reshape(-1, length, seeds).mean(axis=1)
            share = f", {t.diverged.mean():.0%} diverged" if t.diverged.any() else ""
            _band(panels[0], epoch[1:], train, t.diverged, colour, None)
            _band(panels[1], epoch, t.test, t.diverged, colour, method + share)
        for panel in panels:
            panel.set_xlabel("epoch")
        return _finish(canvas, path, found, seeds)

    return figure


def signals(name: str, keys: tuple[str, str]) -> Callable[..., dict[str, Any]]:
    """A figure of two measures of the teaching signals of layer 1."""
    texts = {
        "norm_approx": "norm of the approximation error",
        "cosine_tp": "cosine to the useful signal e$^{TP}$",
        "cosine_gn": "cosine to Gauss–Newton e$^{GN}$",
        "cosine_bp": "cosine to backprop e$^{BP}$",
    }

    def figure(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
        found = {
            m: t for m, t in _all(name, seeds, epochs, path.parent).items() if m not in BASELINES
        }
        canvas, panels = _panels([texts[key] for key in keys])
        more: dict[str, Any] = {}
        for method, t in found.items():
            colour = COLOURS[method]
            for panel, key in zip(panels, keys, strict=True):
                y = t.signals[key]
                width = max(1, len(y) // 60)
                y = y[: len(y) // width * width].reshape(-1, width, seeds).mean(axis=1)
                x = width * (np.arange(len(y)) + 0.5)
                _band(panel, x, y, t.diverged, colour, method if panel is panels[-1] else None)
                last = y[-len(y) // 6 :][:, ~t.diverged]
                more.setdefault(method, {})[key] = {
                    "first": float(np.mean(y[0][~t.diverged])) if last.size else None,
                    "last": float(np.mean(last)) if last.size else None,
                }
                if key.startswith("norm"):
                    panel.set_yscale("log")
                panel.set_xlabel("mini-batch")
        return _finish(canvas, path, found, seeds) | {"layer_1": more}

    return figure


def contracting(path: Path, seeds: int, epochs: int | None) -> dict[str, Any]:
    """Figure 5.18: the test loss and the cosine to the useful signal."""
    found = _all("contracting", seeds, epochs, path.parent)
    canvas, panels = _panels(("test loss", "cosine to the useful signal e$^{TP}$"))
    panels[0].set_yscale("log")
    for method, t in found.items():
        colour = COLOURS[method]
        share = f", {t.diverged.mean():.0%} diverged" if t.diverged.any() else ""
        _band(panels[0], np.arange(len(t.test)), t.test, t.diverged, colour, None)
        panels[1].plot([], [], color=colour, label=method + share)
        if method not in BASELINES:
            y = t.signals["cosine_tp"]
            width = max(1, len(y) // 60)
            y = y[: len(y) // width * width].reshape(-1, width, seeds).mean(axis=1)
            _band(panels[1], width * (np.arange(len(y)) + 0.5), y, t.diverged, colour, None)
    panels[0].set_xlabel("epoch")
    panels[1].set_xlabel("mini-batch")
    return _finish(canvas, path, found, seeds)


def _all(name: str, seeds: int, epochs: int | None, folder: Path) -> dict[str, Trained]:
    methods = EXPERIMENTS[name].methods
    return {method: trained(name, method, seeds, epochs, folder) for method in methods}


def _panels(titles: Any, log: bool = False) -> tuple[Figure, Any]:
    canvas = Figure(figsize=(9.5, 3.4), layout="constrained", dpi=110)
    panels = canvas.subplots(1, 2)
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title, fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        if log:
            panel.set_yscale("log")
    return canvas, panels


def _band(panel: Any, x, y, diverged, colour: str, label: str | None) -> None:
    """The median over the seeds that lived, and their quartiles."""
    lived = y[:, ~diverged]
    if not lived.size:
        panel.plot([], [], color=colour, label=label)
        return
    low, middle, high = np.nanquantile(lived, [0.25, 0.5, 0.75], axis=1)
    panel.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)
    panel.plot(x, middle, color=colour, lw=1.4, label=label)


def _finish(canvas: Figure, path: Path, found: dict[str, Trained], seeds: int) -> dict[str, Any]:
    canvas.suptitle(f"median and quartiles of {seeds} seeds, diverged ones left out", fontsize=9)
    canvas.legend(loc="outside right center", fontsize=8, frameon=False)
    canvas.savefig(path)
    methods = {method: summary(t) for method, t in found.items()}
    return {
        "seeds": seeds,
        "seconds": sum(m["seconds"] for m in methods.values()),
        "order_by_mean": order(methods, "mean"),
        "order_by_median": order(methods, "median"),
        "order_by_geometric_mean": order(methods, "geometric_mean"),
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
}
