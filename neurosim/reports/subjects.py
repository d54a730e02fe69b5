"""What an analysis is about: the network and samples behind a model, a protocol or a trace."""

import json
import os
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neurosim.building import assembly
from neurosim.building.consistency import of_model
from neurosim.building.loading import Protocol, load_model, load_protocol
from neurosim.building.shipped import bundled, find
from neurosim.errors import InputError, NeurosimError, NeurosimWarning, nearest
from neurosim.runs.environment import fingerprint
from neurosim.runs.launch import prepare
from neurosim.seeds import host_stream
from neurosim.specs import ModelSpec, ProtocolSpec
from neurosim.specs.toml import Sources, dotted, read
from neurosim.specs.validation import validate
from neurosim.tasks.data import Data
from neurosim.traces.reader import Arrays, interpreting, is_hdf5
from neurosim.traces.weight_files import ENDS, of_moment, seeds_of


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and the samples it is shown.

    kind: `model`, `protocol` or `trace`. moment: which weights these are, in words. inputs: where
    the samples come from, in words. protocol: None of a bare model. seed: of the weights.
    train: what the network learns from; None of a bare model.
    """

    name: str
    kind: str
    moment: str
    inputs: str
    model: ModelSpec
    protocol: ProtocolSpec | None
    seed: int
    weights: Any
    x: Float[Array, "samples n_0"]
    y: Float[Array, "samples n_L"]
    train: tuple[Array, Array] | None = None


def subject(
    what: str | Path | Protocol,
    overrides: Mapping[str, Any],
    seed: int | None,
    at: str | int | None,
    samples: int,
) -> Subject:
    """The network behind a model or protocol (a file or a shipped name) or a trace.

    Raises:
        InputError: there is no such file, or it cannot be analysed.
    """
    if isinstance(what, Protocol):
        return _of_protocol(what.spec.name, what, seed, at, samples)
    path = Path(what)
    if path.suffix == ".h5" or is_hdf5(path):
        if overrides:
            raise InputError(f"{path}: is a trace, whose keys cannot be changed any more")
        return _of_trace(path, seed, at, samples)
    if _is_model(what):
        if at is not None:
            raise InputError(f"at {at}: a model has not learned; give a trace")
        return _of_model(str(what), load_model(what, overrides), seed, samples)
    given = dict(overrides) | ({} if seed is None else {"seed": seed})
    return _of_protocol(str(what), load_protocol(what, given), seed, at, samples)


def _is_model(what: str | Path) -> bool:
    """Whether the name or file is a model's and not a protocol's."""
    if os.path.isfile(what):
        return not {"stages", "batch"} & set(read(find("models", what)).data)
    models, protocols = bundled("models"), bundled("protocols")
    if str(what) not in {**models, **protocols}:
        close = nearest(Path(what).stem, {**models, **protocols})
        raise InputError(
            f"{what}: no such file, and no shipped model or protocol of that name"
            + (f"; did you mean {close!r}?" if close else "")
        )
    return str(what) not in protocols  # where both have the name, the protocol says more


def _of_model(name: str, model: ModelSpec, seed: int | None, samples: int) -> Subject:
    wrong = list(of_model(model))
    if wrong:
        raise InputError([f"{name}: {dotted(key[1:])}: {message}" for key, message in wrong])
    seed = seed or 0
    rng = host_stream(seed, "task")
    x = rng.standard_normal((samples, model.layers[0]))
    n_out = model.layers[-1]
    classes = model.loss == "cross-entropy"
    y = (
        np.eye(n_out)[rng.integers(0, n_out, samples)]
        if classes
        else rng.standard_normal((samples, n_out))
    )
    if any(given.init == "near-teacher" for given in model.projections.values()):
        raise InputError(
            f"{name}: init: 'near-teacher' needs a teacher; analyse a protocol with the "
            "student-teacher task"
        )
    data = Data(x, y, x, y, classes=classes)
    weights = assembly.weights(model, seed, data, Path())
    kind = "random labels" if classes else "standard normal targets"
    inputs = f"{samples} standard normal inputs with {kind}"
    shown = jnp.asarray(x), jnp.asarray(y)
    return Subject(name, "model", "initial", inputs, model, None, seed, weights, *shown)


def _of_protocol(
    name: str, protocol: Protocol, seed: int | None, at: str | int | None, samples: int
) -> Subject:
    if at not in (None, "initial"):
        raise InputError(f"at {at}: a protocol has not run; give its trace")
    seed = protocol.spec.seed if seed is None else seed
    (x, y), train, (data,), inputs = _samples(protocol, [seed], 0, samples)
    model = protocol.spec.model
    with protocol.placing("model"):
        weights = assembly.weights(model, seed, data, protocol.folder)
    given = inputs, model, protocol.spec, seed, weights, x, y, train
    return Subject(name, "protocol", "initial", *given)


Pair = tuple[Array, Array]


def _samples(
    protocol: Protocol, seeds: list[int], k: int, samples: int
) -> tuple[Pair, Pair, list[Data], str]:
    """Of seed number k the first test samples and all training samples; the data of all seeds,
    and the test samples in words."""
    placed, drawn = prepare(protocol, seeds)
    pairs = placed.test, placed.train
    (x, y), train = pairs if placed.axis is None else ((a[k], b[k]) for a, b in pairs)
    count = min(samples, len(x))
    inputs = f"the first {count} of {len(x)} test samples"
    return (x[:count], y[:count]), train, drawn, inputs


def _of_trace(path: Path, seed: int | None, at: str | int | None, samples: int) -> Subject:
    moment = "final" if at is None else str(at)
    arrays = of_moment(path, moment, seed)
    with interpreting(path), Arrays.of(path) as held:
        spec = validate(ProtocolSpec, json.loads(held.text("provenance/protocol_json")))
        about = held.attributes
    kinds = dict.fromkeys(re.sub(r"\d+$", "", name) for name in arrays)
    weights = {kind: _layers(arrays, kind) for kind in kinds}
    seeds = seeds_of(path)
    chosen = seeds[0] if seed is None else seed
    try:
        protocol = Protocol(spec, Path(about.get("folder", "")), Sources(()), {})
        (x, y), train, drawn, inputs = _samples(protocol, seeds, seeds.index(chosen), samples)
    except NeurosimError as problem:
        lines = [f"{path}: its protocol cannot be built again: {m}" for m in problem.args]
        raise InputError(lines) from None
    if about.get("data") not in (None, fingerprint(drawn)):
        warnings.warn(
            f"{path}: the task's data are not those it learned from: another file, or another "
            "version of NumPy",
            NeurosimWarning,
            stacklevel=4,
        )
    said = moment if moment in ENDS else f"presentation {moment}"
    given = spec.model, spec, chosen, weights, x, y, train
    return Subject(str(path), "trace", said, inputs, *given)


def _layers(arrays: Mapping[str, np.ndarray], letter: str) -> tuple[Array, ...]:
    """The arrays `letter`1, `letter`2, … in their order."""
    found = [n for n in arrays if re.fullmatch(rf"{re.escape(letter)}\d+", n)]
    names = sorted(found, key=lambda n: int(n.removeprefix(letter)))
    return tuple(jnp.asarray(arrays[n], jnp.result_type(float)) for n in names)
