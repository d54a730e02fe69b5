"""Points on their way through workers: who has which, what is heard of them, what is given up."""

import queue
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import Any

from neurosim.errors import StoppedError
from neurosim.process.progression import Runs
from neurosim.process.stopping import Request, listening
from neurosim.sweeps.cluster import Cluster, Event, cluster, waiting
from neurosim.sweeps.dispatch import ATTEMPTS, Dispatch
from neurosim.sweeps.groups import Group
from neurosim.sweeps.ledger import LOG, Ledger
from neurosim.sweeps.work import Job, Part

TICK = 0.2
"""Seconds between two looks at signals."""

LONELY = 10.0
"""Seconds after which a cluster without workers is told of."""


class Sweeping:
    """Points that are being run, some of them side by side.

    records: what came of them, by digest. before: how many more points there are, which are done.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        seeds: list[int],
        ledger: Ledger,
        device: str | None = None,
        before: int = 0,
        measured: bool = False,
        display: Callable[[Runs], None] | None = None,
    ) -> None:
        """measured: whether only what they would cost is wanted, of which the ledger hears
        nothing."""
        self.groups, self.seeds, self.ledger = list(groups), seeds, ledger
        self.points = {point.digest: point for group in groups for point in group.points}
        self.device, self.before, self.measured = device, before, measured
        self.display = display
        self.records: dict[str, dict[str, Any]] = {}
        self._group = {p.digest: k for k, group in enumerate(groups) for p in group.points}
        self._done = dict.fromkeys(self.points, 0)
        self._dispatch = Dispatch([group.program for group in groups])

    def run(self, address: Any, count: int, request: Request) -> None:
        """Until every point has come to an end, or is given up.

        address, count: of workers, see `cluster`.

        Raises:
            StoppedError: a signal asked to stop.
        """
        saying = "stopping; the same sweep goes on where it was"
        log = self.ledger.folder / LOG
        with listening(request, saying), cluster(address, count, len(self.groups), log) as of:
            began, warned = time.monotonic(), address is None
            while not self._dispatch.over:
                alive = of.workers()
                if not alive and not warned and time.monotonic() - began > LONELY:
                    warned = True
                    waiting(address)
                self._bury(of, alive)
                for worker in alive:
                    k = self._dispatch.next(worker)
                    if k is not None:
                        of.submit(self._job(self.groups[k]), worker)
                self._hear(of)
                if request.signal is not None:
                    self._stop()

    def _job(self, group: Group) -> Job:
        trace = self.ledger.trace
        parts = [Part(p.digest, p.protocol, str(trace(p.digest))) for p in group.points]
        given = group.size, self.seeds, self.device, version("neurosim")
        return Job(parts, *given, measured=self.measured)

    def _bury(self, of: Cluster, alive: list[str]) -> None:
        """Groups whose workers have died begin again elsewhere, but not for ever.

        One point may be what kills them: at last, each is on its own.
        """
        again, lost = self._dispatch.died(alive)
        for k in again + lost:
            of.drop(self.groups[k].points[0].digest)
        for k in lost:
            if len(self.groups[k].points) == 1:
                reason = f"its worker died {ATTEMPTS} times; it may need more memory"
                self._note(self.groups[k].points[0].digest, {"state": "lost", "reason": reason})
            else:
                for single in self.groups[k].alone():
                    self._group[single.points[0].digest] = self._dispatch.add(single.program)
                    self.groups.append(single)

    def _hear(self, of: Cluster) -> None:
        """Take up what there is to hear, or wait a moment for it."""
        try:
            self._take(of.events.get(timeout=TICK))
            while True:
                self._take(of.events.get_nowait())
        except queue.Empty:
            pass

    def _take(self, event: Event) -> None:
        k = self._group.get(event.digest)
        if k is None or k not in self._dispatch.working.values():
            return  # of another sweep, or of a worker that was given up
        if event.record is not None:
            self._note(event.digest, event.record)
            if all(point.digest in self.records for point in self.groups[k].points):
                self._dispatch.ended(k)
        elif event.progress is not None:
            self._dispatch.moved(k)
            self._done[event.digest] = event.progress
            self._report()

    def _note(self, digest: str, record: dict[str, Any]) -> None:
        self.records[digest] = record
        self._done[digest] = self.points[digest].presentations
        if not self.measured:
            self.ledger.note(digest, record)
        self._report()

    def _report(self) -> None:
        if self.display is None:
            return
        states = [record["state"] for record in self.records.values()]
        done = self.before + len(states) - states.count("failed") - states.count("lost")
        total = sum(point.presentations for point in self.points.values())
        ended = states.count("failed"), states.count("lost")
        self.display(
            Runs(sum(self._done.values()), total, done, self.before + len(self.points), *ended)
        )

    def _stop(self) -> None:
        left = len(self.points) - len(self.records)
        total = self.before + len(self.points)
        error = StoppedError(f"stopped with {left} of {total} points to do")
        error.add_note("the same sweep goes on where it was")
        raise error
