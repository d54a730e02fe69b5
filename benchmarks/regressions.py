"""Whether the benchmarks became slower from one entry of their history to another.

Repeats of every quantity that both have are compared by the one-sided test of Mann and Whitney, and
the p-values of all of them together by the procedure of Benjamini and Hochberg, which keeps the
expected share of false alarms below `FALSE`. A change smaller than `SMALLEST` does not count,
however certain it is.
"""

from typing import NamedTuple

import numpy as np
from history import Measurement
from measure import Absent, Row
from scipy.stats import false_discovery_control, mannwhitneyu

FALSE = 0.05
SMALLEST = 0.05
FEWEST = 5
"""Repeats of either side; five against five can give a p-value of 0.4 % at the least."""

COSTS = ("s", "ms", "MB", "J")
SPEEDS = ("1/s", "Gflop/s")
RATIOS = ("x", "%", "×")


class Change(NamedTuple):
    """One quantity in both entries.

    grown: how much worse the median became, as a fraction. p: of no change for the worse.
    verdict: "worse", "better" or "".
    """

    what: str
    unit: str
    before: float
    after: float
    grown: float
    p: float
    verdict: str


def changes(before: Measurement, after: Measurement) -> list[Change]:
    """All quantities that can be compared; ratios alone if the machines differ."""
    same = _kind(before) == _kind(after)
    pairs: list[tuple[str, Row, Row, bool]] = []
    for part in before.parts.keys() & after.parts.keys():
        old, new = before.parts[part], after.parts[part]
        for what in old.keys() & new.keys():
            here, there = old[what], new[what]
            if isinstance(here, Absent) or isinstance(there, Absent):
                continue
            if (better := _better(here, there)) and (same or here.unit in RATIOS):
                pairs.append((f"{part}: {what}", here, there, better == "more"))
    if not pairs:
        return []
    worse, better = (
        false_discovery_control(
            [_p(old, new, "less" if up == badly else "greater") for _, old, new, up in pairs]
        )
        for badly in (True, False)
    )
    found = [
        _change(what, old, new, up, p, q)
        for (what, old, new, up), p, q in zip(pairs, worse, better, strict=True)
    ]
    return sorted(found, key=lambda change: change.p)


def table(found: list[Change]) -> str:
    """Those that changed, as Markdown, and how many did not."""
    lines = ["| what | before | after | worse by | p (adjusted) | |", "|---|---|---|---|---|---|"]
    for c in found:
        if c.verdict:
            values = f"{c.before:.3g} {c.unit} | {c.after:.3g} {c.unit}"
            lines.append(
                f"| {c.what} | {values} | {100 * c.grown:+.1f} % | {c.p:.2g} | {c.verdict} |"
            )
    still = sum(not c.verdict for c in found)
    return "\n".join([*lines, "", f"{still} of {len(found)} quantities did not change."])


def _kind(entry: Measurement) -> tuple:
    return tuple(entry.machine.get(name) for name in ("device", "processor", "cores"))


def _better(old: Row, new: Row) -> str:
    """Whether more or less is better, "" where neither is or the two cannot be compared."""
    if old.unit != new.unit or min(len(old.repeats), len(new.repeats)) < FEWEST:
        return ""
    if new.limit is not None:
        return "more" if new.limit[0] == ">=" else "less"
    return "less" if new.unit in COSTS else "more" if new.unit in SPEEDS else ""


def _p(old: Row, new: Row, alternative: str) -> float:
    return float(mannwhitneyu(new.repeats, old.repeats, alternative=alternative).pvalue)


def _change(what: str, old: Row, new: Row, up: bool, worse: float, better: float) -> Change:
    before, after = float(np.median(old.repeats)), float(np.median(new.repeats))
    grown = (before - after if up else after - before) / abs(before) if before else 0.0
    verdict = ""
    if abs(grown) >= SMALLEST:
        verdict = "worse" if worse <= FALSE < better else "better" if better <= FALSE else ""
    return Change(what, new.unit, before, after, grown, min(worse, better), verdict)
