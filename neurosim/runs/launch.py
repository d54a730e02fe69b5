"""A run from its beginning: what it is given, the data, and the loop that goes through it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import numpy as np

from neurosim.building import assembly
from neurosim.building.continuing import started
from neurosim.building.loading import Protocol, resolve
from neurosim.errors import InputError
from neurosim.plain import plain
from neurosim.process import caller, devices
from neurosim.process.devices import Shared
from neurosim.process.progression import Progress, shown
from neurosim.process.sharing import placed
from neurosim.process.stopping import delivering
from neurosim.runs import draws, programs
from neurosim.runs.contents import Contents
from neurosim.runs.environment import fingerprint
from neurosim.runs.loop import Loop
from neurosim.runs.members import Samples, Setting
from neurosim.runs.positions import origin
from neurosim.runs.recorder import Recorder
from neurosim.runs.results import Run
from neurosim.specs import ProtocolSpec
from neurosim.tasks.data import Data
from neurosim.wording import plural


def run(
    protocol: Protocol | str | Path,
    *,
    level: str | None = None,
    seed: int | None = None,
    seeds: Iterable[int] | None = None,
    start: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    device: str | None = None,
    devices: int = 1,
    progress: bool | Callable[[Progress], None] | None = None,
) -> Run:
    """Run a protocol and write its trace.

    protocol: from `load_protocol`, or a path or bare name for it. level, seed: in place of the
    protocol's own. seeds: an ensemble, run as one array axis: several whole numbers, such as
    `range(3)`; a single one is refused, as it may mean how many or which. start: a trace from
    whose weights the run starts, `run.h5`, or `run.h5@12` for those of a recorded presentation, or
    another file of weights; all else is the protocol's. out: the trace file,
    `outputs/<protocol>-<level>.h5` if not given. force: overwrite. device: `cpu` or `gpu`.
    devices: how many of them share the seeds of an ensemble, or, where these are fewer, the samples
    of a batch; a processor can pass for several.
    progress: whether to show how far it is on standard error, in a notebook in its cell; by default
    on a terminal and in a notebook only. Or what is told after every chunk instead.

    Raises:
        InputError: something given is impossible; nothing was written.
        DivergedError: every seed diverged; the trace holds all up to there.
        StoppedError: SIGTERM came, the run stopped at the end of a chunk, and the script's own
            handler of SIGTERM returned. Without one SIGTERM ends the process there. Ctrl-C is a
            KeyboardInterrupt, there too. After all of them `resume` goes on.
    """
    protocol, chosen, path = resolve(protocol, level, seed, seeds, out)
    if start is not None:
        protocol = started(protocol, start, chosen[0])
    with (
        delivering() as request,
        shown(progress, protocol.spec.name) as display,
        computing(protocol.spec, device, *sharing(protocol.spec, chosen, devices)),
    ):
        samples, drawn = prepare(protocol, chosen)
        draws.warn_of(protocol, drawn[0])
        weights = initial_weights(protocol, chosen, drawn)
        about = origin(protocol, chosen, fingerprint(drawn))
        loop = Loop(Setting(protocol, chosen, path, samples, weights, about, display))
        curve = loop.engines[0].curve

        def begin(contents: Contents) -> Recorder:
            """The trace, with what is known before the first presentation."""
            recorder = Recorder.create(path, protocol, contents, about, weights, force)
            if curve is not None:
                recorder.calibration(curve)
            return recorder

        (found,) = loop.run(loop.start(), [begin], request)
        return loop.members[0].judged(found)


def sharing(spec: ProtocolSpec, seeds: list[int], count: int) -> tuple[int, Shared]:
    """How many devices share a run, and what of it.

    Raises:
        InputError: so many cannot.
    """
    count = plain(count)
    given = caller.option("devices", count)
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise InputError(f"{given}: expected a whole number of at least 1")
    if count > 1 and spec.level == "spiking":
        raise InputError(f"{given}: spiking networks run on one device; expected 1 at this level")
    if count <= len(seeds):
        return count, "seeds"
    have = f"the seeds of a run, which has {plural(len(seeds), 'seed')}"
    if spec.plasticity == "online":
        raise InputError(
            f"{given}: devices share {have}; expected at most as many, or more seeds, as the "
            "samples of a batch move the same weights here"
        )
    if count > spec.batch:
        raise InputError(
            f"{given}: devices share {have}, or the samples of a batch, which has {spec.batch}; "
            "expected at most as many"
        )
    return count, "samples"


def initial_weights(protocol: Protocol, seeds: list[int], drawn: list[Data]) -> Any:
    """The weights of every seed before it learns."""
    return assembly.stack(list(draws.weights(protocol, seeds, drawn)))


@contextmanager
def computing(
    spec: ProtocolSpec, device: str | None, count: int = 1, what: Shared = "seeds"
) -> Iterator[None]:
    """In which JAX computes in the protocol's precision, on a device (`cpu`, `gpu` or its choice).

    count: of devices that share the seeds, or what else.
    What it compiles is kept for the next process.

    Raises:
        InputError: JAX cannot compute there (see `devices.on`), or its memory is too small.
    """
    precision = devices.numbers(spec.precision == "float64")
    with programs.kept(), precision, devices.on(device, count, what):
        try:
            with draws.fitting(spec):
                yield
        except jax.errors.JaxRuntimeError as error:
            if "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise draws.too_large(spec, error) from error


def prepare(protocol: Protocol, seeds: list[int]) -> tuple[Samples, list[Data]]:
    """The data of every seed, checked against the model, on the device and not."""
    shared, drawn = draws.data(protocol, seeds)
    data = drawn[0]

    def place(name: str) -> jax.Array:
        arrays = [getattr(d, name) for d in drawn]
        stacked = arrays[0] if shared else np.stack(arrays)
        array = devices.copied(stacked)
        several, what = devices.sharing()
        return placed(array, what == "seeds" and not shared, several) if several else array

    samples = Samples(
        (place("x_train"), place("y_train")),
        (place("x_test"), place("y_test")),
        None if shared else 0,
        len(data.x_train),
        data.classes,
    )
    return samples, drawn
