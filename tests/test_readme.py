"""Every code block of the README and of the docs runs as it stands."""

import re
import shlex
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

import neurosim as ns
from neurosim.building.shipped import bundled
from neurosim.cli import app
from neurosim.sweeps.plan import plan

ROOT = Path(__file__).parents[1]
SITE = {"index.md", "commands.md", "reference.md"}
"""Pages that are put together by Sphinx."""

PAGES = [ROOT / "README.md"] + [
    page for page in sorted((ROOT / "docs").glob("*.md")) if page.name not in SITE
]
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def _marks(text: str):
    """What trains a network is run with the long tests."""
    return [] if text.startswith("name = ") and "task" not in text else [pytest.mark.long]


def blocks(language: str, pages=PAGES):
    found = [
        pytest.param(text, id=f"{page.stem}-{number}", marks=_marks(text))
        for page in pages
        for number, (tag, text) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if tag == language
    ]
    assert found
    return found


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """A user's own folder."""
    (tmp_path / "outputs").mkdir()
    monkeypatch.chdir(tmp_path)


def test_every_block_has_a_language_that_is_tested_here():
    for page in PAGES:
        tags = {tag for tag, _ in BLOCK.findall(page.read_text(encoding="utf-8"))}
        assert tags <= {"python", "sh", "toml"}, page


@pytest.mark.filterwarnings("ignore:The 'copy' argument in Quantity")  # which Elephant gives
@pytest.mark.parametrize("code", blocks("python"))
def test_python(code):
    names = {"__name__": "readme"}
    exec(compile(code, "README", "exec"), names)
    if "found" in names:  # a sweep
        assert (names["found"]["test_error"] < 0.08).all()
        return
    if "block" in names:  # Elephant's rates are those that were measured
        assert names["rates"] == pytest.approx(names["recording"].sweeps["rate"], rel=1e-9)
        return
    assert names["run"].metrics["test_error"] < 0.08  # chance is 90 %, of three clouds 67 %


def whole_model():
    """The model of docs/models.md that other blocks there are parts of."""
    (text,) = [
        p.values[0] for p in blocks("toml") if '"mine"\nlayers = [64, 32, 10]  ' in p.values[0]
    ]
    return text


@pytest.mark.parametrize("text", blocks("toml"))
def test_toml(text):
    """To its end, over three seeds: a protocol, a model in quickstart, or changes of both."""
    given, level = tomllib.loads(text), None
    if "sweep" in given:
        quickstart = Path(bundled("protocols")["quickstart"]).read_text(encoding="utf-8")
        Path("swept.toml").write_text(f"{quickstart}\n{text}", encoding="utf-8")
        assert len(plan("swept.toml").points) == 6
        return
    if "duration" in given or "equations" in given:
        Path("cell.toml").write_text(text, encoding="utf-8")
        changes = {"target": "numpy"}
        changes |= {} if "duration" in given else {"model.use": "cell.toml"}
        done = ns.record("cell.toml" if "duration" in given else "current-clamp", changes)
        if "cells" in given:
            changed = done.curve["rule.weight"]
            assert changed == pytest.approx([-w for w in reversed(changed)], abs=1e-12)
            return
        assert done.cell["input_resistance"] == pytest.approx(100, rel=1e-3)
        return
    if "task" in given:
        Path("mine.toml").write_text(text, encoding="utf-8")
        protocol = ns.load_protocol("mine.toml")
    else:
        Path("model.toml").write_text(text if "name" in given else whole_model(), encoding="utf-8")
        changes = {"model.use": "model.toml", "name": "mine", "stages.0.epochs": 3}
        changes |= {"task.split_seed": 0}  # errors of splits differ by 2 %
        changes |= {"equilibrium.max_newton": 0}  # which compiles for long, and is not needed here
        if "stages" in given:
            (phase,) = given["stages"]["phases"]
            changes |= {f"stages.0.phases.0.{key}": value for key, value in phase.items()}
            post = f"slope(basal)*(soma - soma_{phase['name']})/attenuation"
            changes["model.projections.W.post"] = post
        elif "name" not in given:
            changes["model"] = given
        tied = given.get("projections", {}).get("Q", {}).get("rule") == "tied"
        changes |= {"stages.0.phases.0.plastic": []} if tied else {}
        base = "backprop-digits" if "credit" in given else "quickstart"
        protocol, level = ns.load_protocol(base, changes), "equilibrium"
    run = ns.run(protocol, seeds=range(3), level=level)
    assert run.spec.name == "mine"
    assert not run.diverged and set(run.settled.values()) == {1.0}
    assert max(run.metrics["test_error"]) < 0.08  # chance is 90 %


def commands():
    lines = [line for param in blocks("sh") for line in param.values[0].splitlines()]
    return [line for line in lines if line.startswith("neurosim ")]


SHORTER = {
    "stages.0.epochs": 2,
    "stages.0.phases.0.duration": "300 ms",
    "stages.0.phases.1.duration": "300 ms",
    "spiking.presentations": 2,
    "spiking.test": 20,
    "spiking.window": "100 ms",
    "spiking.dt": "1 ms",
    "spiking.target": "numpy",
}
"""Of the quickstart, which CI has run as it stands."""


@pytest.mark.long
def test_commands_of_the_tour():
    """In the order of the page: later ones read what earlier ones wrote."""
    assert len(commands()) >= 5
    shorter = [word for key, value in SHORTER.items() for word in ("--set", f"{key}={value}")]
    for line in commands():
        arguments = shlex.split(line, comments=True)[1:]
        if arguments[:2] == ["run", "quickstart"]:
            arguments += shorter
        result = CliRunner().invoke(app, arguments)
        differ = arguments[0] == "diff"  # the shortened run is not the protocol that ships
        assert result.exit_code == int(differ), f"{line}\n{result.output}"


def test_the_two_set_up_commands_are_what_ci_runs():
    lines = [line for param in blocks("sh") for line in param.values[0].splitlines()]
    assert sum(line.startswith("python3 -m venv") for line in lines) == 2
    assert "grep '^python3 -m venv' README.md" in (ROOT / ".ci/run").read_text()


def test_the_table_has_every_network_and_the_protocols_that_use_it():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*`) \|.*\| (.*?) ?\|$", text, re.MULTILINE)
    named = [[re.findall(r"`([^`]+)`", cell) for cell in row] for row in rows]
    models = [name for row in named for name in row[0]]
    assert sorted(models) == sorted(path.stem for path in (ROOT / "models").glob("*.toml"))
    used = {name: row[0] for row in named for name in row[1]}
    shipped = {
        path.stem: tomllib.loads(path.read_text(encoding="utf-8"))["model"]["use"]
        for path in (ROOT / "protocols").glob("*.toml")
    }
    assert used.keys() == shipped.keys()
    assert all(use in used[name] for name, use in shipped.items())


def test_the_gallery_has_every_picture():
    docs = ROOT / "docs"
    pictures = {path.relative_to(docs).as_posix() for path in docs.rglob("*.png")}
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", (docs / "gallery.md").read_text(encoding="utf-8"))
    assert sorted(shown) == sorted(pictures)


def test_the_reference_has_every_public_name():
    text = (ROOT / "docs/reference.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"^\.\. auto\w+:: neurosim\.(\w+)", text, re.MULTILINE))
    documented |= {
        name for line in re.findall(r":members: (.*)", text) for name in line.split(", ")
    }
    assert set(ns.__all__) - documented == set()
