"""Tutorials become notebooks, which run where the site of the docs is built."""

import re
import runpy

import pytest
from test_readme import BLOCK, ROOT

EXECUTED = runpy.run_path(str(ROOT / "docs/executed.py"))
PAGES = sorted((ROOT / "docs/tutorials").glob("*.md"))
LINES = re.DOTALL | re.MULTILINE
CELL = re.compile(r"^```\{code-cell\} ipython3\n:tags: \[([^\n]*)\]\n(.*?)^```$", LINES)
PARTS = re.compile(r"^```python\n.*?^```$|^<!-- assert [^\n]*$", LINES)


@pytest.mark.parametrize("page", PAGES, ids=[page.stem for page in PAGES])
def test_every_block_of_a_tutorial_runs_and_nothing_else_changes(page):
    text = page.read_text(encoding="utf-8")
    blocks, claims = BLOCK.findall(text), re.findall(r"^<!-- (assert .*) -->$", text, re.MULTILINE)
    made = EXECUTED["notebook"](text)
    cells = CELL.findall(made)
    assert len(cells) == len(blocks) + len(claims) == made.count("{code-cell}")
    for _, code in cells:
        compile(code, page.name, "exec")
    run = [code.strip() for tags, code in cells if tags == ""]
    assert run == [code.strip() for language, code in blocks if language == "python"]
    hidden = [code.strip() for tags, code in cells if tags == "remove-cell"]
    assert hidden == claims and (claims or "python" not in dict(blocks))
    prose = CELL.sub("", made.removeprefix(EXECUTED["HEAD"]))
    assert prose.split() == PARTS.sub("", text).split()


def test_commands_show_what_they_say(capsys):
    EXECUTED["commands"]("neurosim list neurons\nneurosim cite adex\n")
    said = capsys.readouterr().out
    assert said.startswith("$ neurosim list neurons\nneurons")
    assert "$ neurosim cite adex\nBrette, R." in said


def test_a_command_that_fails_ends_the_build(capsys):
    with pytest.raises(RuntimeError, match=r"^neurosim cite adx: exit code 2$"):
        EXECUTED["commands"]("neurosim cite adx\n")
    assert "did you mean 'adex'" in capsys.readouterr().out


def test_files_have_the_name_that_they_begin_with(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    EXECUTED["file"]("# mine.toml\nname = 'mine'\n")
    assert (tmp_path / "mine.toml").read_text() == "# mine.toml\nname = 'mine'\n"
