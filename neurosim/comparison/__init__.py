"""What `neurosim compare` says: how far two traces agree, number by number, and whether enough.

Two recordings of cells are compared in their potentials, their synapses and in what was measured
(`recordings.py`), all else here, and spikes of both kinds by their statistics (`trains.py`).

They are aligned by presentation, phase, layer, sample and unit as far as they have them in common:
two levels, two values of a parameter, two models, two seeds. What can be held against each other
unit by unit has its difference; of the rest there is how large it is in both.
"""

import html
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from neurosim.comparison import recordings
from neurosim.comparison.alignment import Alignment, Pair, Taught, joint
from neurosim.comparison.recordings import Recorded
from neurosim.comparison.sides import Side
from neurosim.comparison.spiking import populations
from neurosim.comparison.trains import Trains, held_apart
from neurosim.comparison.verdicts import EXACT, TAUGHT, TOLERANCE, judged, overall, summary
from neurosim.comparison.words import in_words
from neurosim.errors import InputError
from neurosim.traces.reader import records_cell, studying
from neurosim.traces.scenes import Trace

__all__ = ["TOLERANCE", "Comparison", "Pair", "Recorded", "compare", "hold", "in_words"]

NUMERICAL = ("level", "precision", "rate", "equilibrium")
"""Keys that say how a network is computed without spikes, not what it does."""


def compare(a: str | PathLike[str], b: str | PathLike[str]) -> dict[str, Any]:
    """How far two traces agree, as plain data.

    Of ensembles the first seed that lives is compared, and the mean over all that do learn. Returns
    `a` and `b` (path, protocol, model, level, seed, seeds, tested_on); `differs`, the keys in
    which the protocols differ, with both values; `presentations`, seen in detail by both, and
    `aligned`: how many `samples` both saw there and whether they began as the same `network`, so
    that units are the same units.

    `agreement`, per presentation, phase, layer and variable at the end of the phase, as plasticity
    had it: `size_a` and `size_b` (root mean squares) and, of the same units and samples, `rmse`,
    `bias` (b − a) and `correlation`; `signals`, per presentation and layer: the same of the
    teaching signals, with `cosine` and `ratio` of norms (b over a); `learning`: test loss and error
    of both after as many presentations, means over seeds. Each of these rows has `expected`, the
    rmse that spikes, noise or the size of the test set let expect (None where no law is known), the
    rmse `allowed`, and `verdict`: `agree`; `differ`, by more than is allowed; `lost`, where the
    noise is as large as what it hides; `unknown`.

    `spikes`, where both hold any, per population and statistic (rate and interval_cv of neurons in
    a trial, correlation of the spike counts of two): how many there are (`count_a`, `count_b`),
    their means, the Kolmogorov–Smirnov `distance` of their distributions, the `band` that holds
    95 % of what sampling alone gives, the most of it (`allowed`), and `verdict` (see `trains.py`).

    `first`: the first place where units differ by more than is allowed, or None. `verdict`: `agree`
    (None where not all can be told), and the worst of `activity`, `signals`, `learning` and
    `spikes`.

    Of two recordings of cells see `neurosim.comparison.recordings.hold`.

    Raises:
        InputError: a file is no trace, or the two have nothing in common.
    """
    return hold(a, b).report


class Comparison(NamedTuple):
    """Two traces held against each other.

    report: what `compare` returns. pairs: of which it says how they agree. curves: test loss and
    error of both, each as `Trace.series` has them, where the task of both has them. sent: layer →
    what the neurons of the first send. trains: of both, by population.
    """

    report: dict[str, Any]
    pairs: list[Pair]
    curves: dict[str, list[tuple[np.ndarray, np.ndarray]]]
    sent: dict[int, tuple[str, ...]]
    trains: list[tuple[str, Trains, Trains]]

    def __repr__(self) -> str:
        a, b = (self.report[side]["path"] for side in "ab")
        return f"<Comparison of {a} and {b}>"

    def _repr_html_(self) -> str:
        """What `in_words` says, which notebooks show."""
        return f"<pre>{html.escape(in_words(self.report))}</pre>"


def hold(a: str | PathLike[str], b: str | PathLike[str]) -> Comparison | Recorded:
    """What `compare` says, with what it is said of.

    Raises:
        InputError: as `compare` does.
    """
    of_cells = [records_cell(path) for path in (a, b)]
    if all(of_cells):
        return recordings.hold(a, b)
    if any(of_cells):
        cell, other = (a, b) if of_cells[0] else (b, a)
        with studying(other):  # it may be no trace at all
            raise InputError(
                f"{cell}: is a recording of a cell, and {other} is none; expected two recordings "
                f"of cells, or the traces of two networks"
            )
    return _held(a, b)


def _held(a: str | PathLike[str], b: str | PathLike[str]) -> Comparison:
    """Two runs of networks.

    Raises:
        InputError: as `compare` does.
    """
    with studying(a) as tree_a, studying(b) as tree_b:
        found = align(Trace(a, tree_a), Trace(b, tree_b))
        traces = [side.trace for side in found.sides]
        curves = {kind: [t.series(f"evaluation/{kind}") for t in traces] for kind in _kinds(traces)}
        seen = list(found.pairs())
        activity = [*map(_agreement, seen)] or list(_sizes(found))
        signals = [*map(_signal, found.taught())] or list(_signal_sizes(found))
        learning = list(_learning(found))
        trains = list(populations(found))
        spikes = [row for given in trains for row in held_apart(*given, quiet=False)]
        rows = {"activity": activity, "signals": signals, "learning": learning, "spikes": spikes}
        parts = {name: summary(of) for name, of in rows.items() if of or name != "spikes"}
        report = {
            "a": found.sides[0].about,
            "b": found.sides[1].about,
            "differs": found.differing,
            "presentations": found.presentations,
            "aligned": {"network": found.same_network, "samples": found.samples},
            "agreement": activity,
            "signals": signals,
            "learning": learning,
            "spikes": spikes,
            "first": _first(found, seen),
            "verdict": {"agree": overall(list(parts.values())), **parts},
        }
        layers = {pair.layer for pair in seen}
        sent = {layer: tuple(traces[0].sent(layer)) for layer in layers}
        return Comparison(report, seen, curves, sent, trains)


def align(left: Trace, right: Trace) -> Alignment:
    """Two traces held against each other.

    Raises:
        InputError: they have nothing in common.
    """
    found = Alignment(Side(left), Side(right))
    layers = any(True for n in found.presentations for _ in found.matches(n))
    if not layers and not any(True for _ in _learning(found)):
        raise InputError(
            f"{left.path} and {right.path}: have nothing in common: no test after as many "
            f"presentations, and no variable in the same presentation (recorded were "
            f"{left.recorded()} and {right.recorded()}); run one of them again with "
            f"record.presentations as in the other, such as [0]"
        )
    return found


# ------------------------------------------------------------------------------------- activity


def _finite(value: Any) -> float | None:
    """A number as plain data; None for what is none, as in a run that diverged."""
    return float(value) if value is not None and np.isfinite(value) else None


def _held_apart(
    a: np.ndarray, b: np.ndarray, expected: np.ndarray, share: float = EXACT
) -> dict[str, Any]:
    """Two arrays of the same units: sizes, difference, what is expected, and the verdict."""
    rmse = _finite(np.sqrt(np.mean((a - b) ** 2)))
    noise = _finite(np.sqrt(np.mean(expected**2)))
    sizes = [_finite(np.sqrt(np.mean(v**2))) for v in (a, b)]
    size = min((s for s in sizes if s is not None), default=0.0)
    return {
        "size_a": sizes[0],
        "size_b": sizes[1],
        "bias": _finite(np.mean(b - a)),
        **judged(rmse, noise, size, share),
    }


def _agreement(pair: Pair) -> dict[str, Any]:
    a, b = pair.a_end, pair.b_end
    correlation = np.nan
    if np.std(a) > 0 and np.std(b) > 0:
        correlation = np.corrcoef(a.ravel(), b.ravel())[0, 1]
    return {
        "presentation": pair.presentation,
        "phase": pair.phase,
        "layer": pair.layer,
        "variable": pair.variable,
        **_held_apart(a, b, pair.expected_end),
        "correlation": _finite(correlation),
    }


def _sizes(found: Alignment) -> Iterator[dict[str, Any]]:
    """Of what cannot be held apart unit by unit: how large it is in both."""
    for number in found.presentations:
        shown = found.shown[number]
        for layer, k, m, name, twin in found.matches(number):
            values = shown[0].ends[layer][name][:, k], shown[1].ends[layer][twin][:, m]
            sizes = [_finite(np.sqrt(np.mean(v**2))) for v in values]
            yield {
                "presentation": number,
                "phase": shown[0].phases[k].name,
                "layer": layer,
                "variable": joint(name, twin),
                "size_a": sizes[0],
                "size_b": sizes[1],
            }


# -------------------------------------------------------------------------------------- signals


def _signal(taught: Taught) -> dict[str, Any]:
    a, b = taught.a.ravel(), taught.b.ravel()
    sizes = np.linalg.norm(a), np.linalg.norm(b)
    known = all(size > 0 for size in sizes)
    return {
        "presentation": taught.presentation,
        "between": taught.between,
        "layer": taught.layer,
        "variable": taught.variable,
        **_held_apart(taught.a, taught.b, taught.expected, TAUGHT),
        "cosine": _finite(a @ b / (sizes[0] * sizes[1])) if known else None,
        "ratio": _finite(sizes[1] / sizes[0]) if known else None,
    }


def _signal_sizes(found: Alignment) -> Iterator[dict[str, Any]]:
    for number in found.presentations:
        for layer, a, b in found.lessons(number):
            sizes = [float(np.sqrt(np.mean(x.difference**2))) for x in (a, b)]
            yield {
                "presentation": number,
                "between": joint(a.between, b.between),
                "layer": layer,
                "variable": joint(a.variable, b.variable),
                "size_a": _finite(sizes[0]),
                "size_b": _finite(sizes[1]),
                "ratio": _finite(sizes[1] / sizes[0]) if all(sizes) else None,
            }


# ------------------------------------------------------------------------------------- learning


def _kinds(traces: list[Trace]) -> list[str]:
    """The measures of a test that mean the same in both."""
    kinds = ["loss"] if traces[0].model["loss"] == traces[1].model["loss"] else []
    return [*kinds, "error"] if all(trace.classes for trace in traces) else kinds


def _learning(found: Alignment) -> Iterator[dict[str, Any]]:
    """The test set after as many presentations, and at the end where that is another."""
    traces = [side.trace for side in found.sides]
    kinds = _kinds(traces)
    series = [{kind: t.series(f"evaluation/{kind}") for kind in kinds} for t in traces]
    if not kinds:
        return
    numbers = [s[kinds[0]][0].tolist() for s in series]
    known = [np.isfinite(s[kinds[0]][1]).any(1) for s in series]
    places = [(numbers[0].index(n), numbers[1].index(n)) for n in numbers[0] if n in numbers[1]]
    last = [int(np.flatnonzero(k)[-1]) if k.any() else len(k) - 1 for k in known]
    if (last[0], last[1]) not in places:
        places.append((last[0], last[1]))
    exact = found.quiet() and not [
        row for row in found.differing if row["key"].partition(".")[0] not in NUMERICAL
    ]
    for at in places:
        of = [n[k] for n, k in zip(numbers, at, strict=True)]
        row: dict[str, Any] = {"presentations": of[0] if of[0] == of[1] else of}
        for kind in ("loss", "error"):
            for side, s, k in zip("ab", series, at, strict=True):
                values = s[kind][1][k] if kind in kinds else np.array([np.nan])
                living = values[np.isfinite(values)]
                row[f"{kind}_{side}"] = _finite(living.mean()) if living.size else None
        yield row | _learned(found, series, kinds, at, exact)


def _learned(
    found: Alignment,
    series: Sequence[Mapping[str, Any]],
    kinds: list[str],
    at: tuple[int, int],
    exact: bool,
) -> dict[str, Any]:
    """What the test says: the kind of measure that a law is known of, and its verdict."""
    kind = kinds[0] if exact else kinds[-1]
    a, b = (s[kind][1][k] for s, k in zip(series, at, strict=True))
    living = [v[np.isfinite(v)] for v in (a, b)]
    if not all(v.size for v in living):
        return {"of": kind} | judged(None, None, 0.0)
    means = [float(v.mean()) for v in living]
    expected: float | None = None
    if exact:
        expected = 0.0
    elif all(v.size > 1 for v in living):
        expected = float(np.sqrt(sum(v.var(ddof=1) / v.size for v in living)))
    elif kind == "error" and found.same_network:
        counts = [s.tree["evaluation/error"].attrs.get("samples") for s in found.sides]
        if all(counts):  # of one fraction, seen in two samples of the test set
            p = sum(m * n for m, n in zip(means, counts, strict=True)) / sum(counts)
            expected = float(np.sqrt(p * (1 - p) * sum(1 / n for n in counts)))
    return {"of": kind} | judged(abs(means[1] - means[0]), expected, min(map(abs, means)))


# ---------------------------------------------------------------------------------------- first


def _first(found: Alignment, seen: list[Pair]) -> dict[str, Any] | None:
    """The first presentation and moment at which a layer is further apart than is allowed."""
    earliest: tuple[tuple[float, ...], dict[str, Any]] | None = None
    for pair in seen:
        if found.spikes and not pair.counted and len(pair.time) > 1:
            continue  # dendrites of spiking networks smooth what elsewhere follows at once
        for k, time in enumerate(pair.time):
            row = _held_apart(pair.a[:, k], pair.b[:, k], pair.expected[:, k])
            key = (pair.presentation, float(time) if np.isfinite(time) else np.inf, pair.layer)
            if row["verdict"] != "differ" or (earliest is not None and key >= earliest[0]):
                continue
            where = {
                "presentation": pair.presentation,
                "phase": pair.phase,
                "time_ms": _finite(time),
                "layer": pair.layer,
                "variable": pair.variable,
                "rmse": row["rmse"],
                "allowed": row["allowed"],
            }
            earliest = key, where
            break
    return None if earliest is None else earliest[1]
