"""What an analysis found: its result as frozen data, as plain data and in words."""

import html
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from neurosim import wording

HEAD = 8
"""Eigenvalues that are printed."""

SHOWN = 16
"""Entries up to which a limit of weights is printed; all are in the report."""

TEACHING = {
    "none": "no teaching",
    "following": "nudged, following the output",
    "frozen": "nudged from the free phase",
    "clamped": "clamped to the label",
    "held": "held at the answer of the free phase",
}


@dataclass(frozen=True)
class PhaseAnalysis:
    """A phase of the network, over the samples.

    teaching: `none`, `following`, `frozen`, `clamped` or `held`. residual: the largest ‖p(v) − v‖.
    settled: fraction of samples at rest to rounding. points: distinct fixed points that `starts`
    random starts lead to, for the first sample, stable ones first: (starts that lead there,
    stable); None where none were sought. eigenvalues (1/s): of the first sample that has some,
    slowest first; `complete` if all. time_constant (s): the slowest of the samples. stable:
    fraction of samples. Where no spectrum is known these are empty, NaN and None.
    closed_form (1/s): eigenvalues of any network with exact inverses, None where the inverses are
    not. closed_form_error: how far the computed ones are from them, relative to the largest.
    durations (s): of the protocol's phases with this teaching, by name. needed (s): after which the
    transient is a hundredth of the learning signal of every layer, for exact inverses.
    """

    teaching: str
    residual: float
    settled: float
    points: list[tuple[int, bool]] | None
    eigenvalues: np.ndarray
    complete: bool
    time_constant: float
    stable: float | None
    closed_form: np.ndarray | None
    closed_form_error: float | None
    durations: dict[str, float]
    needed: float | None


@dataclass(frozen=True)
class LayerAnalysis:
    """The learning signal of a layer: means over the samples.

    signal, tp, reconstruction, taylor: norms of the signal and its parts. to_tp,
    to_gauss_newton, to_backprop: angles of the signal to these (degrees). snr: power over that of
    the noise; None without noise. digits: decimal digits of the signal that the protocol's
    precision carries. Errors sent down as they are have no parts and keep their digits: None.
    """

    layer: int
    signal: float
    tp: float | None
    reconstruction: float | None
    taylor: float | None
    to_tp: float | None
    to_gauss_newton: float
    to_backprop: float
    snr: float | None
    digits: float | None


@dataclass(frozen=True)
class Inverses:
    """How wrong the feedback is, worst over the samples, and how wrong it may be.

    errors: of g_1 … g_{L−1}, relative; NaN where one does not exist. gains: of their loops.
    straddling: mean number of units on both sides of a kink. kink_gain: of the loops, squared, were
    a unit to straddle one in every layer: below 1 is safe; None without kinks. tolerated: the
    relative error that surely leaves the first sample's taught state stable; None where it was not
    computed.
    """

    errors: list[float]
    gains: list[float]
    straddling: list[float]
    kink_gain: float | None
    tolerated: float | None


@dataclass(frozen=True)
class LearningFlow:
    """The learning of a linear network as an ODE of its weights; see `learning_limits`.

    invariants: their names and, of a trace, by how much they changed, relative to their largest
    term; NaN of a protocol. limit: what is known of the end, in words. converges: None where nobody
    knows. weights, product: A_1 … A_L and P there, where they are known. off: of a trace, by how
    much the weights, or P where they are not known, are off the limit at most; NaN of a protocol.
    """

    invariants: list[tuple[str, float]]
    limit: str
    converges: bool | None
    weights: list[list[list[float]]] | None
    product: list[list[float]] | None
    off: float


@dataclass(frozen=True, repr=False)
class Analysis:
    """What was found of a network; `report` is the same as plain data.

    credit: where the learning signals come from. taught: the phase they are analysed in; None where
    they come down a channel of their own, at rest. flow: of a linear network whose weights flow
    while neurons rest; None of others.
    """

    name: str
    kind: str
    model: str
    populations: list[str]
    layers: list[int]
    states: int
    seed: int
    moment: str
    inputs: str
    phases: list[PhaseAnalysis]
    credit: str
    taught: str | None
    signals: list[LayerAnalysis]
    inverses: Inverses | None
    flow: LearningFlow | None = None

    def __repr__(self) -> str:
        return f"<Analysis of {self.name}: layers {self.layers}, seed {self.seed}>"

    def _repr_html_(self) -> str:
        """What `in_words` says, which notebooks show."""
        return f"<pre>{html.escape(in_words(self))}</pre>"

    @property
    def report(self) -> dict[str, Any]:
        """Plain data, with None for what is not a number; the slowest eigenvalues as (re, im)."""
        return _plain(asdict(self))


def _plain(value: Any) -> Any:
    """As JSON has it: complex numbers as (re, im), None for what is not a number."""
    if isinstance(value, np.ndarray):
        return [_plain(v) for v in value.tolist()[:HEAD]]
    if isinstance(value, complex):
        return [value.real, value.imag]
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


# --- words --------------------------------------------------------------------------------------


def in_words(found: Analysis, width: int = 80) -> str:
    """What `analyze` returns, as text for people."""
    layers = "-".join(map(str, found.layers))
    about = [
        ("model", f"{found.model}, populations {', '.join(found.populations)}, layers {layers}, "
                  f"{found.states} states"),
        ("weights", f"{found.moment}, seed {found.seed}"),
        ("samples", found.inputs),
    ]  # fmt: skip
    lines = [f"{found.name}: analysis of a {found.kind}", *wording.labelled(about, width)]
    for phase in found.phases:
        lines += ["", f"  {TEACHING[phase.teaching]}", *wording.labelled(_phase(phase), width)]
    if found.inverses is not None:
        lines += ["", "  feedback", *wording.labelled(_inverses(found.inverses), width)]
    where = f", {TEACHING[found.taught]}" if found.taught else ""
    if found.signals:
        lines += ["", f"  learning signal ({found.credit}{where}), by layer"]
        lines += list(_signals(found.signals))
    if found.flow is not None:
        lines += ["", "  learning as an ODE", *wording.labelled(_flow(found.flow), width)]
    return "\n".join(lines)


def _flow(flow: LearningFlow) -> Iterator[tuple[str, str]]:
    for name, change in flow.invariants:
        moved = "" if math.isnan(change) else f"; changed by {change:.1e} of its largest term"
        yield "conserved", f"{name}{moved}"
    yield "limit", flow.limit
    for i, layer in enumerate(flow.weights or (), start=1):
        if np.size(layer) <= SHOWN:
            yield f"A{i}", _matrix(layer)
    if flow.product is not None and np.size(flow.product) <= SHOWN:
        yield "P", _matrix(flow.product)
    if not math.isnan(flow.off):
        what = "the weights are" if flow.weights is not None else "P is"
        yield "reached", f"{what} within {flow.off:.1e} of it"


def _matrix(rows: list[list[float]]) -> str:
    return "; ".join(", ".join(f"{value:.6g}" for value in row) for row in rows)


def _phase(phase: PhaseAnalysis) -> Iterator[tuple[str, str]]:
    where = f"residual {phase.residual:.1e}"
    if phase.settled < 1:
        where += f"; only {wording.percent(phase.settled)} of samples come to rest"
    yield "rests", where
    if phase.points is not None:
        yield "starts", _points(phase.points)
    if phase.stable is None:
        yield (
            "verdict",
            "unknown: the Jacobian there is not finite, or its slowest modes did not converge",
        )
    else:
        yield "verdict", _verdict(phase.stable, phase.time_constant)
        head = ", ".join(_number(value) for value in _distinct(phase.eigenvalues))
        yield "spectrum" if phase.complete else "slowest", f"{head} per s"
    if phase.closed_form is not None:
        expected = ", ".join(_number(value) for value in _distinct(phase.closed_form))
        yield (
            "exact",
            (
                f"{expected} per s in closed form, whatever the weights; the computed ones are "
                f"within {phase.closed_form_error:.0e} of the fastest"
            ),
        )
    for name, duration in phase.durations.items():
        lasts = f"{name}: {wording.duration(duration)}"
        if np.isfinite(phase.time_constant):
            lasts += f", {duration / phase.time_constant:.0f} slowest time constants"
        yield "lasts", lasts
    if phase.needed is not None:
        yield (
            "needs",
            (
                f"{wording.duration(phase.needed)} until the transient is a hundredth of the "
                "learning signal, with exact inverses"
            ),
        )


def _verdict(stable: float, time_constant: float) -> str:
    if stable == 1:
        return f"stable; slowest time constant {wording.duration(time_constant)}"
    what = f"unstable in {wording.percent(1 - stable)} of samples"
    return f"{what}, where deviations grow and no time constant says how long they last"


def _points(points: list[tuple[int, bool]]) -> str:
    found = sum(count for count, _ in points)
    if not points:
        return "none of the random starts led to a fixed point"
    kinds = [f"{wording.plural(n, 'fixed point')} that {'is' if n == 1 else 'are'} {word}"
             for word, stable in (("stable", True), ("unstable", False))
             if (n := sum(s is stable for _, s in points))]  # fmt: skip
    return f"{' and '.join(kinds)}, from {wording.plural(found, 'random start')}"


def _inverses(inverses: Inverses) -> Iterator[tuple[str, str]]:
    for i, (error, gain, straddling) in enumerate(
        zip(inverses.errors, inverses.gains, inverses.straddling, strict=True), start=1
    ):
        text = f"g{i} is off by {error:.1e} of what it inverts, loop gain {gain:.3g}"
        if not math.isfinite(error):
            text = f"g{i} does not exist: layer {i + 1} is where its activation has no inverse"
        if straddling:
            text += f", {straddling:.1f} units on both sides of their kink"
        yield f"layer {i}", text
    if inverses.tolerated is not None and not math.isnan(inverses.tolerated):
        bound = f"any relative error of the inverses below {inverses.tolerated:.2g}"
        if math.isinf(inverses.tolerated):
            bound = "any error of the inverses, as nothing returns through them"
        yield (
            "margin",
            f"stable for {bound}"
            if inverses.tolerated
            else "none: the state is unstable with the inverses as they are",
        )
    if inverses.kink_gain is not None:
        safe = "safe" if inverses.kink_gain < 1 else "not safe"
        yield (
            "kinks",
            (
                f"{safe}: squared loop gain {inverses.kink_gain:.2g} if units straddle their kink "
                "(unstable above 1 at the earliest)"
            ),
        )


COLUMNS = {
    "signal": ("norm", "{:.2e}"),
    "tp": ("e^TP", "{:.2e}"),
    "reconstruction": ("e^rec", "{:.2e}"),
    "taylor": ("e^Taylor", "{:.2e}"),
    "to_tp": ("to TP", "{:.1f}°"),
    "to_gauss_newton": ("to GN", "{:.1f}°"),
    "to_backprop": ("to BP", "{:.1f}°"),
    "digits": ("digits", "{:.1f}"),
    "snr": ("SNR", "{:.2g}"),
}
"""Of the table of signals: what is shown, its heading and how it is written."""


def _signals(rows: list[LayerAnalysis]) -> Iterator[str]:
    """A table: norms of the signal and its parts, angles, digits and noise, where there are any."""
    shown = {key: c for key, c in COLUMNS.items() if getattr(rows[0], key) is not None}
    yield "    " + "".join(f"{name:>10}" for name in ("", *(head for head, _ in shown.values())))
    for row in rows:
        cells = [_cell(getattr(row, key), style) for key, (_, style) in shown.items()]
        yield "    " + "".join(f"{cell:>10}" for cell in (f"layer {row.layer}", *cells))
    yield from _missing(rows)


def _cell(value: float, style: str) -> str:
    return style.format(value) if math.isfinite(value) else "none"


def _missing(rows: list[LayerAnalysis]) -> Iterator[str]:
    """What the table has not, and why."""
    silent = [str(row.layer) for row in rows if not row.signal]
    if silent:
        where = "every layer" if len(silent) == len(rows) else f"layer {wording.listed(silent)}"
        yield f"    nothing is learned in {where}: a signal of zero has no direction and no digits"
    others = {
        "to_tp": "the useful signal of target propagation",
        "to_gauss_newton": "the Gauss-Newton signal",
        "to_backprop": "backprop's signal",
    }
    for key, what in others.items():
        found = [(row.layer, getattr(row, key)) for row in rows if row.signal]
        lost = [str(i) for i, value in found if value is not None and not math.isfinite(value)]
        if lost:
            yield f"    {what} is zero or no number in layer {wording.listed(lost)}: no angle to it"
    if any(row.snr is not None and math.isinf(row.snr) for row in rows):
        yield "    where SNR is none, no noise reaches the signal"


def _distinct(values: np.ndarray, most: int = 6) -> list[complex]:
    """The first few values that differ by more than rounding."""
    found: list[complex] = []
    scale = np.abs(values).max()
    for value in values:
        near = complex(value.real, abs(value.imag) if abs(value.imag) > 1e-6 * scale else 0)
        if not any(abs(near - other) < 1e-6 * scale for other in found):
            found.append(near)
        if len(found) == most:
            break
    return found


def _number(value: complex) -> str:
    return f"{value.real:.4g}" + (f" ± {value.imag:.3g}i" if value.imag else "")
