"""Where numbers end: what is larger than any activity, weight or loss has diverged."""

from typing import Any

import numpy as np

EXPLODED = 1e12
"""Activity, weights and losses beyond this have diverged, finite or not."""


def inside(array: Any) -> np.ndarray:
    """Which numbers are finite and not exploded; false for NaN."""
    return np.abs(np.asarray(array)) < EXPLODED
