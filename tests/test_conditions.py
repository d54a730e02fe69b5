"""Where a method's conditions fail, its file is refused with the reason."""
# ruff: noqa: E501

import re
from pathlib import Path

import numpy as np
import pytest

import neurosim as ns
from neurosim.building.loading import load_model
from neurosim.building.shipped import bundled
from neurosim.credit import CREDITS, Credit, named
from neurosim.credit.channel import random_backprop
from neurosim.reports.catalogue import catalog

EXACT = {"model.credit": "tp-ei", "batch": 1, "record.samples": 1}
FORWARD = {"stages.0.phases.0.plastic": ["forward"]}
FORWARD_ONLY = {key.replace(".", "__"): value for key, value in FORWARD.items()}


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"model.credit": "dtp-ia"}, "unknown credit 'dtp-ia'; did you mean 'dtp-ai'"),
        (EXACT | FORWARD | {"batch": 4}, "batch: tp-ei updates its inverses by changes of rank one"),
        (EXACT | FORWARD | {"model.layers": [6, 6, 4]}, "tp-ei needs exact inverses, which only"),
        (EXACT | FORWARD | {"model.projections.W.optimizer": "adam"}, "W.optimizer: tp-ei moves W by changes of rank one, which those of optimizer are not"),
        (EXACT | FORWARD | {"model.projections.W.decay": 0.1}, "W.decay: tp-ei moves W by changes of rank one, which those of decay are not"),
        (EXACT | FORWARD | {"model.projections.W.limit": 0.1}, "W.limit: tp-ei moves W by changes of rank one, which those of limit are not"),
        (EXACT | FORWARD | {"model.credit.rule": "fixed"}, "tp-ei keeps its inverses by 'sherman"),
        (EXACT | FORWARD | {"model.credit.init": "random"}, "tp-ei starts from inverses: 'exact-inverse' or a 'file', not 'random'"),
        (EXACT | FORWARD | {"level": "spiking", "stages.0.phases.0.duration": "1 s"}, "tp-ei computes with activities that spikes only estimate"),
        ({"model.credit.rule": "sherman-morrison"}, "which dtp-ai does not"),
        ({"model.credit.rule": "recon"}, "credit.rule: unknown feedback rule 'recon'"),
        ({"model.credit.rule": "bidirectional"}, "'bidirectional' does not fit the feedback of dtp-ai"),
        ({"model.credit.init": "exact-inverse", "model.layers": [6, 6, 4]}, "exact inverses need layers of equal size; .*\\[6, 4\\]; use 'pseudo-inverse'"),
        ({"model.credit.init": "random", "model.credit.rule": "tied"}, "'tied' follows the start, which must then be 'exact-inverse' or"),
        ({"model.credit.init": "file"}, "credit.file: missing; init = 'file' needs an .npz with Q1 "),
        ({"model.credit.rate": [0.1, 0.1]}, "credit.rate: 2 rates; expected one, or one for each of the 1 feedback matrices"),
        ({"model.form": "autoencoder"}, "dtp-ai sends its targets through g of the inverse form"),
        ({"model.credit": "rtp-ai", "model.projections.W.optimizer": "adam"}, "and 'adam' would move the"),
        ({"model.credit": "two-phase"}, "credit.name: unknown credit 'two-phase'"),
        ({"stages.0.phases.0.teaching": "following"}, "'dtp-ai' has its own error channel"),
        ({"stages.0.phases": [{"name": "a"}, {"name": "b"}]}, "'dtp-ai' learns at the rest of one phase; 2 are given"),
        ({"plasticity": "online", "model.credit": "rtp-ai"}, "rtp-ai moves its weights step by step"),
        ({"model.credit": "ao-sdtp"}, "auxiliary: missing; ao-sdtp extends the output layer"),
        ({"model.auxiliary": 6}, "at least one must have a label"),
        (FORWARD | {"model.credit": "mtp", "batch": 1}, "mtp normalises its layers over a batch, which"),
        (FORWARD | {"model.credit": "mtp", "plasticity": "online"}, "mtp normalises its layers once a"),
        ({"model.credit": "srbp", "model.credit.rule": "tied"}, "srbp has no feedback weights that W"),
        ({"model.projections.W.post": "slope(basal)"}, "W.post: does not name the teaching that dtp-ai brings"),
        ({"model.projections.W.rule": "dleta"}, "W.rule: unknown rule 'dleta'; did you mean 'delta'"),
    ],
)  # fmt: skip
def test_refusals(own, reason):
    with pytest.raises(ns.InputError) as refused:
        ns.load_protocol("target-propagation", own)
    assert re.search(reason, str(refused.value)), refused.value


def test_a_circuit_with_a_rule_of_its_own_for_feedback_takes_no_channel_beside_it():
    """Its rules do not name the teaching, its Q is in the way, and so is the rule of that.

    Besides, the protocol has two phases, where a channel learns in one without teaching.
    """
    with pytest.raises(ns.InputError) as refused:
        ns.load_protocol("quickstart", {"model.credit": "dtp-ai"})
    begins = "override model.credit.name: "
    assert all(message.startswith(begins) for message in refused.value.messages)
    said = [m.removeprefix(begins).split(": ", 1) for m in refused.value.messages]
    assert [key for key, _ in said[3:]] == ["stages.0.phases", "stages.0.phases.1.teaching"]
    assert said[:3] == [
        ["model.projections.W.post", "does not name the teaching that dtp-ai brings; expected such as post "
         "= 'slope(basal)*teaching'"],
        ["model.projections.Q", "the feedback weights of dtp-ai are called Q; use another name"],
        ["model.projections.Q", "dtp-ai teaches W alone; no other projection has a rule beside it"],
    ]  # fmt: skip


def test_teaching_is_named_only_where_a_credit_brings_it():
    with pytest.raises(ns.InputError, match=r"W\.post: unknown name 'teaching'"):
        ns.load_protocol("quickstart", {"model.projections.W.post": "slope(basal)*teaching"})
    with pytest.raises(ns.InputError, match=r"W\.rule: unknown rule 'delta'"):
        ns.load_protocol("quickstart", {"model.projections.W.rule": "delta"})


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        (EXACT, "plastic.1: opens nothing, for lack of a rule that learns: Q; give one, or leave"),
        (
            {"model.credit.rule": "tied"},
            "plastic.1: opens nothing, for lack of a rule that learns: Q",
        ),
        (
            {"model.credit": "backprop"},
            "plastic.1: opens nothing, as no weights carry anything from ab",
        ),
    ],
)
def test_a_phase_that_opens_nothing_is_warned_of(own, reason):
    with pytest.warns(ns.NeurosimWarning, match=reason):
        ns.load_protocol("target-propagation", own)


# --- credit by its name ---------------------------------------------------------------------------


def credit_of(text="", **overrides):
    """The credit of a protocol with these lines in its model."""
    shipped = bundled("protocols")["target-propagation"].read_text(encoding="utf-8")
    Path("mine.toml").write_text(shipped.replace("\n[task]", f"{text}\n[task]"), encoding="utf-8")
    given = {key.replace("__", "."): value for key, value in overrides.items()}
    spec = ns.load_protocol("mine.toml", given).spec
    return spec.model.credit, spec.model


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("here")
def test_a_credit_given_by_its_name_keeps_what_else_is_said_of_it():
    """The model file says a rate of 0.05; rule, start and form follow from the name."""
    file, _ = credit_of()
    assert (file.name, file.rate.values, file.rule) == ("dtp-ai", (0.05,), "white-noise")
    for credit, model in (
        credit_of(model__credit="original-dtp"),
        credit_of('credit = "original-dtp"'),
        credit_of('credit.name = "original-dtp"'),
        credit_of(model={"credit": {"name": "original-dtp"}}),
        credit_of('credit = "rbp"', model__credit="original-dtp"),
    ):
        assert (credit.name, credit.rate.values) == ("original-dtp", (0.05,))
        assert (credit.rule, model.form) == ("reconstruction", "autoencoder")
    credit, _ = credit_of(
        'credit = { name = "rbp", gain = 2.0 }', model__credit="srbp", **FORWARD_ONLY
    )
    assert (credit.name, credit.gain, credit.rate.values) == ("srbp", 2.0, (0.05,))
    credit, _ = credit_of(model__credit="dtp-ai", model__credit__rate=0.5)
    assert (credit.name, credit.rate.values) == ("dtp-ai", (0.5,))
    assert load_model("target-propagation", {"credit": "rbp"}).credit.rate.values == (0.05,)
    assert load_model("backprop", {"credit": {"name": "bp-fixed"}}).credit.name == "bp-fixed"


@pytest.mark.usefixtures("here")
def test_the_rule_of_a_credit_stands_where_the_model_names_none():
    assert credit_of(model__credit="mtp", **FORWARD_ONLY)[1].projections["W"].rule == (
        "delta-over-slope"
    )
    own = credit_of('projections.W.post = "teaching"', model__credit="mtp", **FORWARD_ONLY)[1]
    assert (own.projections["W"].rule, own.projections["W"].post) == ("fixed", "teaching")
    own = credit_of(model__credit="mtp", model__projections__W__rule="delta", **FORWARD_ONLY)[1]
    assert own.projections["W"].rule == "delta"


def test_a_credit_brings_its_rules_and_every_one_is_listed_with_its_source():
    listed = {e["name"]: e["source"] for e in catalog("rules") if e["key"] == "model.credit.name"}
    assert set(listed) == set(CREDITS)
    assert all(listed.values())
    model = ns.load_protocol(
        "target-propagation", {"model.credit": "original-rdtp", "record.presentations": 0}
    ).spec.model
    assert (model.form, model.credit.rule) == ("autoencoder", "reconstruction")
    assert (model.projections["W"].rule, named(model.credit).order) == ("delta", "random")


SHORT = {"stages.0.epochs": None, "stages.0.presentations": 120, "record.presentations": 0}


def test_a_credit_of_ones_own(tmp_path):
    """Feedback alignment given as a record: the same numbers as by its name."""
    own = SHORT | FORWARD | {"model.projections.W.rate": 0.005, "model.credit.init": "transpose"}
    record = Credit(random_backprop, "mine", init="random")
    losses = []
    for credit in ("rbp", record):
        protocol = ns.load_protocol("target-propagation", own | {"model.credit": credit})
        losses.append(ns.run(protocol, out=tmp_path / "t.h5", force=True).metrics["test_loss"])
    assert losses[0] == losses[1]


def test_auxiliary_outputs_carry_information_and_are_not_taught(tmp_path):
    """AO-SDTP: their weights stay, and the label is compared with the other units only."""
    own = SHORT | {
        "model.credit": "ao-sdtp",
        "model.layers": [64, 12, 12],
        "model.auxiliary": 2,
        "model.output": "softmax",
        "model.loss": "cross-entropy",
        "model.target_step": 1.0,
        "model.projections.W.init": "orthogonal",
        "model.projections.W.rate": 0.1,
        "task": {"name": "digits"},
    }
    run = ns.run(ns.load_protocol("target-propagation", own), out=tmp_path / "trace.h5")
    W2 = ns.open_trace(run.path)["weights/W2"].values
    moved = np.abs(W2[1] - W2[0]).max(axis=1)
    assert np.all(moved[10:] == 0)
    assert np.all(moved[:10] > 1e-3)
    assert run.metrics["test_error"] < 0.5  # chance is 0.9


def test_exact_inverses_report_their_drift_and_are_refreshed(tmp_path):
    """Single precision drifts; a limit below the drift keeps it there."""
    own = SHORT | EXACT | FORWARD | {"precision": "float32", "model.projections.W.rate": 0.02}
    own["stages.0.presentations"] = 1921
    found = {}
    for limit in (1.0, 1e-7):
        protocol = ns.load_protocol("target-propagation", own | {"model.credit.refresh": limit})
        run = ns.run(protocol, seeds=range(4), out=tmp_path / "t.h5", force=True)
        drift = ns.open_trace(run.path)["metrics/drift"].values
        assert np.isfinite(drift[::32]).all()
        assert np.isnan(drift[1:32]).all()
        found[limit] = drift[1920]
    assert np.median(found[1e-7]) < 0.5 * np.median(found[1.0])


def test_a_student_of_other_layers_than_its_teacher_is_refused(tmp_path):
    own = {"model.layers": [6, 5, 6], "record.presentations": 0}
    protocol = ns.load_protocol("target-propagation", own)
    with pytest.raises(ns.InputError, match=r"it has \[6, 5, 6\], the teacher \[6, 6, 6\]"):
        ns.run(protocol, out=tmp_path / "t.h5")
    assert not list(tmp_path.iterdir())
