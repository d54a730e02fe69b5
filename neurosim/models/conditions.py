"""What a credit with a channel of its own asks of the model and the protocol that use it."""

from collections.abc import Iterator

from neurosim.circuits.chain import links
from neurosim.circuits.description import Circuit
from neurosim.circuits.tables import TEACHING
from neurosim.credit import CREDITS, RENAMED, Credit, named
from neurosim.errors import unknown
from neurosim.networks.wirings import TIES, WIRINGS
from neurosim.plasticity import FEEDBACK_RULES
from neurosim.specs import ModelSpec, ProtocolSpec, StageSpec

Problem = tuple[tuple[str | int, ...], str]
"""Where (the key, in parts) and what is wrong."""

UNTAUGHT = ("fixed", "tied", "sherman-morrison")
"""Rules of feedback weights that look at no activity."""


def unknown_credit(model: ModelSpec) -> Iterator[Problem]:
    """The name of a credit assignment that there is not."""
    if model.credit is None:
        return
    name = model.credit.name
    if isinstance(name, str) and name in RENAMED:
        yield ("model", "credit", "name"), f"{name!r} is called {RENAMED[name]!r}"
    elif isinstance(name, str) and name not in CREDITS:
        yield ("model", "credit", "name"), unknown("credit", name, CREDITS)
    elif not isinstance(name, str | Credit):
        yield ("model", "credit"), f"{name!r}: expected a name or a neurosim.credit.Credit"


def called(model: ModelSpec) -> str:
    """What the credit of a model is called."""
    assert model.credit is not None, "asked of models with a credit"
    return model.credit.name if isinstance(model.credit.name, str) else "this credit"


def credit_problems(spec: ProtocolSpec, circuit: Circuit) -> Iterator[Problem]:
    """All that keeps the credit of a model from working."""
    model, credit = spec.model, named(spec.model.credit)
    in_turn = credit.order == "bottom-up"
    if links(circuit) is None:
        yield (
            ("model", "credit"),
            f"{called(model)} teaches chains of layers, h = s(W h + b): expected a projection W "
            "from every layer to the next and cells that apply s to one quantity",
        )
        return
    yield from _taught(model, circuit)
    yield from _channel(model, credit)
    yield from _auxiliary_outputs(model)
    if circuit.convolves:
        yield from _convolved(model, credit)
    if credit.exact:
        yield from _exact_inverses(spec)
    if credit.normalized:
        yield from _normalized(spec)
    if credit.order == "random" and model.projections["W"].optimizer != "sgd":
        yield (
            ("model", "projections", "W", "optimizer"),
            f"{called(model)} moves one random layer at a time, and "
            f"{model.projections['W'].optimizer!r} would move the others too; use 'sgd'",
        )
    if spec.plasticity == "online" and (credit.exact or credit.order != "together"):
        yield (
            ("plasticity",),
            f"{called(model)} moves its weights step by step, one after the other; use "
            "'quasi-static'",
        )
    if spec.level == "spiking" and (credit.exact or credit.normalized or in_turn or credit.nodes):
        yield (
            ("level",),
            f"{called(model)} computes with activities that spikes only estimate; it runs at the "
            "equilibrium and rate levels",
        )


def _taught(model: ModelSpec, circuit: Circuit) -> Iterator[Problem]:
    """What the circuit must have, and must not have, for teaching from outside."""
    post = circuit.projection["W"].post
    if not callable(circuit.projection["W"].rule) and (post is None or TEACHING not in post.names):
        yield (
            ("model", "projections", "W", "post"),
            f"does not name the teaching that {called(model)} brings; expected such as "
            "post = 'slope(basal)*teaching'",
        )
    if "Q" in model.projections and WIRINGS[named(model.credit).wiring](model.depth):
        yield (
            ("model", "projections", "Q"),
            f"the feedback weights of {called(model)} are called Q; use another name",
        )
    for name, projection in circuit.projection.items():
        if name != "W" and projection.learns:
            yield (
                ("model", "projections", name),
                f"{called(model)} teaches W alone; no other projection has a rule beside it",
            )


def _channel(model: ModelSpec, credit: Credit) -> Iterator[Problem]:
    """The feedback weights of the channel: where they start and how they learn."""
    given, where = model.credit, ("model", "credit")
    matrices = WIRINGS[credit.wiring](model.depth)
    if given is None or not matrices:
        return
    if isinstance(given.rule, str) and given.rule not in FEEDBACK_RULES:
        yield (*where, "rule"), unknown("feedback rule", given.rule, FEEDBACK_RULES)
    if given.init == "exact-inverse" and len(set(model.layers[1:])) > 1 and not credit.exact:
        yield (
            (*where, "init"),
            "exact inverses need layers of equal size; the layers above the input have "
            f"{model.layers[1:]}; use 'pseudo-inverse'",
        )
    if given.init == "file" and (given.file or model.projections["W"].file) is None:
        yield (*where, "file"), "missing; init = 'file' needs an .npz with Q1 … Q(L−1), or a trace"
    if given.rule == "tied" and given.init not in TIES:
        allowed = " or ".join(repr(name) for name in TIES)
        yield (*where, "rule"), f"'tied' follows the start, which must then be {allowed}"
    if given.rule == "tied" and credit.wiring not in ("layers", "hidden"):
        yield (*where, "rule"), f"{called(model)} has no feedback weights that W could tie"
    if given.rule == "sherman-morrison" and not credit.exact:
        yield (
            (*where, "rule"),
            "'sherman-morrison' keeps inverses that move with the forward weights, which "
            f"{called(model)} does not; the credits with exact inverses do",
        )
    if given.rule == "adaptive" and (credit.route is None or credit.wiring == "from-input"):
        yield (
            (*where, "rule"),
            f"'adaptive' does not fit the feedback of {called(model)}; it is the rule of arbp and "
            "asrbp, whose weights see errors and what their own layer sends",
        )
    elif given.rule not in (*UNTAUGHT, "adaptive") and not credit.nodes:
        yield from _reconstructing(model, credit)
    entries = len(given.rate.values)
    if entries not in (1, len(matrices)):
        yield (
            (*where, "rate"),
            f"{entries} rates; expected one, or one for each of the {len(matrices)} feedback "
            "matrices",
        )
    if credit.form is not None and model.form != credit.form:
        yield (
            ("model", "form"),
            f"{called(model)} sends its targets through g of the {credit.form} form; leave it out",
        )


def _convolved(model: ModelSpec, credit: Credit) -> Iterator[Problem]:
    """What cannot be said of feedback weights where some of W are kernels."""
    given, where = model.credit, ("model", "credit")
    assert given is not None, "asked of models with a credit"
    if credit.exact:
        yield (
            (*where, "name"),
            f"{called(model)} keeps inverses of W, and a convolution has no inverse that is one; "
            "expected such as dtp-ai or original-dtp, whose feedback weights are learned",
        )
    elif WIRINGS[credit.wiring](model.depth) and given.init in ("exact-inverse", "pseudo-inverse"):
        yield (
            (*where, "init"),
            f"{given.init!r}: a convolution has no inverse that is one; expected 'random', "
            "'xavier', 'transpose' or 'file'",
        )
    elif given.init == "transpose" and credit.wiring == "direct":
        yield (
            (*where, "init"),
            f"'transpose': {called(model)} skips layers, and a product of convolutions is no "
            "matrix; expected 'random', 'xavier' or 'file'",
        )
    if given.per == "weight":
        yield (
            (*where, "per"),
            "'weight': a weight of a kernel serves many neurons, whose errors it cannot have one "
            "channel for; expected 'neuron'",
        )


def _reconstructing(model: ModelSpec, credit: Credit) -> Iterator[Problem]:
    """Rules of feedback weights that send activity through them."""
    assert model.credit is not None, "asked of models with a credit"
    rule, key = model.credit.rule, ("model", "credit", "rule")
    if (rule == "bidirectional") != (credit.wiring == "from-input"):
        yield (
            key,
            f"{rule!r} does not fit the feedback of {called(model)}; 'bidirectional' is the rule "
            "of bdfa, and of no other",
        )
    elif credit.wiring == "direct" and isinstance(rule, str):
        yield (
            key,
            f"{rule!r} sends activity down layer by layer, which the weights of {called(model)} "
            "skip; expected 'fixed' or 'adaptive'",
        )


def _auxiliary_outputs(model: ModelSpec) -> Iterator[Problem]:
    """Units of the output layer without a label."""
    if called(model) == "ao-sdtp" and not model.auxiliary:
        yield (
            ("model", "auxiliary"),
            "missing; ao-sdtp extends the output layer by so many units, such as those that make "
            f"it as large as the {model.layers[-2]} units below it",
        )


def _normalized(spec: ProtocolSpec) -> Iterator[Problem]:
    """Batch normalisation compares the samples of a batch, before time begins."""
    if spec.batch < 2:
        yield (
            ("batch",),
            f"{called(spec.model)} normalises its layers over a batch, which one sample cannot be; "
            "expected 2 or more",
        )
    if spec.plasticity == "online":
        yield (
            ("plasticity",),
            f"{called(spec.model)} normalises its layers once a presentation; use 'quasi-static'",
        )


def _exact_inverses(spec: ProtocolSpec) -> Iterator[Problem]:
    model, name = spec.model, called(spec.model)
    given, above = model.credit, model.layers[1:]
    assert given is not None, "asked of models with a credit"
    if len(set(above)) > 1:
        yield (
            ("model", "layers"),
            f"{name} needs exact inverses, which only layers of equal size have; those above the "
            f"input have {above}",
        )
    if spec.batch != 1:
        yield (
            ("batch",),
            f"{name} updates its inverses by changes of rank one, of one sample at a time; "
            f"expected 1, got {spec.batch}",
        )
    if model.depth < 2:
        yield ("model", "layers"), f"{name} needs at least two layers above the input"
    if given.init not in ("exact-inverse", "pseudo-inverse", "file"):
        yield (
            ("model", "credit", "init"),
            f"{name} starts from inverses: 'exact-inverse' or a 'file', not {given.init!r}",
        )
    if given.rule != "sherman-morrison":
        yield (
            ("model", "credit", "rule"),
            f"{name} keeps its inverses by 'sherman-morrison', not {given.rule!r}",
        )
    forward = model.projections["W"]
    if forward.optimizer != "sgd" or forward.decay or forward.limit is not None:
        key = "optimizer" if forward.optimizer != "sgd" else "decay" if forward.decay else "limit"
        yield (
            ("model", "projections", "W", key),
            f"{name} moves W by changes of rank one, which those of {key} are not; leave it out",
        )


def phase_problems(
    stage: StageSpec, model: ModelSpec, where: tuple[str | int, ...]
) -> Iterator[Problem]:
    """What a credit with a channel of its own asks of the phases of a stage."""
    if len(stage.phases) > 1:
        yield (
            (*where, "phases"),
            f"{called(model)!r} learns at the rest of one phase; {len(stage.phases)} are given",
        )
    for number, phase in enumerate(stage.phases):
        at = (*where, "phases", number)
        if phase.teaching != "none":
            yield (
                (*at, "teaching"),
                f"{called(model)!r} has its own error channel; teaching is 'none'",
            )
