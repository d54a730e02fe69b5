"""What notebooks show of protocols, recordings, comparisons and analyses; `repr` is one line."""

import pytest
from made_traces import made

import neurosim as ns
from neurosim import comparison

pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shown")
    a, b = (made(folder / f"{name}.h5") for name in "ab")
    return {
        "protocol": ns.load_protocol("quickstart", {"model.name": "a<b"}),
        "recording": ns.record("input-resistance", {"model.use": "lif"}, out=folder / "cell.h5"),
        "synapses": ns.record("events-and-bursts", out=folder / "synapses.h5"),
        "comparison": comparison.hold(a, b),
        "analysis": ns.analyze("student-teacher", samples=1, starts=0),
    }


@pytest.mark.parametrize("name", ["protocol", "recording", "synapses", "comparison", "analysis"])
def test_html_and_a_line(shown, name):
    line, page = repr(shown[name]), shown[name]._repr_html_()
    assert line.startswith("<") and len(line) < 400 and "\n" not in line
    assert page.startswith(("<table>", "<pre>"))


def test_a_protocol_is_shown_with_its_changes_escaped(shown):
    page = shown["protocol"]._repr_html_()
    assert "<th>model</th><td>a&lt;b</td>" in page
    assert "dsoma/dt" in page
    assert "a<b" not in page


def test_a_recording_shows_what_was_measured(shown):
    page = shown["recording"]._repr_html_()
    assert "<th>input resistance</th><td>100 MΩ</td>" in page
    assert "cell.h5" in page
