"""What comes out of a run: numbers, and how they are shown."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurosim import wording
from neurosim.specs import ProtocolSpec


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run.

    spec: what ran. metrics: `test_loss`, and `test_error` as a fraction where the task has
    classes, or `validation_loss` and `validation_error` where it holds out a part to choose by;
    lists over seeds where there are several. diverged: the seeds that did, and where. settled: of
    each phase the smallest fraction of a batch. residual: of each phase the largest, as a fraction
    of the expected learning signal; above the tolerance where samples did not settle, or where the
    precision lets no more be seen. shortened: in how many `presentations` fixed steps had to be
    cut, from which (`first`) on, and to how long a `step` at least (s); empty if in none.
    presentations: how many were planned, and how many the stages ask for, of which
    `spiking.presentations` may allow fewer.
    """

    path: Path
    spec: ProtocolSpec
    metrics: dict[str, Any]
    diverged: list[dict[str, Any]]
    wall_s: float
    settled: dict[str, float]
    residual: dict[str, float]
    shortened: dict[str, float]
    presentations: tuple[int, int]

    @property
    def summary(self) -> dict[str, Any]:
        """The same as plain data, with None for what is not a number."""
        return _plain(
            {
                "trace": str(self.path),
                "metrics": self.metrics,
                "diverged": self.diverged,
                "settled": self.settled,
                "residual": self.residual,
                "shortened": self.shortened,
                "presentations": dict(zip(("planned", "asked"), self.presentations, strict=True)),
                "wall_s": self.wall_s,
            }
        )

    def __repr__(self) -> str:
        found = ", ".join(f"{label} {text}" for label, text in self._found())
        return f"<Run of {self.spec.name}, {self.spec.level} level: {found}; {self.path}>"

    def _repr_html_(self) -> str:
        """A table, which notebooks show."""
        rows = [
            ("run", f"{self.spec.name}, {self.spec.level} level"),
            *self._found(),
            *wording.budget(*self.presentations),
            *(
                ("settled", f"{k}: {wording.percent(v)} of samples{self._rounded(k)}")
                for k, v in self.settled.items()
            ),
            *wording.shortened(self.shortened, self.presentations[0]),
            ("wall time", wording.duration(self.wall_s)),
            ("trace", str(self.path)),
        ]
        return wording.tabled(rows)

    def _rounded(self, phase: str) -> str:
        """How far the samples of a phase settled, where rounding is what ended all of them."""
        if self.settled[phase] < 1:
            return ""
        left = self.residual.get(phase)
        return wording.rounded(left, self.spec.tolerance, self.spec.precision)

    def _found(self) -> Iterator[tuple[str, str]]:
        yield from wording.metrics(self.summary["metrics"])
        if self.diverged:
            yield "diverged", wording.plural(len(self.diverged), "seed")


def _plain(value: Any) -> Any:
    """Plain data for JSON, with null for what is not a number."""
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
