"""Two signals in one population of bursting cells, and who reads them.

    python studies/burst_code.py                    # some minutes on two cores

Records the protocol `burst-code` over seeds and correlates, in bins of 20 ms, the somatic signal
with the rate of events and the apical one with the probability that an event is a burst; and both
with the rates of the cells that read them through short-term plastic synapses. Fits rate models to
the first half of each recording and scores them on the second. Writes traces, `burst-code.png` and
`results.json` to `outputs/burst-code/`.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from matplotlib.figure import Figure
from scipy.optimize import least_squares

import neurosim as ns
from neurosim.building.synapses import load_synaptic_protocol
from neurosim.figures import save

OUT = Path("outputs/burst-code")
BIN, SKIPPED = 20e-3, 25
"""The width of bins, and those at the start that are left out: half a second."""

LAGS = 15
"""Bins of the past that a linear filter sees."""


@dataclass(frozen=True)
class Code:
    """Of every bin: the signals (A), what the cells say, and the rates of those that read them."""

    somatic: np.ndarray
    apical: np.ndarray
    events: np.ndarray
    share: np.ndarray
    reads_events: np.ndarray
    reads_bursts: np.ndarray


def recorded(seed: int, seconds: float, more: dict[str, Any], force: bool) -> Code:
    """One recording. A trace that is there is not made again."""
    changes = {"seed": seed, "duration": f"{seconds:g} s", "record.every": "100 ms"} | more
    protocol = load_synaptic_protocol("burst-code", changes)
    path = OUT / f"seed-{seed}.h5"
    if force or not path.exists():
        ns.record(protocol, out=path, force=True)
    per = round(BIN / protocol.spec.dt)
    times = (np.arange(round(seconds / BIN) * per) + 0.5) * protocol.spec.dt
    signals = {
        stimulus.into: stimulus(times, 0, np).reshape(-1, per).mean(1)
        for stimulus, said in zip(
            protocol.stimuli()["pyramidal"],
            [s for s in protocol.spec.stimuli if s.into.startswith("pyramidal.")],
            strict=True,
        )
        if said.shared
    }
    with ns.open_trace(path) as trace:
        populations = trace["populations"]
        events = populations["pyramidal/events"].values[0]
        share = populations["pyramidal/burst_probability"].values[0]
        reads = [populations[f"{name}/rate"].values[0] for name in ("events", "bursts")]
    return Code(signals["current"], signals["apical_current"], events, share, *reads)


def correlation(
    one: np.ndarray, other: np.ndarray, later: int = 0, beside: np.ndarray | None = None
) -> float:
    """Between two courses, the first so many bins later, where both are numbers.

    beside: a third course, of which what is linear in it is taken away from both: two signals of
    some seconds are correlated by chance.
    """
    courses = [one[SKIPPED + later :], other[SKIPPED : len(other) - later]]
    known = np.isfinite(courses[0]) & np.isfinite(courses[1])
    courses = [course[known] for course in courses]
    if beside is not None:
        third = beside[SKIPPED : len(other) - later][known]
        courses = [course - np.polyval(np.polyfit(third, course, 1), third) for course in courses]
    return float(np.corrcoef(*courses)[0, 1])


def correlations(code: Code) -> dict[str, float]:
    """Of what is encoded and of what is read with the signals; cross-talk with the other one, but
    for what the two signals have in common by chance."""
    somatic, apical = code.somatic, code.apical
    return {
        "events with somatic": correlation(code.events, somatic),
        "bursts with apical": correlation(code.share, apical),
        "events, cross-talk": correlation(code.events, apical, beside=somatic),
        "bursts, cross-talk": correlation(code.share, somatic, beside=apical),
        "read events with somatic": correlation(code.reads_events, somatic),
        "read bursts with apical": correlation(code.reads_bursts, apical),
        "read bursts with apical, a bin later": correlation(code.reads_bursts, apical, 1),
        "read events, cross-talk": correlation(code.reads_events, apical, beside=somatic),
        "read bursts, cross-talk": correlation(code.reads_bursts, somatic, 1, apical),
        "the two signals": correlation(somatic, apical),
    }


# ---------------------------------------------------------------------------------- rate models


def softplus(x: np.ndarray | float) -> Any:
    return np.logaddexp(0.0, x)


def static(current: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """E = a softplus((I - b)/c), currents in 100 pA."""
    a, b, c = numbers
    return a * softplus((current - b) / c)


def adaptive(current: np.ndarray, numbers: np.ndarray) -> np.ndarray:
    """E = a softplus((I - b - g A)/c), of which A is a running mean: tau dA/dt = E - A."""
    a, b, c, g, tau = numbers
    found, mean, kept = np.empty(len(current)), numbers[0], np.exp(-BIN / tau)
    for k, one in enumerate(current):
        found[k] = a * softplus((one - b - g * mean) / c)
        mean = kept * mean + (1 - kept) * found[k]
    return found


MODELS = {
    "static": (static, [1.7, 1.0, 0.65], ([0.01, -10, 0.05], [100, 10, 10])),
    "adaptive": (
        adaptive,
        [2.0, 0.0, 0.65, 0.1, 0.1],
        ([0.01, -20, 0.05, 0, 0.01], [100, 10, 10, 10, 2]),
    ),
}


def explained(found: np.ndarray, given: np.ndarray) -> float:
    """The fraction of the variance that is explained."""
    return float(1 - np.var(given - found) / np.var(given))


def models(code: Code) -> dict[str, float]:
    """Variance of the rate of events in the second half that models of the first half explain."""
    current, events = code.somatic * 1e10 + 4, code.events
    half = len(events) // 2
    seen, later = slice(SKIPPED, half), slice(half, None)
    scores = {}
    for name, (model, begin, bounds) in MODELS.items():

        def wrong(numbers: np.ndarray, model: Any = model) -> np.ndarray:
            return (model(current[:half], numbers) - events[:half])[seen]

        numbers = least_squares(wrong, begin, bounds=bounds).x
        scores[name] = explained(model(current, numbers)[later], events[later])
    past = np.stack([np.roll(current, lag) for lag in range(LAGS)] + [np.ones_like(current)], 1)
    weights = np.linalg.lstsq(past[seen], events[seen], rcond=None)[0]
    scores["linear filter"] = explained(past[later] @ weights, events[later])
    return scores


# --------------------------------------------------------------------------------------- figure


def standard(values: np.ndarray) -> np.ndarray:
    return (values - np.nanmean(values)) / np.nanstd(values)


def drawn(code: Code, results: dict[str, Any]) -> Figure:
    """Three seconds of one recording, and the scores of the rate models."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[2.4, 1])
    upper, lower = left.subplots(2, 1, sharex=True)
    bins = slice(100, 250)
    time = np.arange(len(code.events))[bins] * BIN
    rows = (
        (upper, code.somatic, "somatic signal", code.events, "rate of events", code.reads_events),
        (lower, code.apical, "apical signal", code.share, "burst probability", code.reads_bursts),
    )
    for axes, signal, of, said, how, read in rows:
        axes.plot(time, standard(signal)[bins], color="#b5b5b5", lw=2.5, label=of)
        axes.plot(time, standard(said)[bins], color="#0072B2", lw=1, label=how)
        axes.plot(time, standard(read)[bins], color="#D55E00", lw=1, label="read by synapses")
        axes.set_ylabel("in deviations")
        axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=3, frameon=False, fontsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    lower.set_xlabel("time (s)")
    axes = right.subplots()
    names = list(results["models"])
    scores = np.array([results["models"][name] for name in names])
    axes.bar(names, scores.mean(1), color="#b5b5b5")
    for seed in range(scores.shape[1]):
        axes.plot(names, scores[:, seed], "o", ms=3, color="#222222")
    axes.set(ylim=(0, 1), ylabel="explained variance of later events")
    axes.tick_params(axis="x", rotation=20)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def main(
    seeds: Annotated[int, typer.Option(help="Recordings.")] = 3,
    seconds: Annotated[float, typer.Option(help="Of each of them.")] = 20.0,
    force: Annotated[bool, typer.Option("--force", help="Record again.")] = False,
) -> None:
    """Record, correlate, fit, draw."""
    OUT.mkdir(parents=True, exist_ok=True)
    codes = [recorded(seed, seconds, {}, force) for seed in range(seeds)]
    found, fitted = [correlations(code) for code in codes], [models(code) for code in codes]
    results = {
        "correlations": {name: [each[name] for each in found] for name in found[0]},
        "models": {name: [each[name] for each in fitted] for name in fitted[0]},
    }
    for table in results.values():
        for name, values in table.items():
            print(f"{name:40} {np.mean(values):6.3f}   {', '.join(f'{v:.3f}' for v in values)}")
    (OUT / "results.json").write_text(json.dumps(results, indent=1))
    save(drawn(codes[0], results), OUT / "burst-code.png")


if __name__ == "__main__":
    typer.run(main)
