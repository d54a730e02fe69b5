"""Which point goes to which worker, so that little is compiled twice and nothing waits for long."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

ATTEMPTS = 3
"""How often a point may lose its worker before it is given up."""

JOINING = 0.5
"""What it takes a worker to begin with programs that another has compiled, as a share of the time
that took: it traces them, and reads what JAX keeps of them."""


class Dispatch:
    """The points that are still to be run, each in at most one worker, and each worker at one.

    programs: of every point, the number of the programs that it needs. A worker goes on with the
    programs that it has. New ones are compiled by one worker while others wait; then these join, if
    what is left to do takes longer than to begin. clock: in seconds.
    """

    def __init__(
        self, programs: Sequence[int], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.programs, self._clock = programs, clock
        self.waiting = list(range(len(programs)))
        self.working: dict[str, int] = {}
        self.deaths: Counter[int] = Counter()
        self._compiling: dict[int, float] = {}  # how long that took, by program
        self._took: dict[int, list[float]] = {}  # without compiling, by program
        self._began: dict[int, float] = {}
        self._moved: dict[int, float] = {}
        self._had: dict[str, int] = {}

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.waiting or self.working)

    def next(self, worker: str) -> int | None:
        """The point that a worker now begins; None where it has one, or better waits."""
        if worker in self.working:
            return None
        left = Counter(self.programs[k] for k in self.waiting)
        own, holders = self._had.get(worker), Counter(self._had.values())
        free = {p for p in left if p == own or not holders[p] or self._worth(p, left, holders)}
        if not free:
            return None
        best = min(free, key=lambda p: (p != own, holders[p], -left[p], p))
        chosen = next(k for k in self.waiting if self.programs[k] == best)
        self.waiting.remove(chosen)
        self.working[worker], self._had[worker] = chosen, best
        self._began[chosen] = self._clock()
        return chosen

    def _worth(self, program: int, left: Counter[int], holders: Counter[int]) -> bool:
        """Whether another worker with these programs would save time."""
        if program not in self._compiling:
            return False
        took = self._took.get(program)
        if took:
            each = sum(took) / len(took)
        else:
            points = [k for k in self.working.values() if self.programs[k] == program]
            since = [self._clock() - self._moved[k] for k in points if k in self._moved]
            each = max(since, default=0.0)
        return left[program] * each / holders[program] > JOINING * self._compiling[program]

    def moved(self, point: int) -> None:
        """A point has made progress, so that its programs are compiled."""
        if point not in self._moved and point in self._began:
            self._moved[point] = self._clock()
            took = self._moved[point] - self._began[point]
            self._compiling.setdefault(self.programs[point], took)

    def ended(self, point: int) -> None:
        """A point is done with."""
        self.moved(point)
        self.working = {w: k for w, k in self.working.items() if k != point}
        took = self._clock() - self._moved[point]
        self._took.setdefault(self.programs[point], []).append(took)

    def died(self, alive: Iterable[str]) -> tuple[list[int], list[int]]:
        """Points whose workers are not among those alive: to begin again, and given up."""
        living = set(alive)
        self._had = {w: p for w, p in self._had.items() if w in living}
        gone = {w: k for w, k in self.working.items() if w not in living}
        again: list[int] = []
        lost: list[int] = []
        for worker, point in gone.items():
            del self.working[worker]
            self._moved.pop(point, None)
            self.deaths[point] += 1
            (again if self.deaths[point] < ATTEMPTS else lost).append(point)
        self.waiting = again + self.waiting
        return again, lost
