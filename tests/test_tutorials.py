"""The tutorials, taken step by step as a newcomer takes them, and what comes of each."""

import shlex
from pathlib import Path

import numpy as np
import pytest
from test_readme import BLOCK, ROOT
from typer.testing import CliRunner

from neurosim.cli import app

PAGES = [
    pytest.param(page, id=page.stem, marks=[pytest.mark.seldom] if "spikes" in page.stem else [])
    for page in sorted((ROOT / "docs/tutorials").glob("*.md"))
]


def own_data(names):
    assert np.mean(names["run"].metrics["test_error"]) < 0.08  # 37 % are malignant


def own_rule(names):
    assert names["run"].metrics["test_error"] < 0.1  # chance is 90 %


def current_clamp(names):
    assert names["done"].cell["input_resistance"] == pytest.approx(100, rel=1e-3)


def own_neuron(names):
    assert names["tired"].cell["input_resistance"] == pytest.approx(100, rel=1e-2)
    grown = [a for a in names["tired"].sweeps["adaptation"] if a is not None and not np.isnan(a)]
    assert grown and min(grown) > 0.05  # intervals grow, which they do not without the current


def sweep(names):
    assert (names["found"]["test_error"] < 0.1).all()


def rates_and_spikes(names):
    assert {"quickstart-rate.h5", "quickstart-spiking.h5", "many.h5"} <= {
        path.name for path in Path("outputs").iterdir()
    }


@pytest.mark.long
@pytest.mark.parametrize("page", PAGES)
def test_tutorial(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "outputs").mkdir()
    names = {"__name__": "tutorial"}
    for language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        if language == "python":
            exec(compile(text, page.name, "exec"), names)
        elif language == "toml":
            Path(text.splitlines()[0].removeprefix("# ")).write_text(text, encoding="utf-8")
        else:
            for line in text.splitlines():
                done = CliRunner().invoke(app, shlex.split(line)[1:])
                assert done.exit_code == 0, f"{line}\n{done.output}"
    globals()[page.stem.replace("-", "_")](names)
