"""What an analysis is about: the network and samples behind a model, a protocol or a trace."""

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from neurosim import build
from neurosim.errors import InputError, NeurosimError, nearest
from neurosim.loading import Protocol, bundled, find, load_model, load_protocol
from neurosim.network import Weights
from neurosim.running import prepare
from neurosim.seeds import host_stream
from neurosim.spec import ModelSpec, ProtocolSpec
from neurosim.store import is_hdf5, studying
from neurosim.tasks.data import Data
from neurosim.toml import Sources, read
from neurosim.validation import validate


@dataclass(frozen=True, eq=False)
class Subject:
    """A network and the samples it is shown.

    kind: `model`, `protocol` or `trace`. moment: which weights these are, in words. inputs: where
    the samples come from, in words. protocol: None of a bare model. seed: of the weights.
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
    if model.weights.init == "near-teacher":
        raise InputError(
            f"{name}: weights.init: 'near-teacher' needs a teacher; analyse a protocol with the "
            "student-teacher task"
        )
    data = Data(x, y, x, y, classes=classes)
    weights = build.weights(model, seed, data, Path())
    kind = "random labels" if classes else "standard normal targets"
    inputs = f"{samples} standard normal inputs with {kind}"
    return Subject(
        name, "model", "initial", inputs, model, None, seed, weights, *map(jnp.asarray, (x, y))
    )


def _of_protocol(
    name: str, protocol: Protocol, seed: int | None, at: str | int | None, samples: int
) -> Subject:
    if at not in (None, "initial"):
        raise InputError(f"at {at}: a protocol has not run; give its trace")
    seed = protocol.spec.seed if seed is None else seed
    x, y, data, inputs = _test_samples(protocol, seed, samples)
    model = protocol.spec.model
    with protocol.placing("model"):
        weights = build.weights(model, seed, data, protocol.folder)
    return Subject(name, "protocol", "initial", inputs, model, protocol.spec, seed, weights, x, y)


def _test_samples(protocol: Protocol, seed: int, samples: int):
    placed, drawn = prepare(protocol, [seed])
    x, y = placed.test if placed.axis is None else (array[0] for array in placed.test)
    count = min(samples, len(x))
    inputs = f"the first {count} of {len(x)} test samples"
    return x[:count], y[:count], drawn[0], inputs


def _of_trace(path: Path, seed: int | None, at: str | int | None, samples: int) -> Subject:
    with studying(path) as tree:
        resolved = json.loads(str(tree["provenance/protocol_json"].values))
        seeds = [int(s) for s in str(tree.attrs["seeds"]).split(",")]
        chosen = seeds[0] if seed is None else seed
        if chosen not in seeds:
            raise InputError(f"{path}: seed {chosen} was not run; there are: {seeds}")
        circuit = bool(resolved["model"].get("cells"))
        moment, weights = _weights(path, tree, at, seeds.index(chosen), circuit)
    try:
        spec = validate(ProtocolSpec, resolved)
        protocol = Protocol(spec, Path(), Sources(()), {})
        x, y, _, inputs = _test_samples(protocol, chosen, samples)
    except NeurosimError as problem:
        lines = [f"{path}: its protocol cannot be built again: {m}" for m in problem.args]
        raise InputError(lines) from None
    return Subject(str(path), "trace", moment, inputs, spec.model, spec, chosen, weights, x, y)


def _weights(
    path: Path, tree: Any, at: str | int | None, seed: int, circuit: bool
) -> tuple[str, Any]:
    """The weights of a moment, as they lie in the trace, and the moment in words."""
    ends = ["initial", "final"]
    kept = tree["snapshots/presentation"].values.tolist() if "snapshots" in tree else []
    moment = "final" if at is None else str(at)
    places = {name: ("weights", row) for row, name in enumerate(ends)}
    places |= {str(number): ("snapshots", row) for row, number in enumerate(kept)}
    if moment not in places:
        hint = "" if kept else "; record.weights = true keeps those of recorded presentations"
        known = ", ".join(places)
        raise InputError(f"{path}: no weights at {moment!r}; expected one of {known}{hint}")
    group, row = tree[places[moment][0]], places[moment][1]
    moment = f"presentation {moment}" if moment not in ends else moment

    def layers(letter: str) -> tuple[Array, ...]:
        found = sorted(
            (n for n in group.data_vars if re.fullmatch(rf"{letter}\d+", n)),
            key=lambda n: int(n.removeprefix(letter)),
        )
        arrays = [group[name].values[row] for name in found]
        arrays = [
            a[seed] if "seed" in group[n].dims else a for n, a in zip(found, arrays, strict=True)
        ]
        return tuple(jnp.asarray(a, jnp.result_type(float)) for a in arrays)

    weights: Any = Weights(layers("W"), layers("b"), layers("Q"))
    if circuit:
        kinds = dict.fromkeys(re.sub(r"\d+$", "", name) for name in group.data_vars)
        weights = {kind: layers(kind) for kind in kinds}
    if not all(bool(jnp.isfinite(w).all()) for w in jax.tree.leaves(weights)):
        raise InputError(f"{path}: the {moment} weights were not written or are not finite")
    return moment, weights
