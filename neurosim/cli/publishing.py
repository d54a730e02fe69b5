"""Commands that write what others read."""

from pathlib import Path
from typing import Annotated

import typer

from neurosim.cli.console import Output
from neurosim.cli.options import Force, Json, Quiet


def report(
    files: Annotated[list[Path], typer.Argument(metavar="FILE…", help="Traces, side by side.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="The page.")] = Path(
        "report.html"
    ),
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write one page of HTML on traces: results, figures, model, how to repeat them."""
    with Output(as_json, quiet) as output:
        from neurosim.cli.pictures import drawing
        from neurosim.reports import pages

        with drawing():
            page = pages.report(*files, out=out, force=force)
        output.result({"page": str(page)}, f"page: {page}")


def cite(
    name: Annotated[str, typer.Argument(metavar="NAME", help="As neurosim list has it.")],
    bibtex: Annotated[bool, typer.Option("--bibtex", help="As entries of BibTeX.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say which works a model, protocol, rule or task is from, as a list of references."""
    with Output(as_json, quiet) as output:
        from neurosim.reports import references

        found = references.cite(name)
        words = "\n".join(entry["bibtex" if bibtex else "text"] for entry in found)
        output.result({"references": found}, words)
