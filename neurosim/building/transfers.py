"""What a model asks of its transfer functions: inverses, slopes, a word at every level."""

from collections.abc import Iterator
from typing import Any

from neurosim.building.facts import invertible, spiking
from neurosim.credit import named
from neurosim.models import circuitry
from neurosim.models.conditions import UNTAUGHT, Problem, called
from neurosim.specs import FLAT, FORMULAS, STOCHASTIC, ActivationSpec, ModelSpec, ProtocolSpec


def problems(model: ModelSpec) -> Iterator[Problem]:
    """Transfer functions that cannot do what the model asks of them."""
    yield from _inverse_problems(model)
    yield from _slope_problems(model)
    yield from _coder_problems(model)


def _inverse_problems(model: ModelSpec) -> Iterator[Problem]:
    """Transfer functions without the inverse that the model asks for."""
    lowest = _inverted(model)
    if lowest is None:
        return
    for key in _activations(model, lowest):
        if not invertible(getattr(model, key)):
            yield (
                ("model", key),
                "has no inverse, which feedback of the inverse form needs; give one, take one that "
                'has it, such as "leaky-relu", or set form = "autoencoder"',
            )
            break


def _inverted(model: ModelSpec) -> int | None:
    """The lowest layer whose transfer function is inverted; None where none is."""
    if model.credit is not None:
        sends = named(model.credit).form is not None
        return 2 if sends and model.form == "inverse" else None
    made = circuitry.circuit(model)
    asks = {"s_inv"} | ({"encode"} if model.form == "inverse" else set())
    layers = [
        group.layer + made.population[group.population].mirrors
        for group in made.groups
        if any(e.right.functions & asks for e in made.cell(group).equations)
    ]
    return min(layers, default=None)


def _activations(model: ModelSpec, lowest: int) -> list[str]:
    """The keys of the transfer functions of the layers `lowest` … L."""
    return ["activation"] * (model.depth > lowest) + ["output_activation"] * (model.depth >= lowest)


def _slope_problems(model: ModelSpec) -> Iterator[Problem]:
    """Transfer functions that are flat where the model multiplies by their slope."""
    for key in _activations(model, 1):
        if not _is(getattr(model, key), FLAT):
            continue
        flat = range(1, model.depth) if key == "activation" else (model.depth,)
        if (asks := _sloped(model, flat)) is not None:
            yield (
                ("model", key),
                f"{getattr(model, key).name!r} is flat, and {asks} multiplies by its slope, so "
                "that nothing would be learned; take another, or keep the slope of a graded "
                "activity and send its sign: activation = 'tanh' and a line such as "
                "sent = int(rate > 0)",
            )


def _sloped(model: ModelSpec, layers: Any) -> str | None:
    """Who asks for a slope in these layers; None if nobody does."""
    made = circuitry.circuit(model)
    asks = {"slope"} | ({"t_slope"} if model.form == "autoencoder" else set())

    def transferred(group: Any) -> int:
        return group.layer + made.population[group.population].mirrors

    for group in made.groups:
        texts = (e.right for e in made.cell(group).equations)
        if transferred(group) in layers and any(t.functions & asks for t in texts):
            return f"the cell of {group.population}"
    if model.credit is not None and not model.credit.slope:
        return None
    for projection in made.projections:
        for synapses in projection.synapses:
            for text, at in ((projection.post, synapses.post), (projection.pre, synapses.pre)):
                if text is None or at is None or not text.functions & asks:
                    continue
                if transferred(at) in layers:
                    return f"the rule of {projection.name}"
    if named(model.credit).route == "layers":
        return called(model)
    return None


def _coder_problems(model: ModelSpec) -> Iterator[Problem]:
    """What stands around the feedback weights of a channel, where there is no place for it."""
    given = model.credit
    if given is None or not circuitry.channel(model):
        return
    for key in ("encoder", "decoder"):
        coder = getattr(given, key)
        if coder is None:
            continue
        if named(given).form != "autoencoder":
            yield (
                ("model", "credit", key),
                f"is about maps decoder(Q encoder(h)), and {called(model)} has none; expected with "
                "a credit of the autoencoder form, such as 'dtp'",
            )
        elif _is(coder, STOCHASTIC):
            yield (
                ("model", "credit", key),
                f"{coder.name!r} draws, which what comes down does not; expected such as "
                "'sigmoid', its mean",
            )
        elif key == "decoder" and _is(coder, FLAT) and given.rule not in UNTAUGHT:
            yield (
                ("model", "credit", key),
                f"{coder.name!r} is flat, and {given.rule!r} multiplies by its slope; expected "
                "such as 'tanh'",
            )


def draw_problems(spec: ProtocolSpec) -> Iterator[Problem]:
    """Stochastic units where nothing draws for them."""
    for key in _activations(spec.model, 1):
        if not _is(getattr(spec.model, key), STOCHASTIC):
            continue
        name = getattr(spec.model, key).name
        if spec.plasticity == "online" and spec.level != "spiking":
            yield (
                ("model", key),
                f"{name!r} draws once for every sample and presentation, and under weights that "
                "flow there is none; use 'sigmoid', its mean, or plasticity = 'quasi-static'",
            )
        elif named(spec.model.credit).normalized:
            yield (
                ("model", key),
                f"{called(spec.model)} normalises activities over the batch, which {name!r} does "
                "not draw; use 'sigmoid', its mean",
            )


def spiking_problems(model: ModelSpec) -> Iterator[Problem]:
    """Transfer functions that cannot be said in the language of Brian2."""
    for key in _activations(model, 1):
        if not spiking(getattr(model, key)):
            *most, last = FORMULAS
            known = f"{', '.join(most)} and {last}"
            yield ("model", key), f"the spiking level knows {known}, by name"
            break


def _is(activation: Any, names: tuple[str, ...]) -> bool:
    """Whether a transfer function is one of these, by name."""
    return isinstance(activation, ActivationSpec) and activation.name in names
