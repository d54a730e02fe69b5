"""Whether what was found of two traces is what is expected of the same network."""

from collections.abc import Sequence
from typing import Any

import numpy as np

TOLERANCE = 2.0
"""How many deviations that spikes and noise let expect an rmse may be."""

EXACT, TAUGHT = 1e-2, 5e-2
"""The difference allowed without noise, over the root mean square of what is compared.

Of teaching signals more: phases settle to a thousandth of the signal expected at first, of which
little is left once a network has learned.
"""

ROUNDING = 1e-12

AGREE, LOST, UNKNOWN, DIFFER = "agree", "lost", "unknown", "differ"
"""Within what is expected; noise as large as what it hides; no law says; beyond it."""

ORDER = (AGREE, UNKNOWN, LOST, DIFFER)
"""From the best verdict to the worst."""


def judged(
    rmse: float | None, expected: float | None, size: float, share: float = EXACT
) -> dict[str, Any]:
    """A difference, what is expected of it, and what it says.

    rmse: None where it is not a number. expected: of spikes and noise; None where no law is known.
    size: of what is compared, root mean square. share: of the size, allowed without noise.
    """
    most = None if expected is None else TOLERANCE * expected + share * size + ROUNDING
    row = {"rmse": rmse, "expected": expected, "allowed": most, "size": size}
    if rmse is None:
        return row | {"verdict": DIFFER}
    if rmse <= share * size + ROUNDING:  # whatever noise would let expect
        return row | {"verdict": AGREE}
    if most is None or expected is None:
        return row | {"verdict": UNKNOWN}
    if rmse > most:
        return row | {"verdict": DIFFER}
    return row | {"verdict": LOST if expected >= size else AGREE}


def excess(row: dict[str, Any]) -> float:
    """How many times what is allowed a difference is; infinite where it is not a number."""
    found = row["rmse"] if "rmse" in row else row["distance"]
    if found is None:
        return np.inf
    if not row["allowed"]:
        return np.inf if found and row["allowed"] is not None else 0.0
    return found / row["allowed"]


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """Of rows of one kind: the worst verdict, how many there are of each, and the worst row."""
    if not rows:
        return None
    rows = [row for row in rows if "verdict" in row]
    if not rows:
        return {"verdict": UNKNOWN, "counts": {}, "worst": None}
    worst = max(rows, key=lambda row: (ORDER.index(row["verdict"]), excess(row)))
    counts = {name: sum(row["verdict"] == name for row in rows) for name in ORDER}
    return {
        "verdict": worst["verdict"],
        "counts": {name: count for name, count in counts.items() if count},
        "worst": worst,
    }


def overall(parts: Sequence[dict[str, Any] | None]) -> bool | None:
    """Whether two traces agree: False where anything differs, None where not all can be told."""
    found = {part["verdict"] for part in parts if part is not None}
    if DIFFER in found:
        return False
    return True if found == {AGREE} else None
