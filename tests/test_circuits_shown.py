"""Circuits as `check` shows them: in words, and in files."""

import json
from pathlib import Path

import pytest
from command_line import call
from shown_circuits import (
    ALL,
    ODD,
    protocol,
    sides,
    well_formed,
)

import neurosim as ns
from neurosim.models import circuitry
from neurosim.reports.outline import in_words


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("odd.toml").write_text(ODD, encoding="utf-8")


# --------------------------------------------------------------------------------------- words


def test_check_says_who_stands_where_and_reaches_whom():
    report = ns.check(protocol("microcircuit", **{"stages.0.phases.1.parameters.nudging": "5 Hz"}))
    found = report["circuit"]
    assert json.loads(json.dumps(found)) == found
    assert found["layers"] == [5, 6, 4, 3]
    populations = {p["name"]: p for p in found["populations"]}
    assert populations["interneuron"] == {
        "name": "interneuron",
        "cell": "interneuron",
        "layers": [1, 2],
        "sizes": [4, 3],
        "states": ["soma"],
        "quantities": ["dendrite", "soma", "rate", "expected"],
        "spikes": ["rate"],
        "firing": None,
    }
    shapes = {p["name"]: p["shapes"] for p in found["projections"]}
    assert shapes == {
        "W": [[6, 5], [4, 6], [3, 4]],
        "B": [[6, 4], [4, 3]],
        "I": [[4, 6], [3, 4]],
        "A": [[6, 4], [4, 3]],
        "N": None,
    }
    assert found["phases"][1] == {
        "stage": "training",
        "name": "learning",
        "teaching": "clamped",
        "plastic": ["W"],
        "parameters": {"nudging": 5.0},
    }
    lines = in_words(found)
    for line in (
        "  interneuron  layers 1, 2: 4, 3 units; spikes carry rate",
        "  output       layer 3: 3 units; spikes carry rate; soma answers",
        "  W  rate[i-1] -> forward[i]: 6x5, 4x6, 3x4, from xavier",
        "     post rate - expected; pre rate; rate eta",
        "  B  rate[i+1] -> feedback[i]: 6x4, 4x3, from uniform",
        "     fixed",
        "  N  soma[i+1] => interneuron.nudge[i]: one to one, without weights",
        "  free      no teaching; opens nothing",
        "  learning  teaching clamped; opens W; nudging = 5",
    ):
        assert line in lines


def test_check_says_what_rules_remember():
    found = ns.check(protocol("segregated-dendrites"))["circuit"]
    (first, *_) = found["projections"]
    assert first["remembered"] == {
        f"{name}_forward": {"quantity": name, "phase": "forward"}
        for name in ("rate", "soma", "teacher")
    }
    assert first["rule"]["pre"] == "rate_forward"
    assert "     remembers soma, teacher, rate of phase forward" in in_words(found)
    assert "; rate 1.0; biases learn along" in "\n".join(in_words(found))


def test_words_say_what_else_there_is():
    found = ns.check(protocol("odd"))["circuit"]
    lines = in_words(found)
    for line in (
        "  mod  layers 1, 3: 2, 2 units; no spikes",
        "  I     inh.out[i] -> pyr.near[i]: 4x3, 4x3, 4x3, from normal times 0.2",
        "        post slope(V_m)*(rate - rate_free); pre rate; rate 0.1*(1 + i)/L; decay 0.01; "
        "at most 2; biases learn along",
        "        post -V_m; pre rate; rate 0.1, 0.2, 0.3",
        "        rule tied; rate 0.0",
    ):
        assert line in lines


@pytest.mark.parametrize(
    ("spikes", "said"),
    [
        (["f", "g"], "spikes carry f by events, g by bursts"),
        (None, "what spikes carry is not said"),
    ],
)
def test_words_of_spikes(spikes, said):
    found = ns.check(protocol("controller"))["circuit"]
    found["populations"][0] |= {"spikes": spikes, "cell": "other"}
    assert f"  pyramidal   layers 1, 2: 5, 4 units; cells other; {said}" in in_words(found)


@pytest.mark.parametrize("name", ALL)
def test_what_check_prints_of_a_circuit_is_the_same_protocol(name):
    given = protocol(name, **{"stages.0.name": "a\nb = 1\r\x0b"})
    printed = call("check", "shown.toml", "--set", 'stages.0.name="a\\nb = 1\\r\\u000b"').stdout
    Path("again.toml").write_text(printed, encoding="utf-8", newline="")
    assert ns.load_protocol("again.toml").spec == given.spec
    words = [line for line in printed.splitlines() if line.startswith("#")]
    assert "# projections" in words


SHIPPED = {
    "mixture": "mixture-single-phase",
    "mixture-two-phase": "quickstart",
    "mixture-dendrites": "quickstart",
    "multiplexing": "multiplexing-digits",
    "feedback-control": "feedback-control-digits",
    "burst-ccn": "burst-ccn-digits",
    "burst-ccn-learned": "burst-ccn-digits",
    "burst-ccn-symmetric": "backprop-digits",
    "burstprop": "burstprop-digits",
    "burstprop-averages": "burstprop-digits",
    "burstprop-learned": "burstprop-digits",
    "burstprop-softmax": "burstprop-digits",
    "microcircuit": "microcircuit-digits",
    "microcircuit-original": "microcircuit-digits",
    "microcircuit-online": "microcircuit-online",
    "segregated-dendrites": "segregated-dendrites-digits",
    "segregated-dendrites-poisson": "segregated-dendrites-digits",
    "equilibrium-propagation": "equilibrium-propagation-digits",
    "equilibrium-propagation-symmetric": "equilibrium-propagation-digits",
    "equilibrium-propagation-gaussian": "equilibrium-propagation-digits",
    "least-control": "least-control-digits",
    "feedback-control-single-phase": "feedback-control-single-phase",
    "broadcast-alignment": "broadcast-alignment-digits",
    "predictive-coding": "predictive-coding-digits",
    "backprop": "backprop-digits",
    "linear": "learning-flow",
    "power": "learning-flow",
    "target-propagation": "target-propagation",
    "difference-target-propagation": "difference-target-propagation-digits",
    "denoising-autoencoder": "denoising-autoencoder-digits",
    "discrete-transmission": "discrete-transmission-digits",
    "local-goals": "local-goals-n4g4",
    "stochastic-binary": "stochastic-binary-digits",
}
"""Every model that ships → a protocol for it."""

OPENED = {
    "burst-ccn-learned": {"stages.1.phases.1.plastic": ["W", "Y", "Q"]},
    "burstprop-learned": {"stages.0.phases.1.plastic": ["W", "Y"]},
}
"""What opens the rules that such a model adds."""


@pytest.mark.parametrize("name", SHIPPED)
def test_models_that_ship_are_shown_like_any_other(name):
    assert set(SHIPPED) == {e["name"] for e in ns.catalog("models")}
    shorter = {"rate.dt": "5 ms"} if name == "mixture-dendrites" else {}  # else they amplify
    changes = {"model.use": name} | shorter | OPENED.get(name, {})
    given = ns.load_protocol(SHIPPED[name], changes)
    report = ns.check(given, latex="-", plot=f"{name}.svg")
    assert report["files"] == [f"{name}.svg"]
    made = circuitry.circuit(given.spec.model)
    found = report["circuit"]
    assert [p["name"] for p in found["populations"]] == list(made.population)
    assert [p["name"] for p in found["projections"]] == list(made.projection)
    well_formed(report["latex"])
    drawn = Path(f"{name}.svg").read_text(encoding="utf-8")
    for population in made.population:
        assert population in drawn


def test_the_mixture_as_latex():
    """T 6.1, 6.17, 6.19 and 6.23, as they stand in the thesis but for names."""
    rows = sides(ns.check("mixture-single-phase", latex="-")["latex"])
    f, g, h = (rf"\mathrm{{{name}}}" for name in ("basal", "apical", "soma"))
    f, g = (rf"{name}_{{\mathrm{{rate}},1}}" for name in (f, g))
    assert rows[rf"\frac{{\mathrm{{d}}\,{h}_{{1}}}}{{\mathrm{{d}}t}}"] == (
        rf"\frac{{(1 - \mu)\,{f} + \mu\,{g} - {h}_{{1}}}}{{\tau_{{\mathrm{{soma}}}}}}"
    )
    assert rows[r"\mathrm{down}_{1}"] == rf"s^{{-1}}({h}_{{1}}) - \mathrm{{bias}}_{{1}}"
    assert rows["Q_{1}"] == "W_{2}^{-1}"
    f = f.replace("1}", "i}")
    assert rows[r"\Delta W_{i}"] == (
        rf"\eta_{{W}}\,\left\langle s'(\mathrm{{basal}}_{{i}})\,\frac{{{h}_{{i}} - {f}}}"
        r"{\alpha_{i}}\,\mathrm{up}_{i-1}^{\top} \right\rangle, && i = 1, \dots, L"
    )
    assert rows[r"\alpha_{i}"] == r"\left(\frac{\mu}{1 - \mu}\right)^{L + 1 - i}"


def test_a_channel_of_its_own_is_shown():
    report = ns.check("target-propagation", latex="-")
    found = report["circuit"]["credit"]
    assert found["name"] == "dtp-ai" and found["shapes"] == [[6, 6]]
    assert (found["init"], found["rule"], found["rate"]) == ("pseudo-inverse", "white-noise", 0.05)
    lines = in_words(report["circuit"])
    at = lines.index("teaching by a channel")
    assert lines[at + 1 : at + 3] == [
        "  dtp-ai",
        "  Q 6x6, from pseudo-inverse; rule white-noise; rate 0.05",
    ]
    said = r"$\mathrm{teaching}$ is what the method \emph{dtp-ai} brings: targets by differences of"
    assert said in report["latex"]
    plain = ns.check("backprop-digits")["circuit"]
    assert plain["credit"]["shapes"] == [] and in_words(plain).count("  backprop") == 1
    assert ns.check("quickstart")["circuit"]["credit"] is None


def test_what_becomes_of_errors_in_a_channel_is_shown():
    changes = {"model.credit": {"name": "srbp", "slope": False, "dropout": 0.5, "sparse": 8}}
    found = ns.check(ns.load_protocol("random-feedback-digits", changes))["circuit"]
    assert found["credit"]["options"] == {"slope": False, "sparse": 8.0, "dropout": 0.5}
    assert "  srbp; slope = false; sparse = 8.0; dropout = 0.5" in in_words(found)


def test_biases_that_are_none_are_said_to_be_0():
    assert r"$\mathrm{bias}$ is 0." in ns.check("quickstart", latex="-")["latex"].splitlines()
    given = ns.load_protocol("quickstart", {"model.projections.W.bias": True})
    assert r"$\mathrm{bias}$ is 0." not in ns.check(given, latex="-")["latex"]


def test_the_command_line_writes_what_the_library_does():
    given = protocol("microcircuit")
    text = ns.check(given, latex="-")["latex"]
    assert call("check", "shown.toml", "--latex", "-").stdout == text
    arguments = ["check", "shown.toml", "--latex", "new/a.tex", "--plot", "new/a.svg"]
    result = call(*arguments)
    assert result.exit_code == 0
    assert Path("new/a.tex").read_text(encoding="utf-8") == text
    assert Path("new/a.svg").read_text(encoding="utf-8").count("interneuron") > 0
    assert "# written: new/a.tex, new/a.svg\n" in result.stdout
    assert json.loads(call(*arguments, "--force", "--json").stdout)["files"] == [
        "new/a.tex",
        "new/a.svg",
    ]


@pytest.mark.parametrize(
    ("option", "file", "message"),
    [
        ("--latex", "there.tex", "exists; give --force to overwrite it"),
        ("--plot", "there.png", "exists; give --force to overwrite it"),
        ("--latex", "a.pdf", "expected a name that ends in .tex"),
        ("--plot", "a.tex", "expected a name that ends in .png, .svg or .pdf"),
        ("--plot", "-", "expected a name that ends in .png, .svg or .pdf"),
        ("--latex", "there.png/a.tex", "cannot be written there"),
        ("--plot", "there.png/a.png", "cannot be written there"),
    ],
)
def test_files_that_cannot_be_are_refused(option, file, message):
    protocol("segregated-dendrites")
    for name in ("there.tex", "there.png"):
        Path(name).write_text("mine")
    result = call("check", "shown.toml", option, file)
    assert result.exit_code == 2
    assert message in result.stderr and file in result.stderr
    assert Path("there.tex").read_text() == Path("there.png").read_text() == "mine"


@pytest.mark.parametrize("recording", ["current-clamp", "stdp-window"])
def test_cells_are_no_circuits(recording):
    result = call("check", recording, "--plot", "a.svg")
    said = "error: --plot: belongs to protocols of networks; check of a cell has none\n"
    assert (result.exit_code, result.stderr) == (2, said)
    assert not Path("a.svg").exists()
