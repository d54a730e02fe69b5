"""Weights that follow others, and those that follow others and learn: what they ask of a model."""

from collections.abc import Iterator, Mapping

from neurosim.circuits import starts
from neurosim.circuits.description import Circuit
from neurosim.circuits.populations import Projection
from neurosim.models.conditions import Problem
from neurosim.specs import ModelSpec


def tie_problems(
    model: ModelSpec, circuit: Circuit, weighed: Mapping[str, str]
) -> Iterator[Problem]:
    """What keeps tied weights from following others, or from handing on what they would learn.

    weighed: where the weights of all projections start that have some.
    """
    for projection in circuit.projections:
        if projection.rule != "tied":
            continue
        name, key = projection.name, ("model", "projections", projection.name)
        if name not in weighed or weighed[name] in starts.NAMED:
            yield (
                (*key, "rule"),
                "'tied' keeps weights at an expression over others, which init must then be",
            )
        elif draws := starts.start(weighed[name]).draws:
            yield (
                (*key, "rule"),
                f"'tied' keeps weights at what init makes of others, but {min(draws)}() is drawn "
                "once; expected an init without it, or rule = 'fixed'",
            )
        elif projection.post is not None:
            yield from _handing(model, circuit, projection, starts.start(weighed[name]))


def _handing(
    model: ModelSpec, circuit: Circuit, projection: Projection, begin: starts.Start
) -> Iterator[Problem]:
    """Tied weights with a rule, whose changes are those of the weights that they are made of."""
    key, given = ("model", "projections", projection.name), model.projections[projection.name]
    for other in dict.fromkeys(begin.projections):
        if other in circuit.projection and not circuit.projection[other].learns:
            yield (
                (*key, "post"),
                f"what tied weights learn is learned by those that they follow, but {other} has no "
                f"rule; give projections.{other} one, or leave it out here",
            )
    if any(getattr(given.rate, "values", (1.0,))):
        yield (
            (*key, "rate"),
            "tied weights learn at the rate of those that they follow; leave it out",
        )
    if projection.bias:
        yield (
            (*key, "bias"),
            "biases of tied weights would have no rate; expected them of a projection that is not "
            "tied",
        )
