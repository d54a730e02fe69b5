"""All mistakes of a protocol are said at once, each where the user made it."""

import pytest

import neurosim as ns

MANY = """
name = "mine"
batch = 50
[model]
use = "mixture-dendrites"
noise = { apicl = 0.1 }
loss = "squard"
[task]
name = "digits"
[[stages]]
name = "t"
epochs = 3
[[stages.phases]]
name = "free"
duration = "600 ms"
until = "duration"
plastic = ["feedback"]
[[stages.phases]]
name = "learning"
duration = "600.5 ms"
until = "duration"
teaching = "frozen"
plastic = ["forwrd"]
[rate]
dt = "10 ms"
[record]
every = "3 ms"
"""


def lines(tmp_path, text, **overrides):
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ns.InputError) as error:
        ns.load_protocol(tmp_path / "mine.toml", overrides)
    return sorted(
        line.partition("mine.toml:")[2].partition(": ")[2] for line in error.value.messages
    )


def test_everything_that_is_wrong_is_said_at_once(tmp_path):
    """What cannot be read, what the circuit has not, and what does not go together.

    The duration is a multiple neither of the step nor of what is recorded.
    """
    said = [line.partition(": ")[0] for line in lines(tmp_path, MANY)]
    assert said == [
        "model.loss",
        "model.noise.apicl",
        "record.every",
        "stages.0.phases.1.duration",
        "stages.0.phases.1.duration",
        "stages.0.phases.1.plastic.0",
    ]


def test_one_mistake_is_not_said_twice(tmp_path):
    """A key that cannot be read is not missed besides, nor is what hangs on it."""
    text = MANY.replace("600.5 ms", "600 m").replace("squard", "squared").replace("apicl", "apical")
    text = text.replace("forwrd", "forward").replace("3 ms", "10 ms")
    (found,) = lines(tmp_path, text)
    assert found.startswith("stages.0.phases.1.duration: ")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.output": "linear"}, "override model.output: model.loss: the cross-entropy needs"),
        ({"model.parameters.mu": 0.7}, "override model.parameters.mu: model.attenuation: 5.44"),
        ({"model.parameters.tau_soma": 5}, "override model.parameters.tau_soma: stages.0.phases.0"),
        ({"level": "spiking", "spiking.dt": "7 ms"}, "override spiking.dt: model.spiking.refract"),
    ],
)
def test_what_shipped_files_say_is_placed_at_the_change_that_it_does_not_go_with(changes, message):
    with pytest.raises(ns.InputError) as error:
        ns.load_protocol("quickstart", changes)
    assert error.value.messages[0].startswith(message)


def test_in_a_protocol_of_ones_own_that_is_its_own_line(tmp_path):
    text = MANY.replace("squard", "cross-entropy").replace("600.5 ms", "600 ms")
    text = text.replace("apicl", "apical").replace("forwrd", "forward").replace("3 ms", "10 ms")
    text = text.replace('loss = "cross-entropy"', 'output = "linear"')
    (tmp_path / "mine.toml").write_text(text)
    with pytest.raises(ns.InputError) as error:
        ns.load_protocol(tmp_path / "mine.toml")
    (line,) = error.value.messages
    assert line.startswith(f"{tmp_path / 'mine.toml'}:7: model.output: model.loss: the cross-entro")


def test_a_change_is_not_blamed_for_what_only_its_absence_breaks():
    """Without its cells the circuit cannot be read at all, which says nothing of the rest."""
    own = ns.load_model("mixture-two-phase").model_dump(mode="json")
    parts = {f"model.{key}": own[key] for key in ("cells", "populations", "projections")}
    parts |= {"model.parameters": own["parameters"], "model.attenuation": own["attenuation"]}
    with pytest.raises(ns.InputError) as error:
        ns.load_protocol("quickstart", {"rate.dt": "700 ms"} | parts)
    assert all(line.startswith("override rate.dt: ") for line in error.value.messages)


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        (
            {"task.name": "yin-yang"},
            ["override task.name: model.layers: [64, 64, 10] does not fit the task, which has 4 "],
        ),
        (
            {"task.split_seed": -1, "plasticity": "onlin", "stages.0.phases.0.teaching": "non"},
            [
                "override plasticity: unknown plasticity 'onlin'",
                "override stages.0.phases.0.teaching: unknown teaching 'non'",
                "override task.split_seed: got -1; expected a whole number of at least 0",
            ],
        ),
        (
            {"task": {"name": "student-teacher", "layers": [64, 0, 10]}},
            ["override task.layers.1: got 0; expected a whole number of at least 1"],
        ),
        ({"task.validation": 1.5}, ["override task.validation: got 1.5; expected a share betwe"]),
        ({"task.splt": 1}, ["override task.splt: unknown key 'splt'"]),
        (
            {"task.splt": 1, "task.split_seed": -1, "task.standardise": 3},
            [
                "override task.splt: unknown key 'splt'",
                "override task.split_seed: got -1; expected a whole number of at least 0",
                "override task.standardise: got 3; expected true or false",
            ],
        ),
        ({"task.name": "digit"}, ["override task.name: unknown task 'digit'; did you mean 'digi"]),
    ],
)
def test_a_task_is_checked_with_everything_else(changes, messages):
    with pytest.raises(ns.InputError) as refused:
        ns.load_protocol("quickstart", changes)
    found = refused.value.messages
    assert len(found) == len(messages)
    assert all(line.startswith(start) for line, start in zip(found, messages, strict=True)), found


@pytest.mark.parametrize("wrong", [[["x"]], ["x"], "x", {"a": [1]}, [[{}]]])
def test_what_is_of_no_kind_is_refused_wherever_it_stands(wrong):
    for key in ("record.samples", "stages.0.phases.0.plastic", "model.projections.W.rate"):
        with pytest.raises(ns.InputError):
            ns.load_protocol("quickstart", {key: wrong})


@pytest.mark.parametrize(
    ("changes", "messages"),
    [
        (
            {"batch": 2000, "level": "spikin"},
            [
                "override level: unknown level 'spikin'",
                "override batch: 2000 samples a batch, but the task has only 1438 to train on",
            ],
        ),
        (
            {"batch": 2000, "record.layers": [9]},
            [
                "override record.layers.0: layer 9 of a network with 2 layers",
                "override batch: 2000 samples a batch",
            ],
        ),
        (
            {"task.path": "none.npz", "task.name": "arrays", "plasticity": "onlin"},
            [
                "override plasticity: unknown plasticity 'onlin'",
                "override task.path: {folder}/none.npz: no such file; expected an .npz file",
            ],
        ),
        (
            {"rate.dt": "700 ms", "model.projections.Q": {"init": "file", "file": "none.npz"}},
            [
                "override rate.dt: stages.0.phases.0.duration: 600 ms is not a multiple",
                "override rate.dt: stages.0.phases.1.duration: 600 ms is not a multiple",
                "override rate.dt: record.every: 10 ms is not a multiple",
                "override model.projections.Q.file: {folder}/none.npz: no such file",
            ],
        ),
    ],
)
def test_what_files_and_samples_do_not_fit_is_said_with_everything_else(
    changes, messages, tmp_path, monkeypatch
):
    """Not in a second round, once all other mistakes are gone; and at the key that names a file."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ns.InputError) as error:
        ns.load_protocol("quickstart", changes)
    wanted = [message.format(folder=tmp_path) for message in messages]
    assert [line.startswith(w) for line, w in zip(error.value.messages, wanted, strict=True)] == [
        True for _ in wanted
    ]


def test_files_of_samples_and_of_weights_are_missed_together(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    samples = {"task.name": "arrays", "task.path": "x.npz"}
    weights = {"model.projections.W": {"init": "file", "file": "w.npz"}}
    with pytest.raises(ns.InputError) as error:
        ns.check(ns.load_protocol("quickstart", samples | weights))
    assert [line.partition(": ")[0] for line in error.value.messages] == [
        "override task.path",
        "override model.projections.W.file",
    ]
    with pytest.raises(ns.InputError) as error:
        ns.check(ns.load_protocol("quickstart", {"batch": 2000} | weights))
    assert [line.partition(": ")[0] for line in error.value.messages] == [
        "override batch",
        "override model.projections.W.file",
    ]
