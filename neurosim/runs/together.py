"""Several runs side by side, as copies on one axis of the same programs."""

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from neurosim.building.loading import Protocol
from neurosim.errors import InputError
from neurosim.process.progression import Progress
from neurosim.process.stopping import delivering
from neurosim.runs import draws
from neurosim.runs.contents import Contents
from neurosim.runs.environment import environment, fingerprint
from neurosim.runs.launch import computing, initial_weights, prepare
from neurosim.runs.loop import Loop
from neurosim.runs.members import Setting
from neurosim.runs.positions import Position, load, origin, position_from
from neurosim.runs.recorder import Recorder
from neurosim.runs.results import Run
from neurosim.runs.resumption import altered, resumed
from neurosim.traces.checkpoint import Checkpoint
from neurosim.traces.repairing import lengthen


class Beside(NamedTuple):
    """A run beside others. progress: is told after every chunk."""

    protocol: Protocol
    path: Path
    progress: Callable[[Progress], None]


def together(runs: Sequence[Beside], seeds: list[int], size: int, device: str | None) -> list[Run]:
    """Run protocols that share programs and data and differ in numbers, each into its own trace.

    What is there of a trace is gone on with, if it is as this protocol would have begun it;
    otherwise it is written anew. size: for how many runs the programs are.

    Raises:
        InputError: one of them is impossible.
        StoppedError: as `run` does.
    """
    first = runs[0].protocol
    with delivering() as request, computing(first.spec, device):
        samples, drawn = prepare(first, seeds)
        settings = []
        for protocol, path, progress in runs:
            draws.warn_of(protocol, drawn[0])
            weights = initial_weights(protocol, seeds, drawn)
            about = origin(protocol, seeds, fingerprint(drawn))
            settings.append(Setting(protocol, seeds, path, samples, weights, about, progress))
        loop = Loop(*settings, size=size)
        positions, records = [], []
        for setting, start in zip(settings, loop.start(), strict=True):
            found = _continued(setting, start, loop)
            positions.append(start if found is None else found[0])
            records.append(_new(setting) if found is None else found[1])
        return loop.run(positions, records, request)


Opens = Callable[[Contents], Recorder]


def _new(setting: Setting) -> Opens:
    path, protocol, about, weights = (
        setting.path,
        setting.protocol,
        setting.origin,
        setting.weights,
    )
    return lambda contents: Recorder.create(path, protocol, contents, about, weights, True)


def _continued(setting: Setting, start: Position, loop: Loop) -> tuple[Position, Opens] | None:
    """Where an earlier run of the same stands, and what opens its trace; None if none can go on."""
    saved: Checkpoint | None = None
    with suppress(InputError):
        if setting.path.exists():
            lengthen(setting.path)
            saved = load(setting.path)
    if saved is None:
        return None
    begun: Any = saved.about["origin"]
    level = setting.protocol.spec.level
    same = all(begun[key] == setting.origin[key] for key in ("protocol", "seeds", "data"))
    position = position_from(saved, start.states, loop.plan)
    if position is None or not same or any(altered(begun["environment"], environment(level))):
        return None
    return position, resumed(setting.path, saved, position)
