"""The page on traces: complete, safe, one file; in a browser it fits, is readable and quiet."""

import hashlib
import html
import json
import re
import shutil
import subprocess
import tomllib
from xml.etree import ElementTree

import h5py
import numpy as np
import pytest
from command_line import call
from tiny_runs import TINY

import neurosim as ns
from neurosim import wording
from neurosim.reports.pages import LARGE

pytestmark = pytest.mark.long

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WIDTHS = (400, 1400)

MEASURE = """
<!DOCTYPE html><html><head><meta name="color-scheme" content="light dark"></head><body>
%s
<script>
onload = () => { document.body.textContent = JSON.stringify([...document.querySelectorAll("iframe")]
  .map(frame => {
    const page = frame.contentDocument, root = page.documentElement;
    const letters = [...page.querySelectorAll("svg")].flatMap(svg => {
      const scale = svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;
      const size = t => parseFloat(frame.contentWindow.getComputedStyle(t).fontSize);
      return [...svg.querySelectorAll("text")].map(text => {
        const parts = [...text.querySelectorAll("tspan")];  // exponents are smaller
        return scale * Math.max(...(parts.length ? parts : [text]).map(size)); }); });
    const style = frame.contentWindow.getComputedStyle(page.body);
    return {width: root.clientWidth, scroll: root.scrollWidth, smallest: Math.min(...letters),
      ink: style.color, paper: style.backgroundColor, size: parseFloat(style.fontSize)};
  })) };
</script></body></html>
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """An ensemble of runs, a recording of a cell, and one of cells joined by synapses."""
    folder = tmp_path_factory.mktemp("report")
    (folder / "tiny.toml").write_text(TINY)
    short = {"stimuli.0.amplitude": ["-100 pA", "0 pA", "500 pA"]}
    level = {"level": "equilibrium", "seeds": range(3)}
    return {
        "run": ns.run(folder / "tiny.toml", **level, out=folder / "run.h5").path,
        "cell": ns.record("current-clamp", short, out=folder / "cell.h5").path,
        "synapses": ns.record("events-and-bursts", out=folder / "synapses.h5").path,
    }


@pytest.fixture(scope="module")
def pages(files, tmp_path_factory):
    """The page on each, and on all."""
    folder = tmp_path_factory.mktemp("pages")
    asked = {name: [files[name]] for name in ("run", "cell")} | {"all": files.values()}
    return {name: ns.report(*of, out=folder / f"{name}.html") for name, of in asked.items()}


@pytest.fixture
def changed(files, tmp_path):
    """A copy of the run, of which something else is said."""

    def copied(change):
        path = tmp_path / "changed.h5"
        path.write_bytes(files["run"].read_bytes())
        with h5py.File(path, "r+") as file:
            change(file)
        return path

    return copied


def visible(page):
    """The words of a page, without its pictures."""
    text = re.sub(r"<(svg|style).*?</\1>", " ", page.read_text(), flags=re.DOTALL)
    return " ".join(re.sub(r"<[^>]*>", " ", text).split())


# --------------------------------------------------------------------------- what it says


def test_a_run_has_every_section(files, pages):
    text, report = visible(pages["run"]), ns.inspect(files["run"])
    for heading in ("Results", "Warnings", "Figures", "Convergence of each phase", "Model",
                    "Protocol", "Provenance", "How to repeat it"):  # fmt: skip
        assert heading in text
    (_, loss), *_ = wording.metrics(report["metrics"])
    assert f"test loss {loss}" in text and "mean of 3 seeds" in loss
    assert "presentations 10 of 10" in text
    assert "neurosim run repeated.toml --seeds 0:3" in text
    assert "mixture-two-phase (Meulemans 2019, eqs. 6.27-6.37)" in text
    free = report["phases"][0]
    settled = [wording.percent(free[key]) for key in ("settled_mean", "settled_worst")]
    assert f"free 400 ms no Q {settled[0]} {settled[1]} {free['residual_worst']:.2g}" in text
    assert "dsoma/dt = ((1 - mu)*basal_rate + mu*apical_rate - soma)/tau_soma" in text
    assert "populations pyramidal layer 1: 4 units" in text
    assert report["created"].replace("T", " ").replace("+00:00", " UTC") in text
    assert hashlib.sha256(files["run"].read_bytes()).hexdigest() in text


def test_pictures_are_inline_and_their_letters_are_text(pages):
    text = pages["run"].read_text()
    pictures = [
        ElementTree.fromstring(svg) for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    ]
    labels = [svg.get("aria-label").partition(".")[0] for svg in pictures]
    assert labels == ["The run at a glance", "Convergence", "Circuit of mixture-two-phase"]
    for svg in pictures:
        letters = " ".join(svg.itertext())
        assert len(letters.split()) > 10
    assert "Loss" in "".join("".join(pictures[0].itertext()).split())
    assert "all to all, learns" in " ".join(pictures[2].itertext())


def test_identifiers_are_unique_and_lead_somewhere(pages):
    text = pages["all"].read_text()
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids)) > 20
    used = re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', text)
    assert used and {a or b for a, b in used} <= set(ids)


@pytest.mark.parametrize("name", ["run", "cell", "all"])
def test_a_page_is_small_and_needs_nothing(pages, name):
    text = pages[name].read_text()
    assert len(text.encode()) < LARGE
    assert "<script" not in text
    assert not re.search(r"\b(src|href)=\"(?!#|data:)", text)
    assert not re.search(r"@import|url\((?!#)", text)
    assert set(re.findall(r"https?://[^\s\"<]+", text)) <= {
        "http://www.w3.org/2000/svg",
        "http://www.w3.org/1999/xlink",
    }


def test_a_recording_says_what_was_measured(pages):
    text = visible(pages["cell"])
    assert "input resistance 100 MΩ" in text
    assert "cell lif (Lapicque 1907; Burkitt 2006)" in text
    assert "dv/dt = (g_leak*(e_leak - v) + current)/capacitance" in text
    assert "Convergence" not in text
    assert "Synapse" in visible(pages["all"])


def test_several_files_stand_side_by_side(files, pages):
    text = pages["all"].read_text()
    heads = re.search(r"<thead><tr><td></td>(.*?)</tr>", text)[1]
    assert re.findall(r">([^<]+)</th>", heads) == list(files)
    assert "3 traces side by side" in text
    assert "What differs between the protocols" in text


def test_what_differs_is_said_of_every_file(files, changed, tmp_path):
    other = changed(lambda file: rewritten(file, lambda said: said.update(batch=8)))
    page = ns.report(files["run"], other, out=tmp_path / "two.html")
    part = visible(page).partition("What differs between the protocols")[2]
    assert part.startswith(" run changed batch 16 8 Warnings ")


def rewritten(file, change):
    said = json.loads(file["provenance/protocol_json"][()])
    change(said)
    file["provenance/protocol_json"][()] = json.dumps(said)


def test_doubts_are_told(changed, tmp_path):
    def state(file):
        file.attrs["status"] = "interrupted"
        file.attrs["resumed"] = json.dumps(
            [{"presentation": 4, "at": "2026-01-02T03:04:05+00:00", "differing": ["jax: was 1"]}]
        )
        summary = json.loads(file.attrs["summary"])
        summary["diverged"] = [{"seed": 1, "presentation": 6, "message": "seed 1 left"}]
        file.attrs["summary"] = json.dumps(summary)
        settled = file["metrics/settled"][()]
        settled[3, 0, 1] = 0.25
        file["metrics/settled"][...] = settled

    page = ns.report(changed(state), out=tmp_path / "doubts.html")
    text = visible(page).rpartition(" Warnings ")[2].partition(" Figures ")[0]
    assert "interrupted; holds all up to there; 10 of 10 presentations" in text
    assert "diverged: seed 1 left" in text
    assert "in the worst presentation, phase learning settled for 25.0 % of the samples" in text
    assert "went on with something else: jax: was 1" in text


def test_what_is_no_longer_read_and_seeds_with_gaps(changed, tmp_path):
    def older(file):
        rewritten(file, lambda said: said["model"].update(new=1))
        file.attrs["seeds"] = "1,5,7"

    text = html.unescape(visible(ns.report(changed(older), out=tmp_path / "older.html")))
    assert 'neurosim.run("repeated.toml", seeds=[1, 5, 7])' in text
    assert "none that this version reads, so no circuit is drawn: model.new: unknown key" in text
    assert "Circuit of" not in text
    assert "dsoma/dt = " in text


def test_what_a_file_says_cannot_become_part_of_the_page(changed, tmp_path):
    bad = "</td><script>alert('x')</script>&amp;"

    def says(file):
        rewritten(file, lambda said: said.update(description=bad))
        rewritten(file, lambda said: said["model"].update(source=bad))
        file.attrs["protocol"] = file.attrs["commit"] = bad

    text = ns.report(changed(says), out=tmp_path / "bad.html").read_text()
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(") >= 3
    assert "&amp;amp;" in text


def test_the_protocol_on_the_page_runs(files, tmp_path):
    """What stands there is complete: as a file it is loaded without a complaint."""
    page = ns.report(files["cell"], out=tmp_path / "cell.html").read_text()
    text = html.unescape(re.search(r"lines</summary>\s*<pre[^>]*>(.*?)</pre>", page, re.DOTALL)[1])
    tomllib.loads(text)
    (tmp_path / "repeated.toml").write_text(text)
    again = ns.record(tmp_path / "repeated.toml", out=tmp_path / "again.h5")
    with h5py.File(files["cell"]) as a, h5py.File(again.path) as b:
        np.testing.assert_array_equal(a["recording/v"], b["recording/v"])
    commands = re.findall(r"<pre tabindex=\"0\">(neurosim .*?)</pre>", page)
    assert [html.unescape(command) for command in commands] == [
        "neurosim run current-clamp --set "
        "'stimuli.0.amplitude=['\"'\"'-100 pA'\"'\"', '\"'\"'0 pA'\"'\"', '\"'\"'500 pA'\"'\"']'",
        "neurosim inspect cell.h5 --protocol > repeated.toml",
        "neurosim run repeated.toml",
    ]


# --------------------------------------------------------------------------- the command


def test_the_command_writes_a_page(files, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = call("report", files["cell"])
    assert (done.exit_code, done.stdout) == (0, "page: report.html\n")
    assert (
        json.loads(call("report", files["cell"], "--json", "-o", "x.html").stdout)["page"]
        == "x.html"
    )
    assert call("report", files["cell"], "--force", "--quiet").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["no.h5"], "no.h5: no such file"),
        (["{run}", "-o", "x.pdf"], "--out x.pdf: is a page; expected a name that ends in .html"),
        (["{run}"], "--out report.html: exists; give --force to overwrite it"),
    ],
)
def test_mistakes_are_said_in_words(files, tmp_path, monkeypatch, arguments, said):
    monkeypatch.chdir(tmp_path)
    if said.startswith("--out report"):
        (tmp_path / "report.html").write_text("mine")
    done = call("report", *(a.format(**files) for a in arguments))
    assert (done.exit_code, done.stdout) == (2, "")
    assert done.stderr == f"error: {said}\n"
    assert not (tmp_path / "x.pdf").exists()


def test_no_file_is_no_page(tmp_path):
    with pytest.raises(ns.InputError, match="no trace: expected one file or several"):
        ns.report(out=tmp_path / "x.html")


# --------------------------------------------------------------------------- in a browser


def contrast(one, other):
    """Of two colors as browsers say them, by the Web Content Accessibility Guidelines 2.1."""

    def luminance(color):
        parts = [int(v) / 255 for v in re.findall(r"\d+", color)[:3]]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return sum(w * v for w, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    dark, light = sorted(map(luminance, (one, other)))
    return (light + 0.05) / (dark + 0.05)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed here")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_browser_shows_it_at_phone_and_screen_width(pages, tmp_path, scheme):
    frames = "".join(
        f'<iframe srcdoc="{html.escape(pages[name].read_text())}" '
        f'style="width:{width}px;height:900px;border:0"></iframe>'
        for name in ("run", "all")
        for width in WIDTHS
    )
    (tmp_path / "frames.html").write_text(MEASURE % frames)
    prefers = {"light": 1, "dark": 0}[scheme]
    command = [CHROMIUM, "--headless", "--hide-scrollbars", "--no-sandbox", "--disable-gpu",
               "--enable-logging=stderr",
               f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1500,1000",
               f"--blink-settings=preferredColorScheme={prefers}", "--virtual-time-budget=5000",
               "--dump-dom", (tmp_path / "frames.html").as_uri()]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    assert "CONSOLE" not in done.stderr
    found = json.loads(re.search(r"<body>(\[.*\])</body>", done.stdout, re.DOTALL)[1])
    assert [frame["width"] for frame in found] == [*WIDTHS, *WIDTHS]
    for frame in found:
        assert frame["scroll"] <= frame["width"]
        assert frame["size"] >= 16
        assert frame["smallest"] >= (8 if frame["width"] == 400 else 6)
        assert contrast(frame["ink"], frame["paper"]) > 7
        dark = contrast(frame["paper"], "rgb(0, 0, 0)") < 3
        assert dark == (scheme == "dark")
