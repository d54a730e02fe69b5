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
from neurosim.sweeps.ledger import LOG, Ledger
from neurosim.sweeps.plan import Point
from neurosim.sweeps.work import Job

TICK = 0.2
"""Seconds between two looks at signals."""

LONELY = 10.0
"""Seconds after which a cluster without workers is told of."""


class Sweeping:
    """Points that are being run.

    records: what came of them, by digest. before: how many more points there are, which are done.
    """

    def __init__(
        self,
        points: Sequence[Point],
        seeds: list[int],
        ledger: Ledger,
        device: str | None = None,
        before: int = 0,
        measured: bool = False,
        display: Callable[[Runs], None] | None = None,
    ) -> None:
        """measured: whether only what they would cost is wanted, of which the ledger hears
        nothing."""
        self.points, self.seeds, self.ledger = points, seeds, ledger
        self.device, self.before, self.measured = device, before, measured
        self.display = display
        self.records: dict[str, dict[str, Any]] = {}
        self._number = {point.digest: k for k, point in enumerate(points)}
        self._done = [0] * len(points)
        self._dispatch = Dispatch([point.program for point in points])

    def run(self, address: Any, count: int, request: Request) -> None:
        """Until every point has come to an end, or is given up.

        address, count: of workers, see `cluster`.

        Raises:
            StoppedError: a signal asked to stop.
        """
        saying = "stopping; the same sweep goes on where it was"
        log = self.ledger.folder / LOG
        with listening(request, saying), cluster(address, count, len(self.points), log) as of:
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
                        of.submit(self._job(self.points[k]), worker)
                self._hear(of)
                if request.signal is not None:
                    self._stop()

    def _job(self, point: Point) -> Job:
        trace, now = str(self.ledger.trace(point.digest)), version("neurosim")
        given = point.digest, point.protocol, self.seeds, trace, self.device, now
        return Job(*given, measured=self.measured)

    def _bury(self, of: Cluster, alive: list[str]) -> None:
        """Points whose workers have died begin again elsewhere, but not for ever."""
        again, lost = self._dispatch.died(alive)
        for k in again + lost:
            of.drop(self.points[k].digest)
        for k in lost:
            reason = f"its worker died {ATTEMPTS} times; it may need more memory"
            self._note(k, {"state": "lost", "reason": reason})

    def _hear(self, of: Cluster) -> None:
        """Take up what there is to hear, or wait a moment for it."""
        try:
            self._take(of.events.get(timeout=TICK))
            while True:
                self._take(of.events.get_nowait())
        except queue.Empty:
            pass

    def _take(self, event: Event) -> None:
        k = self._number.get(event.digest)
        if k is None or k not in self._dispatch.working.values():
            return  # of another sweep, or of a worker that was given up
        if event.record is not None:
            self._dispatch.ended(k)
            self._note(k, event.record)
        elif event.progress is not None:
            self._dispatch.moved(k)
            self._done[k] = event.progress
            self._report()

    def _note(self, k: int, record: dict[str, Any]) -> None:
        digest = self.points[k].digest
        self.records[digest] = record
        self._done[k] = self.points[k].presentations
        if not self.measured:
            self.ledger.note(digest, record)
        self._report()

    def _report(self) -> None:
        if self.display is None:
            return
        states = [record["state"] for record in self.records.values()]
        done = self.before + len(states) - states.count("failed") - states.count("lost")
        total = sum(point.presentations for point in self.points)
        ended = states.count("failed"), states.count("lost")
        self.display(Runs(sum(self._done), total, done, self.before + len(self.points), *ended))

    def _stop(self) -> None:
        left = len(self.points) - len(self.records)
        total = self.before + len(self.points)
        error = StoppedError(f"stopped with {left} of {total} points to do")
        error.add_note("the same sweep goes on where it was")
        raise error
