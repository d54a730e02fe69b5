"""Which worker gets which points, so that little is compiled twice and nothing waits for long."""

import time
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence

ATTEMPTS = 3
"""How often a group may lose its worker before it is given up."""

JOINING = 0.5
"""What it takes a worker to begin with programs that another has compiled, as a share of the time
that took: it traces them, and reads what JAX keeps of them."""


class Dispatch:
    """The groups that are still to be run, each in at most one worker, and each worker at one.

    programs: of every group, which programs it needs. A worker goes on with the
    programs that it has. New ones are compiled by one worker while others wait; then these join, if
    what is left to do takes longer than to begin. clock: in seconds.
    """

    def __init__(
        self, programs: Sequence[Hashable], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.programs, self._clock = list(programs), clock
        self.waiting = list(range(len(programs)))
        self.working: dict[str, int] = {}
        self.deaths: Counter[int] = Counter()
        self._compiling: dict[Hashable, float] = {}  # how long that took, by program
        self._took: dict[Hashable, list[float]] = {}  # without compiling, by program
        self._began: dict[int, float] = {}
        self._moved: dict[int, float] = {}
        self._had: dict[str, Hashable] = {}

    def add(self, program: Hashable) -> int:
        """One more group; its number."""
        self.programs.append(program)
        self.waiting.append(len(self.programs) - 1)
        return self.waiting[-1]

    @property
    def over(self) -> bool:
        """Whether nothing is left to do."""
        return not (self.waiting or self.working)

    def next(self, worker: str) -> int | None:
        """The group that a worker now begins; None where it has one, or better waits."""
        if worker in self.working:
            return None
        left = Counter(self.programs[k] for k in self.waiting)
        own, holders = self._had.get(worker), Counter(self._had.values())
        free = {p for p in left if p == own or not holders[p] or self._worth(p, left, holders)}
        if not free:
            return None
        best = min(free, key=lambda p: (p != own, holders[p], -left[p], self.programs.index(p)))
        chosen = next(k for k in self.waiting if self.programs[k] == best)
        self.waiting.remove(chosen)
        self.working[worker], self._had[worker] = chosen, best
        self._began[chosen] = self._clock()
        return chosen

    def _worth(
        self, program: Hashable, left: Counter[Hashable], holders: Counter[Hashable]
    ) -> bool:
        """Whether another worker with these programs would save time."""
        if program not in self._compiling:
            return False
        took = self._took.get(program)
        if took:
            each = sum(took) / len(took)
        else:
            groups = [k for k in self.working.values() if self.programs[k] == program]
            since = [self._clock() - self._moved[k] for k in groups if k in self._moved]
            each = max(since, default=0.0)
        return left[program] * each / holders[program] > JOINING * self._compiling[program]

    def moved(self, group: int) -> None:
        """A group has made progress, so that its programs are compiled."""
        if group not in self._moved and group in self._began:
            self._moved[group] = self._clock()
            took = self._moved[group] - self._began[group]
            self._compiling.setdefault(self.programs[group], took)

    def ended(self, group: int) -> None:
        """A group is done with."""
        self.moved(group)
        self.working = {w: k for w, k in self.working.items() if k != group}
        took = self._clock() - self._moved[group]
        self._took.setdefault(self.programs[group], []).append(took)

    def died(self, alive: Iterable[str]) -> tuple[list[int], list[int]]:
        """Groups whose workers are not among those alive: to begin again, and given up."""
        living = set(alive)
        self._had = {w: p for w, p in self._had.items() if w in living}
        gone = {w: k for w, k in self.working.items() if w not in living}
        again: list[int] = []
        lost: list[int] = []
        for worker, group in gone.items():
            del self.working[worker]
            self._moved.pop(group, None)
            self.deaths[group] += 1
            (again if self.deaths[group] < ATTEMPTS else lost).append(group)
        self.waiting = again + self.waiting
        return again, lost
