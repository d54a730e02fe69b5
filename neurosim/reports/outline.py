"""A circuit as `check` shows it: as plain data, in words, as LaTeX."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from neurosim import wording
from neurosim.building.loading import Protocol
from neurosim.circuits.cells import Cell
from neurosim.circuits.methods import Methods, methods
from neurosim.circuits.populations import Projection
from neurosim.circuits.starts import start
from neurosim.credit import named
from neurosim.models import circuitry
from neurosim.models.channels import options
from neurosim.models.conditions import UNTAUGHT
from neurosim.specs import ActivationSpec, ModelSpec, ProtocolSpec
from neurosim.specs.common import describe
from neurosim.specs.toml import dotted
from neurosim.units import base_unit

Outline = dict[str, Any]


def outline(spec: ProtocolSpec) -> Outline:
    """Who stands where, who reaches whom, what learns and when.

    `layers`: n_0 … n_L. `readout`, as in the file. `populations`: their `cell`, `layers` and
    `sizes`, `states` and all `quantities`, and what their `spikes` carry: a list, empty without
    spikes, None where it cannot be told; `firing`, the `threshold`, `reset` and `refractory` of
    cells that spike by themselves, None of others. `projections`: their `wire`, whether they are
    `dense`, the `shapes` of their weights (post, pre), or of a kernel, None without weights, where
    they start (`init`, `gain`), their `convolution` between layers of maps (`kernel`, `pool` and
    `stride`) or None, their `rule`: `post` and `pre`, a `name`, or None, the projections that it is
    `learned_by` where these weights are made of theirs, what it has `remembered` by the name in the
    rule, its `rate`, `decay` and `limit`, and whether there is a `bias`.
    `credit`: its `name`, the same of its feedback weights and what is asked of its channel; None
    where rules alone teach.
    `phases`: what each is `teaching`, which projections are `plastic`, which `parameters` it
    changes.
    """
    made = circuitry.circuit(spec.model)
    group, answer = made.readout
    return {
        "layers": list(made.sizes),
        "readout": f"{group.population}.{answer}",
        "populations": [
            {
                "name": population.name,
                "cell": dict(made.cells)[population.name],
                "layers": list(population.layers),
                "sizes": list(population.sizes),
                "states": list(population.cell.states),
                "quantities": list(population.cell.defined),
                "spikes": None if population.carried is None else list(population.carried),
                "firing": _firing(population.cell),
            }
            for population in made.populations
        ],
        "projections": [_projection(spec.model, projection) for projection in made.projections],
        "credit": _credit(spec.model),
        "phases": [
            {
                "stage": stage.name,
                "name": phase.name,
                "teaching": phase.teaching,
                "plastic": list(circuitry.opened(spec.model, phase.plastic)),
                "parameters": phase.values
                | {
                    n: {"mean": given.mean, "spread": given.spread}
                    for n, given in phase.drawn.items()
                },
            }
            for stage in spec.stages
            for phase in stage.phases
        ],
    }


def _firing(cell: Cell) -> dict[str, Any] | None:
    if cell.firing is None:
        return None
    waits = cell.firing.refractory
    return {
        "threshold": cell.firing.threshold.text,
        "reset": [f"{name} = {right.text}" for name, right in cell.firing.reset],
        "refractory": None if waits is None else waits.text,
    }


def _credit(model: ModelSpec) -> dict[str, Any] | None:
    """Teaching by a channel of its own, and the weights of that."""
    given = model.credit
    if given is None:
        return None
    shapes = [list(shape) for shape in circuitry.channel_shapes(model)]
    return {
        "name": describe(given.name),
        "shapes": shapes,
        "init": given.init,
        "gain": given.gain,
        "rule": describe(given.rule),
        "rate": given.model_dump(mode="json")["rate"],
        "decay": given.decay,
        "options": options(model),
    }


def _projection(model: ModelSpec, projection: Projection) -> dict[str, Any]:
    made, given = circuitry.circuit(model), model.projections[projection.name]
    rule: dict[str, str] | None = None
    learned_by: list[str] = []
    if projection.post is not None and projection.pre is not None:
        rule = {"post": projection.post.text, "pre": projection.pre.text}
        if projection.rule == "tied":
            begin = start(circuitry.begins(model, projection.name))
            learned_by = list(dict.fromkeys(begin.projections))
    elif projection.learns:
        rule = {"name": describe(projection.rule)}
    shapes = [list(made.weights(s)) for s in projection.synapses]
    return {
        "name": projection.name,
        "wire": projection.wire.text,
        "dense": projection.wire.dense,
        "shapes": shapes if projection.weighed else None,
        "convolution": None
        if given.kernel is None
        else {"kernel": given.kernel, "pool": given.pool, "stride": given.stride},
        "init": circuitry.begins(model, projection.name) if projection.weighed else None,
        "gain": given.gain,
        "rule": rule,
        "learned_by": learned_by,
        "remembered": {name: recalled._asdict() for name, recalled in projection.remembered},
        "rate": given.model_dump(mode="json")["rate"],
        "decay": given.decay,
        "limit": given.limit,
        "bias": projection.bias,
    }


# -------------------------------------------------------------------------------------- in words


def in_words(found: Outline) -> list[str]:
    """What `outline` returns, as lines."""
    lines = ["populations"]
    longest = max(len(p["name"]) for p in found["populations"])
    lines += [f"  {p['name']:<{longest}}  {_standing(p, found)}" for p in found["populations"]]
    lines.append("projections")
    longest = max(len(p["name"]) for p in found["projections"])
    for projection in found["projections"]:
        first, *rest = _reaching(projection)
        lines.append(f"  {projection['name']:<{longest}}  {first}")
        lines += [f"  {'':<{longest}}  {line}" for line in rest]
    if found["credit"] is not None:
        lines += ["teaching by a channel", *(f"  {line}" for line in _taught(found["credit"]))]
    stages: dict[str, list[dict[str, Any]]] = {}
    for phase in found["phases"]:
        stages.setdefault(phase["stage"], []).append(phase)
    for stage, phases in stages.items():
        lines.append(f"phases of {stage}")
        longest = max(len(phase["name"]) for phase in phases)
        lines += [f"  {phase['name']:<{longest}}  {_opening(phase)}" for phase in phases]
    return lines


def _taught(credit: Mapping[str, Any]) -> Iterator[str]:
    """The credit and what becomes of errors, then the channel's weights and how they learn."""
    options = (f"{key} = {json.dumps(value)}" for key, value in credit["options"].items())
    yield "; ".join([credit["name"], *options])
    if credit["shapes"]:
        shapes = wording.listed(["x".join(map(str, shape)) for shape in credit["shapes"]])
        rate, rule = credit["rate"], credit["rule"]
        rates = wording.listed(rate) if isinstance(rate, list) else rate
        told = "" if rule in UNTAUGHT else f"; rate {rates}"
        yield f"{circuitry.CHANNEL} {shapes}, from {credit['init']}; rule {rule}{told}"


def _standing(population: Mapping[str, Any], found: Outline) -> str:
    where = wording.listed(population["layers"])
    word = "layer" if len(population["layers"]) == 1 else "layers"
    spikes, firing = population["spikes"], population["firing"]
    if firing is not None:
        carried = f"a spike where {firing['threshold']}"
        carried += f", then {', '.join(firing['reset'])}" if firing["reset"] else ""
    elif spikes is None:
        carried = "what spikes carry is not said"
    elif not spikes:
        carried = "no spikes"
    else:
        carried = f"spikes carry {' by events, '.join(spikes)}{' by bursts' * (len(spikes) - 1)}"
    sizes = wording.listed(population["sizes"])
    cell = "" if population["cell"] == population["name"] else f"cells {population['cell']}; "
    readout, _, answer = found["readout"].partition(".")
    answers = f"; {answer} answers" if population["name"] == readout else ""
    return f"{word} {where}: {sizes} units; {cell}{carried}{answers}"


def _reaching(projection: Mapping[str, Any]) -> Iterator[str]:
    """The wire and the weights, then the rule."""
    wire, shapes = projection["wire"], projection["shapes"]
    if shapes is None:
        yield f"{wire}: one to one, without weights"
        return
    sizes = wording.listed(["x".join(map(str, shape)) for shape in shapes])
    gain = "" if projection["gain"] == 1 else f" times {projection['gain']:g}"
    kind = "" if projection["dense"] else "one to one, "
    shared = projection["convolution"]
    if shared is not None:
        pooled = f"the largest of {shared['pool']}x{shared['pool']}, " if shared["pool"] > 1 else ""
        kind = f"between maps a convolution, {pooled}stride {shared['stride']}: "
    yield f"{wire}: {kind}{sizes}, from {' '.join(projection['init'].split())}{gain}"
    rule = projection["rule"]
    if rule is None:
        yield "fixed"
        return
    says = f"rule {rule['name']}" if "name" in rule else f"post {rule['post']}; pre {rule['pre']}"
    rate = projection["rate"]
    if projection["learned_by"]:
        says += f"; learned by {wording.listed(projection['learned_by'])}, which they follow"
    else:
        says += f"; rate {wording.listed(rate) if isinstance(rate, list) else rate}"
    says += f"; decay {projection['decay']:g}" if projection["decay"] else ""
    says += "" if projection["limit"] is None else f"; at most {projection['limit']:g}"
    yield says + ("; biases learn along" if projection["bias"] else "")
    phases: dict[str, list[str]] = {}
    for recalled in projection["remembered"].values():
        known = phases.setdefault(recalled["phase"], [])
        known += [recalled["quantity"]] if recalled["quantity"] not in known else []
    for phase, quantities in phases.items():
        yield f"remembers {', '.join(quantities)} of phase {phase}"


def _opening(phase: Mapping[str, Any]) -> str:
    teaching = "no teaching" if phase["teaching"] == "none" else f"teaching {phase['teaching']}"
    opens = f"opens {', '.join(phase['plastic'])}" if phase["plastic"] else "opens nothing"
    changed = ", ".join(
        f"{name} drawn, {value['mean']:g} ± {value['spread']:g}"
        if isinstance(value, dict)
        else f"{name} = {value:g}"
        for name, value in phase["parameters"].items()
    )
    return "; ".join([teaching, opens, *([changed] if changed else [])])


# -------------------------------------------------------------------------------------- as LaTeX


def latex(protocol: Protocol) -> str:
    """The circuit of a protocol as LaTeX for a methods section; a fragment for `amsmath`."""
    model = protocol.spec.model
    units = {name: _unit(protocol, ("model", "parameters", name)) for name in model.parameters}
    for name, cell in model.cells.items():
        for key in cell.parameters:
            where = ("model", "cells", name, "parameters", key)
            units[f"{name}.{key}"] = _unit(protocol, where)
    credit: tuple[str, ...] = ()
    if model.credit is not None:
        asked = ", ".join(
            "every slope below the output counted as 1"
            if key == "slope"
            else f"{key} = {json.dumps(value)}"
            for key, value in options(model).items()
        )
        source = named(model.credit).source + (f", with {asked}" if asked else "")
        credit = (describe(model.credit.name), source)
    hidden, output = (_transfer(a) for a in (model.activation, model.output_activation))
    return methods(
        Methods(
            model.name,
            model.source,
            circuitry.tables(model),
            {key: unit for key, unit in units.items() if unit is not None},
            (hidden, output),
            model.form,
            model.noise,
            credit,
        )
    )


def _transfer(given: Any) -> tuple[str | None, float | None]:
    if not isinstance(given, ActivationSpec):
        return None, None
    return given.name, given.number


def _unit(protocol: Protocol, key: tuple[str, ...]) -> str | None:
    """The SI unit of a parameter, from the text that gave it."""
    for name, value in protocol.overrides.items():
        if name == dotted(key):
            return base_unit(value) if isinstance(value, str) else None
    for source in protocol.sources.sources:
        node: Any = source.document.data
        for part in source.translate(key) or ():
            node = node.get(part) if isinstance(node, Mapping) else None
        if isinstance(node, str):
            return base_unit(node)
        if isinstance(node, int | float):
            return None
    return None
