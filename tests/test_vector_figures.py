"""Every picture is a vector file as well, whose letters are text that an editor can change."""

import gzip
import re
from pathlib import Path

import pytest

import neurosim as ns
from neurosim import figures

RELEASED = Path(__file__).parent / "released" / "1"

PICTURES = {
    "overview": lambda at, out: figures.overview(at("rate"), out),
    "overview of spikes": lambda at, out: figures.overview(at("spiking"), out),
    "raster": lambda at, out: figures.raster(at("spiking"), out),
    "calibration": lambda at, out: figures.calibration(at("spiking"), out),
    "variables": lambda at, out: figures.variables(at("rate"), ["soma"], out=out),
    "recording": lambda at, out: figures.recording(at("cell"), out),
    "synapses": lambda at, out: figures.recording(at("synapse"), out),
    "comparison": lambda at, out: figures.comparison(at("equilibrium"), at("rate"), out),
    "circuit": lambda at, out: figures.circuit(ns.load_model("multiplexing"), out),
}


@pytest.fixture(scope="module")
def at(tmp_path_factory):
    """Where the trace of a name lies."""
    folder = tmp_path_factory.mktemp("released")
    for packed in RELEASED.glob("*.h5.gz"):
        (folder / packed.stem).write_bytes(gzip.decompress(packed.read_bytes()))
    return lambda name: folder / f"{name}.h5"


@pytest.mark.long
@pytest.mark.parametrize("name", PICTURES)
def test_letters_are_text_in_svg_and_no_outlines_in_pdf(name, at, tmp_path):
    drawn = PICTURES[name](at, tmp_path / "a.svg").read_text(encoding="utf-8")
    words = re.findall(r"<text[^>]*>([^<]+)</text>", drawn)
    assert any(re.search("[a-z]{3}", word) for word in words)
    page = PICTURES[name](at, tmp_path / "a.pdf").read_bytes()
    assert page.startswith(b"%PDF") and b"/Type3" not in page
    picture = PICTURES[name](at, tmp_path / "a.png").read_bytes()
    assert picture.startswith(b"\x89PNG")
