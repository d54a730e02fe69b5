"""What a credit assignment asks of the model and the protocol that use it."""

from collections.abc import Iterator

from neurosim.credit import CREDITS, Credit, named
from neurosim.errors import unknown
from neurosim.spec import ModelSpec, ProtocolSpec, StageSpec

Problem = tuple[tuple[str | int, ...], str]
"""Where (the key, in parts) and what is wrong."""


def unknown_credit(model: ModelSpec) -> Iterator[Problem]:
    """The name of a credit assignment that there is not."""
    credit = model.credit
    if isinstance(credit, str) and credit not in CREDITS:
        yield ("model", "credit"), unknown("credit", credit, CREDITS)
    elif not isinstance(credit, str | Credit):
        yield ("model", "credit"), f"{credit!r}: expected a name or a neurosim.credit.Credit"


def credit_problems(spec: ProtocolSpec, admitted: tuple[str, ...]) -> Iterator[Problem]:
    """All that keeps the credit of a model from working; admitted: the kinds its dynamics takes."""
    model, credit = spec.model, named(spec.model.credit)
    called = model.credit if isinstance(model.credit, str) else "this credit"
    if credit.kind not in admitted:
        able = [name for name, known in CREDITS.items() if known.kind in admitted]
        yield (
            ("model", "credit"),
            f"this dynamics cannot use {called!r}; it can {' or '.join(able)}",
        )
    yield from _fixed_by_the_credit(model, credit, called)
    yield from _auxiliary_outputs(model, called)
    if credit.exact:
        yield from _exact_inverses(spec, called)
    elif model.feedback.rule == "sherman-morrison":
        yield (
            ("model", "feedback", "rule"),
            f"'sherman-morrison' keeps inverses that move with the forward weights, which {called} "
            "does not; the credits with exact inverses do",
        )
    if credit.normalized:
        yield from _normalized(spec, called)
    bidirectional = model.feedback.rule == "bidirectional"
    learned = model.feedback.rule not in ("fixed", "tied", "sherman-morrison")
    if learned and bidirectional != (credit.wiring == "from-input"):
        yield (
            ("model", "feedback", "rule"),
            f"{model.feedback.rule!r} does not fit the feedback of {called}; 'bidirectional' is "
            "the rule of bdfa, and of no other",
        )
    if model.feedback.rule == "tied" and credit.wiring != "layers":
        yield ("model", "feedback", "rule"), f"{called} has no feedback weights that W could tie"
    if spec.record.decomposition and (spec.plasticity == "online" or spec.level == "spiking"):
        yield (
            ("record", "decomposition"),
            "takes signals apart at the fixed points of the phases, which online plasticity and "
            "spikes do not have; leave it out",
        )
    if spec.plasticity == "online" and (credit.exact or model.forward.order != "together"):
        yield (
            ("plasticity",),
            f"{called} moves its weights step by step, one after the other; use 'quasi-static'",
        )


def _fixed_by_the_credit(model: ModelSpec, credit: Credit, called: str) -> Iterator[Problem]:
    """Keys of which the credit admits one value."""
    if credit.form is not None and model.feedback.form != credit.form:
        yield (
            ("model", "feedback", "form"),
            f"{called} sends its targets through g of the {credit.form} form; leave it out",
        )
    if model.forward.order != credit.order:
        others = [
            name
            for name, other in CREDITS.items()
            if other.assign is credit.assign and other.order == model.forward.order
        ]
        hint = f"; {' or '.join(map(repr, others))} has it so" if others else ""
        yield (
            ("model", "forward", "order"),
            f"{called} moves its layers in the order {credit.order!r}{hint}",
        )
    if model.forward.order == "random" and model.forward.optimizer != "sgd":
        yield (
            ("model", "forward", "optimizer"),
            f"{called} moves one random layer at a time, and {model.forward.optimizer!r} would "
            "move the others too; use 'sgd'",
        )


def _auxiliary_outputs(model: ModelSpec, called: str) -> Iterator[Problem]:
    """Units of the output layer without a label."""
    where = ("model", "auxiliary")
    if called == "ao-sdtp" and not model.auxiliary:
        yield (
            where,
            "missing; ao-sdtp extends the output layer by so many units, such as those that make "
            f"it as large as the {model.layers[-2]} units below it",
        )
    if model.auxiliary >= model.layers[-1]:
        yield (
            where,
            f"{model.auxiliary} of the {model.layers[-1]} output units; at least one must have a "
            "label",
        )
    if model.auxiliary and named(model.credit).kind != "own-channel":
        yield where, f"{called} teaches the whole output layer by its phases"


def _normalized(spec: ProtocolSpec, called: str) -> Iterator[Problem]:
    """Batch normalisation compares the samples of a batch, before time begins."""
    if spec.batch < 2:
        yield (
            ("batch",),
            f"{called} normalises its layers over a batch, which one sample cannot be; expected 2 "
            "or more",
        )
    if spec.plasticity == "online":
        yield (
            ("plasticity",),
            f"{called} normalises its layers once a presentation; use 'quasi-static'",
        )


def _exact_inverses(spec: ProtocolSpec, called: str) -> Iterator[Problem]:
    model = spec.model
    above = model.layers[1:]
    if len(set(above)) > 1:
        yield (
            ("model", "layers"),
            f"{called} needs exact inverses, which only layers of equal size have; those above the "
            f"input have {above}",
        )
    if spec.batch != 1:
        yield (
            ("batch",),
            f"{called} updates its inverses by changes of rank one, of one sample at a time; "
            f"expected 1, got {spec.batch}",
        )
    if model.depth < 2:
        yield ("model", "layers"), f"{called} needs at least two layers above the input"
    if model.feedback.init not in ("exact-inverse", "pseudo-inverse", "file"):
        yield (
            ("model", "feedback", "init"),
            f"{called} starts from inverses: 'exact-inverse' or a 'file', not "
            f"{model.feedback.init!r}",
        )
    if model.feedback.rule != "sherman-morrison":
        yield (
            ("model", "feedback", "rule"),
            f"{called} keeps its inverses by 'sherman-morrison', not {model.feedback.rule!r}",
        )
    if model.forward.optimizer != "sgd":
        yield (
            ("model", "forward", "optimizer"),
            f"the steps of {model.forward.optimizer!r} are not of rank one; {called} needs 'sgd'",
        )


def phase_problems(
    stage: StageSpec, model: ModelSpec, where: tuple[str | int, ...]
) -> Iterator[Problem]:
    """What a credit with a channel of its own asks of the phases of a stage."""
    if len(stage.phases) > 1:
        yield (
            (*where, "phases"),
            f"{model.credit!r} learns at the rest of one phase; {len(stage.phases)} are given",
        )
    for number, phase in enumerate(stage.phases):
        at = (*where, "phases", number)
        if phase.teaching != "none":
            yield (
                (*at, "teaching"),
                f"{model.credit!r} has its own error channel; teaching is 'none'",
            )
