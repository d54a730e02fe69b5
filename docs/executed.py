"""Tutorials as notebooks: their blocks run where the site is built, which shows what comes of them.

The pages stay plain Markdown. In the order of a page its `python` runs as it stands, `toml` is the
file that its first line names, and of `sh` every line is a command of neurosim, under which stands
what it prints and draws. A comment `<!-- assert … -->` must hold where it stands, and is not shown.
"""

import re
import shlex
from pathlib import Path

HEAD = "---\nfile_format: mystnb\nkernelspec:\n  name: python3\n---\n"
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$|^<!-- (assert .*?) -->$", re.DOTALL | re.MULTILINE)


def notebook(page: str) -> str:
    """A page as a notebook of MyST-NB."""
    return HEAD + BLOCK.sub(lambda found: _cell(found[0], *found.groups()), page)


def _cell(shown: str, language: str | None, text: str | None, claim: str | None) -> str:
    if claim is not None:
        return _code(f"{claim}\n", "remove-cell")
    if language == "python":
        return _code(text or "")
    call = {"sh": "commands", "toml": "file"}[language or ""]
    hidden = f"from executed import {call}\n{call}({text!r})\n"
    return f"{shown}\n\n{_code(hidden, 'remove-input')}"


def _code(text: str, *tags: str) -> str:
    return f"```{{code-cell}} ipython3\n:tags: [{', '.join(tags)}]\n{text}```"


def file(text: str) -> None:
    """Write a file, whose name is the comment it begins with."""
    Path(text.splitlines()[0].removeprefix("# ")).write_text(text, encoding="utf-8")


def commands(text: str) -> None:
    """Run commands, print what they say and show what they drew."""
    from typer.testing import CliRunner

    from neurosim.cli import app

    lines = text.splitlines()
    for line in lines:
        program, *arguments = shlex.split(line)
        assert program == "neurosim", line
        done = CliRunner().invoke(app, arguments)
        print(*([f"$ {line}"] if len(lines) > 1 else []), done.output, sep="\n")
        if done.exit_code:
            raise RuntimeError(f"{line}: exit code {done.exit_code}") from done.exception
        for figure in re.findall(r"^ *figure:? +(\S+\.png)$", done.output, re.MULTILINE):
            from IPython.display import Image, display  # of the extra `docs`

            display(Image(figure))
