"""The arrays of weights of a run, and their dimensions: units, maps, entries of kernels."""

from neurosim.circuits.description import Circuit
from neurosim.circuits.populations import Group, Synapses
from neurosim.models import circuitry
from neurosim.places import spelled
from neurosim.specs import ModelSpec


def weights(model: ModelSpec) -> list[tuple[str, tuple[str, ...], str]]:
    """Every array of weights, in the order of the leaves: its name, dimensions and what it is."""
    made = circuitry.circuit(model)
    found: dict[str, list[tuple[str, tuple[str, ...], str]]] = {}
    for projection in made.projections:
        if projection.weighed:
            found[projection.name] = [
                (
                    f"{projection.name}{s.number}",
                    _weight_ends(made, s),
                    f"weights of {projection.wire.text}",
                )
                for s in projection.synapses
            ]
    wires, each = circuitry.channel(model), circuitry.served(model)
    if wires:
        found[circuitry.CHANNEL] = [
            (
                f"{circuitry.CHANNEL}{i}",
                (f"unit{i}", *([] if each is None else [f"synapse{i}"]), f"unit{above}")
                if of is None
                else _kernel_ends(made, "W", above),
                "weights of the channel",
            )
            for (i, above), of in zip(wires, circuitry.convolutions(model), strict=True)
        ]
    if made.biased is not None:
        found["b"] = [
            (
                f"b{s.post.layer}",
                (_end(made, s.post) if s.convolution is None else _maps(made, s.post),),
                "biases",
            )
            for s in made.biased.synapses
        ]
    for key, groups in made.values.items():
        found[key] = [
            (f"{key}{g.layer}", (_end(made, g),), "a parameter, cell by cell") for g in groups
        ]
    return [array for name in sorted(found) for array in found[name]]


def ends(model: ModelSpec) -> dict[str, tuple[int, str]]:
    """The dimensions of weights: how many units, and what they are."""
    found = {f"unit{i}": (n, f"unit of layer {i}") for i, n in enumerate(model.layers)}
    for (i, _), count in zip(circuitry.channel(model), circuitry.served(model) or [], strict=False):
        found[f"synapse{i}"] = count, f"weight of a neuron of layer {i}, its bias last"
    made = circuitry.circuit(model)
    for group in made.groups:
        place = made.place(group)
        found[_end(made, group)] = made.size(group), f"unit of {spelled(place)}"
    for s in made.sending:
        of, (lower, upper) = s.convolution, _ends(s)
        if of is None:
            continue
        for end, (maps, _, _) in ((lower, of.below), (upper, of.above)):
            where = "the input" if end is None else spelled(made.place(end))
            found[_maps(made, end)] = maps, f"map of {where}"
        for side in ("row", "column"):
            found[f"{side}_{s.projection}"] = of.kernel, f"{side} of the kernel of {s.projection}"
    return found


def _ends(s: Synapses) -> tuple[Group | None, Group | None]:
    """The lower and the upper one."""
    return (s.post, s.pre) if s.descends else (s.pre, s.post)


def _weight_ends(made: Circuit, s: Synapses) -> tuple[str, ...]:
    """The dimensions of the weights of one layer of a projection."""
    if s.convolution is not None:
        return _kernel_ends(made, s.projection, s.number)
    return (_end(made, s.post), _end(made, s.pre)) if s.dense else (_end(made, s.post),)


def _kernel_ends(made: Circuit, projection: str, number: int) -> tuple[str, ...]:
    """The dimensions of a kernel: maps of the upper layer, of the lower one, rows, columns."""
    s = next(s for s in made.projection[projection].synapses if s.number == number)
    lower, upper = _ends(s)
    return _maps(made, upper), _maps(made, lower), f"row_{projection}", f"column_{projection}"


def _maps(made: Circuit, group: Group | None) -> str:
    """The dimension of the maps of a group: `map2` of the first population of layer 2."""
    return _end(made, group).replace("unit", "map", 1)


def _end(made: Circuit, group: Group | None) -> str:
    """The dimension of one end of a projection: `unit2` of the first population of layer 2."""
    if group is None:
        return "unit0"
    place = made.place(group)
    return f"unit{group.layer}" if place == f"layer{group.layer}" else f"unit_{place}"
