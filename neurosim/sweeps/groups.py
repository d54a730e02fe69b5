"""Points that are run side by side, as copies on one axis of the same programs."""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

from neurosim.sweeps.plan import Point

WORK = 1_000_000
"""Products of a weight and an activity, of all samples of a batch, that copies share a pass of.

Small networks wait for the processor's every operation, which many of them can share. Large ones
keep it busy alone, and side by side all would take as many sweeps as the slowest of them.
"""


@dataclass(frozen=True)
class Group:
    """Points that differ in numbers alone. size: for how many points its programs are."""

    points: tuple[Point, ...]
    size: int

    @property
    def program(self) -> Hashable:
        """Groups of the same run the same compiled programs."""
        return self.points[0].program, self.size

    @property
    def presentations(self) -> int:
        """Of each of its points."""
        return self.points[0].presentations

    def alone(self) -> list["Group"]:
        """Its points, each by itself."""
        return [Group((point,), 1) for point in self.points]


def groups(todo: Sequence[Point], of: Sequence[Point], workers: int | None) -> list[Group]:
    """The points that are still to be run, in groups.

    of: all points of the sweep. How large groups are follows from them, not from what is done
    already, so that those that are taken up again find their programs. workers: among whom points
    are shared, if known.
    """
    every: dict[int, set[str]] = {}
    left: dict[int, list[Point]] = {}
    for point in of:
        every.setdefault(point.alike, set()).add(point.digest)
    for point in todo:
        left.setdefault(point.alike, []).append(point)
    found = []
    for alike, points in left.items():
        count = len(every[alike])
        most = min(max(1, WORK // points[0].work), -(-count // (workers or 1)))
        size = -(-count // -(-count // most))
        found += [Group(tuple(points[k : k + size]), size) for k in range(0, len(points), size)]
    return found
