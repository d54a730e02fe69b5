"""Where a method's conditions fail, its file is refused with the reason."""
# ruff: noqa: E501

import re

import numpy as np
import pytest

import neurosim as ns
from neurosim.credit import CREDITS, Credit
from neurosim.credit.feedback_alignment import feedback_alignment
from neurosim.listing import catalog

EXACT = {"model.credit": "tp-ei", "batch": 1, "record.samples": 1}
FORWARD = {"stages.0.phases.0.plastic": ["forward"]}


@pytest.mark.parametrize(
    ("own", "reason"),
    [
        ({"model.credit": "dtp-ia"}, "unknown credit 'dtp-ia'; did you mean 'dtp-ai'"),
        (EXACT | FORWARD | {"batch": 4}, "batch: tp-ei updates its inverses by changes of rank one"),
        (EXACT | FORWARD | {"model.layers": [6, 6, 4]}, "tp-ei needs exact inverses, which only"),
        (EXACT, "feedback plasticity is open but the feedback rule is 'sherman-morrison'"),
        (EXACT | FORWARD | {"model.forward.optimizer": "adam"}, "'adam' are not of rank one"),
        (EXACT | FORWARD | {"model.feedback.rule": "fixed"}, "tp-ei keeps its inverses by 'sherman"),
        ({"model.feedback.rule": "sherman-morrison"}, "which dtp-ai does not"),
        ({"model.feedback.form": "autoencoder"}, "dtp-ai sends its targets through g of the inverse"),
        ({"model.forward.order": "random"}, "in the order 'together'; 'rtp-ai' or 'rdtp-ai'|'rdtp"),
        ({"model.credit": "rtp-ai", "model.forward.optimizer": "adam"}, "and 'adam' would move the"),
        ({"model.credit": "backprop"}, "'backprop' has no feedback weights to learn"),
        ({"model.credit": "two-phase"}, "this dynamics cannot use 'two-phase'; it can backprop or"),
        ({"stages.0.phases.0.teaching": "following"}, "'dtp-ai' has its own error channel"),
        ({"plasticity": "online", "model.credit": "rtp-ai"}, "rtp-ai moves its weights step by step"),
        ({"level": "spiking"}, "spiking networks are made of"),
        ({"model.credit": "ao-sdtp"}, "auxiliary: missing; ao-sdtp extends the output layer"),
        ({"model.auxiliary": 6}, "at least one must have a label"),
        (FORWARD | {"model.credit": "mtp", "batch": 1}, "mtp normalises its layers over a batch, which"),
        (FORWARD | {"model.credit": "mtp", "plasticity": "online"}, "mtp normalises its layers once a"),
        ({"model.credit": "dfa", "model.feedback.rule": "tied"}, "dfa has no feedback weights that W"),
    ],
)  # fmt: skip
def test_refusals(own, reason):
    with pytest.raises(ns.InputError) as refused:
        ns.load_protocol("target-propagation", own)
    assert re.search(reason, str(refused.value)), refused.value


def test_a_network_with_phases_takes_no_channel_of_its_own():
    with pytest.raises(
        ns.InputError, match="this dynamics cannot use 'dtp-ai'; it can single-phase"
    ):
        ns.load_protocol("quickstart", {"model.credit": "dtp-ai"})


def test_a_credit_brings_its_rules_and_every_one_is_listed_with_its_source():
    listed = {e["name"]: e["source"] for e in catalog("rules") if e["key"] == "model.credit"}
    assert set(listed) == set(CREDITS)
    assert all(listed.values())
    model = ns.load_protocol(
        "target-propagation", {"model.credit": "original-rdtp", "record.presentations": 0}
    ).spec.model
    assert (model.feedback.form, model.feedback.rule) == ("autoencoder", "reconstruction")
    assert model.forward.order == "random"


SHORT = {"stages.0.epochs": None, "stages.0.presentations": 120, "record.presentations": 0}


def test_a_credit_of_ones_own(tmp_path):
    """Feedback alignment given as a record: the same numbers as by its name."""
    own = SHORT | FORWARD | {"model.forward.rate": 0.005, "model.feedback.init": "transpose"}
    record = Credit(feedback_alignment, "mine", init="random")
    losses = []
    for credit in ("fa", record):
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
        "model.weights": {"init": "orthogonal"},
        "model.forward.rate": 0.1,
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
    own = SHORT | EXACT | FORWARD | {"precision": "float32", "model.forward.rate": 0.02}
    own["stages.0.presentations"] = 1921
    found = {}
    for limit in (1.0, 1e-7):
        protocol = ns.load_protocol("target-propagation", own | {"model.feedback.refresh": limit})
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
