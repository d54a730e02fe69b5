"""Workers: processes of this machine, or of a cluster that Dask has started.

The only module that imports dask.distributed, when a sweep begins.
"""

import asyncio
import json
import logging
import os
import queue
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from neurosim.errors import InputError, NeurosimError, NeurosimWarning, arrived
from neurosim.process.progression import Progress
from neurosim.sweeps import work
from neurosim.sweeps.axes import given_by
from neurosim.sweeps.work import Job

PATIENCE = 60.0
"""Seconds that the first worker of this machine, or a scheduler, may take to answer."""

CONNECTING = 10.0
"""Seconds that an address may take to answer."""

LOOK, TELL = 0.5, 0.5
"""Seconds between two looks at which workers live, and two reports of a worker."""

TOPIC = "neurosim-sweep"


class GoneError(NeurosimError):
    """The scheduler, and with it all workers, cannot be reached any more."""


class Event(NamedTuple):
    """News of a point: how many presentations it has done, or its record."""

    digest: str
    progress: int | None = None
    record: dict[str, Any] | None = None


class Cluster:
    """Workers that are reached through a scheduler of Dask."""

    def __init__(self, client: Any, local: "LocalWorkers | None") -> None:
        self._client, self._local = client, local
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        self._futures: dict[str, Any] = {}  # of jobs, by name
        self._known: list[str] = []
        self._looked = 0.0
        client.subscribe_topic(TOPIC, self._hear)

    def workers(self) -> list[str]:
        """The addresses of those that live."""
        now = time.monotonic()
        if now - self._looked > LOOK:
            self._looked = now
            if self._local is not None:
                self._local.keep()
            try:
                self._known = list(self._client.scheduler_info(n_workers=-1)["workers"])
            except (OSError, TimeoutError, KeyError):  # of a client that has lost it
                raise GoneError("Dask's scheduler has gone") from None
            if self._local is not None and self._known:
                self._local.answered = True
        return self._known

    def submit(self, job: Job, worker: str) -> None:
        """Have a worker carry out a job; what comes of it is an event."""
        future = self._client.submit(_carry_out, job, workers=[worker], pure=False)
        self._futures[job.name] = future
        future.add_done_callback(lambda done: self._done(job, done))

    def drop(self, name: str) -> None:
        """Forget a job whose worker has died."""
        future = self._futures.pop(name, None)
        if future is not None:
            future.cancel(force=True)

    def _done(self, job: Job, future: Any) -> None:
        known: Any = self._futures.get(job.name)
        if known is not future or future.status == "cancelled":
            return
        error = future.exception() if future.status == "error" else None
        if error is None:
            records = future.result()
        elif type(error).__name__ == "KilledWorker":
            return  # the worker is seen to be dead
        else:
            lost = {"state": "lost", "reason": _in_words(error)}
            records = {part.digest: lost for part in job.parts}
        for digest, record in records.items():
            self.events.put(Event(digest, record=record))

    def _hear(self, event: tuple[float, Any]) -> None:
        digest, done = event[1]
        self.events.put(Event(digest, progress=done))


def _in_words(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"a worker cannot import {error.name}; install there what the sweep needs"
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _carry_out(job: Job) -> dict[str, dict[str, Any]]:
    """What dask has a worker do."""
    from distributed import get_worker

    worker, last = get_worker(), dict.fromkeys((part.digest for part in job.parts), 0.0)
    key = worker.get_current_task()

    def tell(digest: str, progress: Progress) -> None:
        task = worker.state.tasks.get(key)
        if task is None or task.state != "executing" or worker.status.name != "running":
            raise work.LetGoError("nobody waits for this any more")  # what is written is kept
        now = time.monotonic()
        if now - last[digest] > TELL or progress.done == progress.total:
            last[digest] = now
            worker.log_event(TOPIC, (digest, progress.done))

    return work.carry_out(job, tell)


# --- where workers come from ----------------------------------------------------------------------


@contextmanager
def cluster(address: Any, shares: int, most: int, log: Path) -> Iterator[Cluster]:
    """Workers of a scheduler at an address, else processes of this machine.

    address: also an object that Dask's launchers return, or the file that a scheduler writes.
    shares: among how many processes the cores are shared, of which at most so many (`most`) are
    needed. log: what they say.

    Raises:
        InputError: nobody answers at the address, or no process starts.
    """
    with ExitStack() as stack:
        stack.enter_context(_quiet())
        if address is None:
            local = stack.enter_context(_local(shares, most, log))
            target: Any = local.address
        else:
            local, target = None, _found(address)
        yield Cluster(stack.enter_context(_client(target, address)), local)


def _found(given: Any) -> Any:
    """What a launcher of Dask returned, or the address at which a scheduler answers.

    Asked before a client is made: one that finds nobody takes 20 s to give up, and a traceback.
    """
    if hasattr(given, "scheduler_address"):
        return given
    where = f"{given_by('cluster')} {given}"
    if not isinstance(given, str | os.PathLike):
        raise InputError(
            f"{given_by('cluster')}: got {arrived(given)}; expected the address of a scheduler, "
            "the file that it writes, or what a launcher of Dask returns"
        )
    path = os.path.expanduser(given)
    if os.path.isfile(path):
        address = _written(where, path)
    elif path.endswith(".json") or ("://" not in path and os.sep in path):
        raise InputError(
            f"{where}: no such file; expected the one that a scheduler writes "
            "(dask scheduler --scheduler-file FILE)"
        )
    else:
        address = os.fspath(given)
    with ThreadPoolExecutor(1) as apart:  # from a notebook, which has a loop of its own
        reason = apart.submit(asyncio.run, _refusal(address)).result()
    if reason is not None:
        raise _unanswered(given, reason)
    return address


def _unanswered(given: Any, reason: str) -> InputError:
    return InputError(
        f"{given_by('cluster')} {given}: no scheduler of Dask answers there: {reason}; "
        "expected an address such as tcp://10.0.0.1:8786"
    )


def _written(where: str, path: str) -> str:
    """The address in the file of a scheduler."""
    try:
        told = json.loads(Path(path).read_text(encoding="utf-8"))
        address = told["address"]
    except (OSError, ValueError, TypeError, KeyError):
        address = None
    if not isinstance(address, str):
        raise InputError(
            f"{where}: is not the file of a scheduler, which names its address; expected one that "
            "dask scheduler --scheduler-file FILE has written"
        )
    return address


async def _refusal(address: str) -> str | None:
    """Why nothing that speaks as Dask does can be reached; None where it can."""
    from distributed.comm import connect
    from distributed.security import Security

    try:
        secured = Security().get_connection_args("client")
        found = connect(address, timeout=CONNECTING, **secured)
        comm = await asyncio.wait_for(found, 1.1 * CONNECTING)  # others may never greet
    except Exception as error:  # every way to connect has its own
        return _first_line(error)
    await comm.close()
    return None


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]


@contextmanager
def _client(target: Any, given: Any) -> Iterator[Any]:
    from distributed import Client

    try:
        client = Client(target, timeout=CONNECTING, set_as_default=False)
    except (OSError, TimeoutError, ValueError, TypeError, RuntimeError) as error:  # it has gone
        raise _unanswered(given, _first_line(error)) from None
    try:
        yield client
    finally:
        with suppress(OSError, TimeoutError):
            client.close(timeout=2)


@contextmanager
def _quiet() -> Iterator[None]:
    """In which Dask keeps to itself what it has to say of workers that come and go."""
    import distributed

    own = (distributed.__name__, "tornado")  # of which many have a level of their own
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in own]
    before = {name: logging.getLogger(name).level for name in (*own, *names)}
    for name in before:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"distributed(\..*)?$")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)


class LocalWorkers:
    """Processes of this machine that work for a scheduler in this one.

    Each has its share of the cores. They are processes of their own, in a session of their own: a
    script that sweeps is not begun again in each of them, and Ctrl-C reaches only the sweep.
    """

    def __init__(
        self, address: str, shares: list[set[int]], count: int, log: Any, scratch: str
    ) -> None:
        self.address, self._log, self._scratch = address, log, scratch
        self.answered = False
        self._began = time.monotonic()
        self._shares = shares
        self._processes = [self._start(k) for k in range(count)]

    def _start(self, number: int) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "distributed.cli.dask_worker", self.address]
        command += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
        command += ["--local-directory", self._scratch, "--death-timeout", str(int(PATIENCE))]
        paths = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            command,
            env={"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ | {"PYTHONPATH": paths},
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        if self._shares:
            with suppress(OSError):  # it has ended already, which is seen elsewhere
                os.sched_setaffinity(process.pid, self._shares[number])
        return process

    def keep(self) -> None:
        """Start again those that have died.

        Raises:
            NeurosimError: none has ever worked.
        """
        dead = [k for k, process in enumerate(self._processes) if process.poll() is not None]
        late = time.monotonic() - self._began > PATIENCE
        if not self.answered and (late or len(dead) == len(self._processes)):
            raise NeurosimError(f"no worker starts; {self._log.name} says why")
        if self.answered:
            for number in dead:
                self._processes[number] = self._start(number)

    def stop(self) -> None:
        """End all of them; what they have written is kept, and can be gone on with."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.wait()


def _shares(count: int) -> list[set[int]]:
    """The cores of every worker; none where there are too few, or the system cannot say."""
    if not hasattr(os, "sched_setaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    if count > len(cores):
        return []
    return [set(cores[k * len(cores) // count : (k + 1) * len(cores) // count])
            for k in range(count)]  # fmt: skip


@contextmanager
def _local(shares: int, most: int, log: Path) -> Iterator[LocalWorkers]:
    from distributed import LocalCluster

    with (
        LocalCluster(
            n_workers=0, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as scheduler,
        tempfile.TemporaryDirectory(prefix="neurosim-", ignore_cleanup_errors=True) as scratch,
        open(log, "ab") as file,
    ):
        count = min(shares, most)
        workers = LocalWorkers(scheduler.scheduler_address, _shares(shares), count, file, scratch)
        try:
            yield workers
        finally:
            workers.stop()


def waiting(address: Any) -> None:
    """Warn that a cluster has no worker."""
    warnings.warn(
        f"{given_by('cluster')} {address}: has no worker yet; start some, such as with "
        f"dask worker {address} --nthreads 1",
        NeurosimWarning,
        stacklevel=2,
    )
