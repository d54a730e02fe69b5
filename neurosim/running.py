"""A run from its beginning: what it is given, the data, and the loop that goes through it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from neurosim import build, programs
from neurosim.contents import Contents
from neurosim.environment import fingerprint
from neurosim.errors import InputError
from neurosim.loading import Protocol, load_protocol
from neurosim.looping import Loop, Progress, Run, Samples, Setting
from neurosim.network import Weights
from neurosim.positions import origin
from neurosim.recording import Recorder
from neurosim.seeds import host_stream
from neurosim.spec import ProtocolSpec
from neurosim.tasks.data import Data


def run(
    protocol: Protocol | str | Path,
    *,
    level: str | None = None,
    seed: int | None = None,
    seeds: Iterable[int] | None = None,
    out: str | Path | None = None,
    force: bool = False,
    device: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Run a protocol and write its trace.

    protocol: from `load_protocol`, or a path or bare name for it. level, seed: in place of the
    protocol's own. seeds: an ensemble, run as one array axis. out: the trace file,
    `outputs/<protocol>-<level>.h5` if not given. force: overwrite. device: `cpu` or `gpu`.

    Raises:
        InputError: something given is impossible; nothing was written.
        DivergedError: every seed diverged; the trace holds all up to there.
        StoppedError: SIGTERM came; the run stopped at the end of a chunk. So does Ctrl-C, with a
            KeyboardInterrupt. Both can be resumed with `resume`.
    """
    protocol, chosen, path = resolve(protocol, level, seed, seeds, out)
    with computing(protocol.spec, device):
        samples, drawn = prepare(protocol, chosen)
        weights = initial_weights(protocol, chosen, drawn)
        about = origin(protocol, chosen, fingerprint(drawn))
        loop = Loop(Setting(protocol, chosen, path, samples, weights, about, progress))
        curve = loop.engines[0].curve

        def begin(contents: Contents) -> Recorder:
            """The trace, with what is known before the first presentation."""
            recorder = Recorder.create(path, protocol, contents, chosen, weights, force)
            if curve is not None:
                recorder.calibration(curve.rate)
            return recorder

        return loop.run(loop.start(), begin)


def initial_weights(protocol: Protocol, seeds: list[int], drawn: list[Data]) -> Weights:
    """The weights of every seed before it learns."""
    model, folder = protocol.spec.model, protocol.folder
    pairs = zip(seeds, drawn, strict=True)
    with protocol.placing("model"):
        return build.stack([build.weights(model, seed, data, folder) for seed, data in pairs])


def resolve(
    protocol: Protocol | str | Path,
    level: str | None,
    seed: int | None,
    seeds: Iterable[int] | None,
    out: str | Path | None,
) -> tuple[Protocol, list[int], Path]:
    """What `run` was given: the checked protocol, its seeds and where its trace goes."""
    given = {k: v for k, v in (("level", level), ("seed", seed)) if v is not None}
    if isinstance(protocol, Protocol):
        protocol = protocol.changed(**given)
    else:
        protocol = load_protocol(protocol, given)
    if seed is not None and seeds is not None:
        raise InputError("seed and seeds: got both; expected one of them")
    chosen = list(seeds) if seeds is not None else [protocol.spec.seed]
    if not chosen or len(set(chosen)) < len(chosen) or min(chosen) < 0:
        raise InputError(f"seeds {chosen}: expected distinct whole numbers of at least 0")
    return protocol, chosen, trace_path(protocol.spec, out)


def trace_path(spec: ProtocolSpec, out: str | Path | None) -> Path:
    """Where a trace goes: `out` if given."""
    return Path(out) if out else Path("outputs") / f"{spec.name}-{spec.level}.h5"


@contextmanager
def computing(spec: ProtocolSpec, device: str | None) -> Iterator[None]:
    """In which JAX computes in the protocol's precision, on a device (`cpu`, `gpu` or its choice).

    What it compiles is kept for the next process.

    Raises:
        InputError: there is none of that kind, or its memory is too small.
    """
    with programs.kept(), jax.enable_x64(spec.precision == "float64"), _on(device):
        try:
            yield
        except (MemoryError, jax.errors.JaxRuntimeError) as error:
            if not isinstance(error, MemoryError) and "RESOURCE_EXHAUSTED" not in str(error):
                raise
            raise InputError(
                f"{spec.name}: does not fit into memory: {error or 'too many presentations'}; make "
                "layers, batch, data, seeds or presentations smaller"
            ) from error


def _on(device: str | None):
    if device is None:
        return nullcontext()
    try:
        return jax.default_device(jax.devices(device)[0])
    except RuntimeError:
        have = sorted({d.platform for d in jax.devices()})
        raise InputError(
            f"--device {device}: there is no such device here; JAX sees {', '.join(have)}"
            + ("; for a GPU install neurosim[cuda]" if device != "cpu" else "")
        ) from None


def prepare(protocol: Protocol, seeds: list[int]) -> tuple[Samples, list[Data]]:
    """The data of every seed, checked against the model."""
    spec = protocol.spec
    with protocol.placing("task", spec.task.get("name") if isinstance(spec.task, dict) else None):
        task = build.task(spec, protocol.folder)
        if task.shared:
            drawn = [task.draw(host_stream(0, "task"))] * len(seeds)
        else:
            drawn = [task.draw(host_stream(seed, "task")) for seed in seeds]
    data = drawn[0]
    sizes = spec.model.layers
    n_in, n_out = data.x_train.shape[1], data.y_train.shape[1]
    wrong = []
    if (sizes[0], sizes[-1] - spec.model.auxiliary) != (n_in, n_out):
        wrong.append(
            f"{protocol.where(('model', 'layers'))}: {sizes} does not fit the task, which has "
            f"{n_in} inputs and {n_out} outputs"
            + (f" beside {spec.model.auxiliary} auxiliary ones" if spec.model.auxiliary else "")
        )
    if spec.batch > len(data.x_train):
        wrong.append(
            f"{protocol.where(('batch',))}: {spec.batch} samples a batch, but the task has only "
            f"{len(data.x_train)} to train on"
        )
    if spec.model.loss == "cross-entropy" and not data.classes:
        wrong.append(
            f"{protocol.where(('model', 'loss'))}: the cross-entropy needs a task of classes"
        )
    if wrong:
        raise InputError(wrong)

    def place(name: str) -> jax.Array:
        arrays = [getattr(d, name) for d in drawn]
        stacked = arrays[0] if task.shared else np.stack(arrays)
        return jnp.asarray(stacked, jnp.result_type(float))

    samples = Samples(
        (place("x_train"), place("y_train")),
        (place("x_test"), place("y_test")),
        None if task.shared else 0,
        len(data.x_train),
        data.classes,
    )
    return samples, drawn
