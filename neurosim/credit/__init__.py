"""Teaching that is no dynamics: errors or targets that come down a channel of their own.

A credit assignment maps the rest of a chain of layers that is taught nothing to one teaching signal
a layer, which the rule of W names: ΔW_i = η (s_i'(a_i) ⊙ teaching_i) h_{i−1}^T. All for one sample.
The channel's feedback weights, how they learn and which layers move belong to the credit.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from neurosim.functions.deferred import Deferred

backprop = Deferred("neurosim.credit.channel:backprop")
skipped_backprop = Deferred("neurosim.credit.channel:skipped_backprop")
random_backprop = Deferred("neurosim.credit.channel:random_backprop")
skipped_random_backprop = Deferred("neurosim.credit.channel:skipped_random_backprop")
bidirectional = Deferred("neurosim.credit.channel:bidirectional_feedback_alignment")
difference_targets = Deferred("neurosim.credit.target_propagation:difference_targets")
gradient_targets = Deferred("neurosim.credit.target_propagation:gradient_targets")
plain_targets = Deferred("neurosim.credit.target_propagation:plain_targets")
local_goals = Deferred("neurosim.credit.local_goals:local_goals")


class Credit(NamedTuple):
    """A credit assignment and all that belongs to it.

    assign: (network, weights, now, label, η̂) → teaching, of one sample. source: where it comes
    from. form: of g_i, where targets come down through such maps. wiring: what the feedback weights
    connect, a name of `neurosim.networks.wirings.WIRINGS`. order: which forward weights move in a
    presentation. rule, feedback: of W and of the feedback weights where the model names none. init:
    likewise where the feedback weights start. normalized: whether the layers below the output are
    normalised over the batch. own_channel: whether there is a channel at all. route: by which
    errors come down the learning channel, `layers` or `skipped`; `assign` then takes a
    `neurosim.credit.channel.Passage` as its last argument. None where no errors do. nodes: whether
    hidden layers have goals of their own, of the whole batch; `assign` is then given that, batch
    first, and a `neurosim.credit.local_goals.Goals` as its last argument.
    """

    assign: Callable
    source: str
    form: str | None = None
    wiring: str = "layers"
    order: str = "together"
    rule: str = "delta"
    feedback: str = "fixed"
    init: str = "pseudo-inverse"
    normalized: bool = False
    own_channel: bool = True
    route: str | None = None
    nodes: bool = False

    @property
    def exact(self) -> bool:
        """Whether the feedback weights are inverses that move with the forward weights."""
        return self.feedback == "sherman-morrison"

    @property
    def defaults(self) -> dict[str, Any]:
        """The keys of a model that follow from this credit where the model does not give them."""
        found: dict[str, Any] = {"credit": {"rule": self.feedback, "init": self.init}}
        return found if self.form is None else found | {"form": self.form}


def _exact(source: str, **more: Any) -> Credit:
    """Exact inverses: Q_i = W_{i+1}⁻¹ is kept by rank-one updates."""
    more = {"form": "inverse", "feedback": "sherman-morrison", "init": "exact-inverse"} | more
    return Credit(plain_targets, source, **more)


def _approximate(targets: Callable, source: str, **more: Any) -> Credit:
    """Approximate inverses g_i = Q_i s⁻¹, learned on white noise."""
    return Credit(targets, source, **({"form": "inverse", "feedback": "white-noise"} | more))


def _original(targets: Callable, source: str, **more: Any) -> Credit:
    """The autoencoder's g_i = s_i(Q_i ·), learned on the network's own activity."""
    return Credit(targets, source, **({"form": "autoencoder", "feedback": "reconstruction"} | more))


def _difference(maps: str, feedback: str) -> Credit:
    """Differences of the autoencoder's maps, which start at random and learn otherwise, or not."""
    source = f"targets by differences of maps, {maps}"
    return Credit(difference_targets, source, form="autoencoder", feedback=feedback, init="random")


def _modified(source: str, **more: Any) -> Credit:
    """Modified target propagation: batch-normalised, updates divided by the slope."""
    rules = {"form": "inverse", "rule": "delta-over-slope", "feedback": "tied"}
    return Credit(plain_targets, source, normalized=True, **(rules | more))


def _through(assign: Callable, source: str, **more: Any) -> Credit:
    """Errors through the layers."""
    return Credit(assign, source, route="layers", **({"init": "random"} | more))


def _past(assign: Callable, source: str, **more: Any) -> Credit:
    """Errors past the layers."""
    wiring = {"wiring": "direct", "init": "random"}
    return Credit(assign, source, route="skipped", **(wiring | more))


_RANDOM = {"order": "random"}

CREDITS: dict[str, Credit] = {
    "backprop": _through(backprop, "the negative gradient of the loss [T 2.2, A.7]", wiring="none"),
    "bp-fixed": Credit(
        backprop, "backprop of the output layer alone [T 5.1.3]", wiring="none", order="output"
    ),
    "tp-ei": _exact("targets through exact inverses [T A.4]"),
    "rtp-ei": _exact("the same, one random layer at a time [T A.5]", **_RANDOM),
    "rmtp-ei": _exact("the same, divided by the slope [T A.6]", **_RANDOM, rule="delta-over-slope"),
    "mtp": _modified("targets through inverses of batch-normalised layers, over the slope [T A.1]"),
    "rmtp": _modified("the same, one random layer at a time [T A.3]", **_RANDOM),
    "tp-ai": _approximate(plain_targets, "targets through learned inverses [T A.10]"),
    "rtp-ai": _approximate(
        plain_targets, "the same, one random layer at a time [T A.11]", **_RANDOM
    ),
    "dtp-ai": _approximate(
        difference_targets, "targets by differences of learned inverses [T A.12]"
    ),
    "rdtp-ai": _approximate(
        difference_targets, "the same, one random layer at a time [T A.13]", **_RANDOM
    ),
    "original-tp": _original(plain_targets, "targets through autoencoders [T A.14]"),
    "original-rtp": _original(
        plain_targets, "the same, one random layer at a time [T A.15]", **_RANDOM
    ),
    "original-dtp": _original(
        difference_targets, "targets by differences of autoencoders; SDTP [T A.16]"
    ),
    "original-rdtp": _original(
        difference_targets, "the same, one random layer at a time [T A.17]", **_RANDOM
    ),
    "ao-sdtp": _original(
        difference_targets,
        "the same with auxiliary output units, which model.auxiliary counts [T 3.16]",
    ),
    "dtp-drl": _difference(
        "learned on noise sent to the output [Meulemans et al. 2020]", "difference"
    ),
    "dtp-ldrl": _difference(
        "learned on noise in two layers [Ernoult et al. 2022]", "local-difference"
    ),
    "dtp-fixed": _difference("fixed and random [Shibuya et al. 2023]", "fixed"),
    "dtp": Credit(
        gradient_targets,
        "difference target propagation below a gradient step, bottom layer first [D 15–20]",
        form="autoencoder",
        wiring="hidden",
        order="bottom-up",
        feedback="noise-injected",
        init="random",
    ),
    "sbp": _past(
        skipped_backprop,
        "errors past the layers by products of transposes, no slopes on the way [Baldi et al. "
        "2018]",
        wiring="none",
    ),
    "rbp": _through(
        random_backprop,
        "errors through the layers by random weights, feedback alignment [Lillicrap et al. 2016; "
        "Baldi et al. 2018, eq. 7]",
    ),
    "srbp": _past(
        skipped_random_backprop,
        "errors past the layers by random weights, direct feedback alignment [Nøkland 2016; "
        "Baldi et al. 2018]",
    ),
    "arbp": _through(
        random_backprop,
        "rbp with weights that learn from what passes them both ways [Baldi et al. 2018]",
        feedback="adaptive",
    ),
    "asrbp": _past(
        skipped_random_backprop,
        "srbp with weights that learn from what passes them both ways [Baldi et al. 2018]",
        feedback="adaptive",
    ),
    "bdfa": _through(
        bidirectional,
        "errors through the layers by weights that learn to reconstruct the input [T 3.22–3.27]",
        wiring="from-input",
        feedback="bidirectional",
    ),
    "local-goals": Credit(
        local_goals,
        "goals of hidden layers' own, and how far neighbors miss theirs [Kostadinov et al. 2019]",
        wiring="hidden",
        rule="penalized",
        feedback="tied",
        init="transpose",
        nodes=True,
    ),
}

RENAMED = {"fa": "rbp", "dfa": "srbp"}
"""Names that other texts give to credits, and what they are called here."""


def _none(*_: Any) -> tuple[()]:
    """No teaching beside what the rules of projections name."""
    return ()


LOCAL = Credit(_none, "rules of projections", wiring="none", own_channel=False)
"""Of models whose synapses have their rules each, and nothing else."""


def named(credit: Any) -> Credit:
    """The credit assignment that a model's table names, by name or as the record itself.

    None, the table of a model that has none, stands for `LOCAL`.
    """
    if credit is None:
        return LOCAL
    return CREDITS[credit.name] if isinstance(credit.name, str) else credit.name


def defaults(model: Mapping[str, Any]) -> dict[str, Any]:
    """What the credit of a model says where the model says nothing; empty if it is unknown."""
    table = model.get("credit")
    credit = table.get("name") if isinstance(table, Mapping) else table
    if isinstance(credit, str):
        credit = CREDITS.get(credit)
    if not isinstance(credit, Credit):
        return {}
    projections = model.get("projections")
    forward = projections.get("W") if isinstance(projections, Mapping) else None
    own = isinstance(forward, Mapping) and not {"post", "rule"} & set(forward)
    return credit.defaults | ({"projections": {"W": {"rule": credit.rule}}} if own else {})
