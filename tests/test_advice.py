"""What a refusal advises, taken to the letter, is accepted."""

import re
import warnings

import pytest
from tiny_runs import TINY

import neurosim as ns

pytestmark = pytest.mark.filterwarnings("ignore::neurosim.errors.NeurosimWarning")

SPIKING = {"level": "spiking"}
LIF = SPIKING | {"model.spiking.soma": "lif"}
WHERE = re.compile(r"[a-z_]+(\.\w+)*")
KEYED = re.compile(r"(\w+) = (\"[^\"]+\"|'[^']+'|[\d.]+)")
VALUE = re.compile(r"(?:expected|at most|at least|such as) (\"[^\"]+\"|\d+)")

CASES = {
    "max_rate not above base_rate": ("quickstart", SPIKING | {"model.spiking.max_rate": "40 Hz"}),
    "max_rate far below base_rate": (
        "quickstart",
        SPIKING | {"model.spiking.max_rate": "1 Hz", "model.spiking.base_rate": "190 Hz"},
    ),
    "refractory": ("quickstart", LIF | {"model.spiking.refractory": "8 ms"}),
    "refractory that leaves no rate": ("quickstart", LIF | {"model.spiking.refractory": "2 s"}),
    "bursts": ("spiking-multiplexing", {"model.spiking.max_rate": "60 Hz"}),
    "bursts above all": (
        "spiking-multiplexing",
        {"model.spiking.max_rate": "60 Hz", "model.spiking.base_rate": "55 Hz"},
    ),
    "burst_limit": (
        "spiking-multiplexing",
        {"model.spiking.burst_interval": "9 ms", "model.spiking.burst_limit": "9 ms"},
    ),
    "spiking.dt": ("quickstart", SPIKING | {"model.spiking.max_rate": "700 Hz"} | LIF | {
        "model.spiking.refractory": "1 ms"}),
    "tau_soma": ("quickstart", SPIKING | {"model.parameters.tau_soma": "0.4 ms"}),
    "samples": ("quickstart", {"record.samples": 60}),
    "auxiliary": ("target-propagation", {"model.auxiliary": 6, "task.layers": [6, 6, 1]}),
    "duration": ("quickstart", {"stages.0.phases.0.duration": None}),
    "epochs": ("quickstart", {"stages.0.epochs": None}),
    "rate": ("student-teacher", {"level": "rate", "rate": None}),
}  # fmt: skip
"""Protocols that are refused, by what is wrong with them."""


def refusal(name, changes):
    with pytest.raises(ns.InputError) as caught:
        ns.load_protocol(name, changes)
    return caught.value.messages


def taken(messages):
    """The changes that messages ask for: a key and its value, or a value of the refused key."""
    found = {}
    for message in messages:
        heads = [head.removeprefix("override ") for head in message.split(": ")[:-1]]
        key = [head for head in heads if WHERE.fullmatch(head)][-1]
        advice = message[max(message.rfind("; "), message.rfind(", such as")) :]
        named = dict(KEYED.findall(advice))
        value = VALUE.search(advice)
        if value and not (named and advice.find(value[0]) > advice.find("=")):
            found[key] = value[1].strip("\"'")
        table = key if key == "rate" or key.endswith(".0") else key.rpartition(".")[0]
        found |= {f"{table}.{name}": text.strip("\"'") for name, text in named.items()}
    return {key: int(text) if text.isdigit() else text for key, text in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_what_a_refusal_advises_is_accepted(case):
    name, changes = CASES[case]
    messages = refusal(name, changes)
    advice = taken(messages)
    assert advice, messages
    kept = {key: value for key, value in changes.items() if value is not None or key not in advice}
    kept = {k: v for k, v in kept.items() if not any(a.startswith(f"{k}.") for a in advice)}
    ns.load_protocol(name, kept | advice)


@pytest.mark.filterwarnings("default::neurosim.errors.NeurosimWarning")
@pytest.mark.parametrize("scheme", ["euler", "heun"])
def test_steps_that_amplify_a_stable_phase_are_warned_of(tmp_path, scheme):
    """Its fastest mode decays at 1.3 to 1.9 over τ = 20 ms; both schemes bear a step of 2 over it.

    The advised step is the longest of 50, 25, 20, … ms that they bear.
    """
    (tmp_path / "tiny.toml").write_text(TINY)
    changes = {"rate.scheme": scheme, "rate.dt": "100 ms", "record.every": "100 ms"}
    with pytest.warns(ns.NeurosimWarning, match=r"rate\.dt: steps of 100 ms amplify phase") as said:
        ns.load_protocol(tmp_path / "tiny.toml", changes)
    message = next(str(one.message) for one in said if "amplify" in str(one.message))
    bound = float(re.search(r"needs less than ([\d.]+) ms", message)[1])
    assert 2 * 20 / 1.9 < bound < 2 * 20 / 1.3
    advice = re.search(r'such as "([^"]+)"', message)[1]
    assert advice == "25 ms"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ns.load_protocol(tmp_path / "tiny.toml", changes | {"rate.dt": advice})


@pytest.mark.filterwarnings("default::neurosim.errors.NeurosimWarning")
@pytest.mark.parametrize(
    ("name", "changes", "kept"),
    [
        ("burstprop-xor", {"model.use": "burstprop-learned", "model.layers": [2, 4, 2]}, "Y"),
        ("microcircuit-digits", {"model.projections.B.post": "-apical"}, "B"),
        ("backprop-digits", {"model.credit": {"name": "dtp-ai", "rate": 0.1}}, "Q"),
    ],
)
def test_a_rule_that_a_change_brings_and_no_phase_opens_is_warned_of(name, changes, kept):
    """Either advice silences it: the phase with the rule in it, or a rate of 0."""
    where = "credit" if name == "backprop-digits" else f"projections.{kept}"
    changes = changes | ({"model.projections.B.rate": 0.1} if kept == "B" else {})
    said = rf"{re.escape(where)}\.rate: no phase opens the plasticity of {kept}, so that it stays"
    with pytest.warns(ns.NeurosimWarning, match=said) as found:
        ns.load_protocol(name, changes)
    message = next(str(one.message) for one in found if re.search(said, str(one.message)))
    key, names, rate = re.search(r"such as (\S+) = \[(.+)\], or (\S+) = 0 if", message).groups()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ns.load_protocol(name, changes | {key: names.replace("'", "").split(", ")})
        ns.load_protocol(name, changes | {rate: 0.0})


@pytest.mark.filterwarnings("error::neurosim.errors.NeurosimWarning")
@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("segregated-dendrites-digits", {"model.use": "segregated-dendrites-poisson"}),
        ("burst-ccn-digits", {f"stages.{k}.phases.0.plastic": [] for k in (0, 1)}),
    ],
)
def test_what_is_kept_closed_on_purpose_is_not_warned_of(name, changes):
    """By the protocol, which has a rule of that name before the change, or by the change itself."""
    ns.load_protocol(name, changes)
