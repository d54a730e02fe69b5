"""Commands that hand what neurosim has to other programs, or hold it against each other."""

from pathlib import Path
from typing import Annotated

import typer

from neurosim.cli.console import Output
from neurosim.cli.options import Force, Json, Quiet

DIFFERENT = 1
"""Exit code of `diff` where the two are not the same, as that of the program of this name."""


def diff(
    a: Annotated[str, typer.Argument(metavar="A", help="A trace or a protocol.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Another.")],
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say whether two traces or protocols are the same, and where they part; 1 if they do."""
    with Output(as_json, quiet) as output:
        from neurosim.comparison import differences

        report = differences.diff(a, b)
        output.result(report, differences.in_words(report))
    if False in report["same"].values():
        raise typer.Exit(DIFFERENT)


def export(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A trace.")],
    to: Annotated[str, typer.Option(metavar="FORMAT", help="csv, parquet, nwb or neo.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to; beside the trace if not given."),
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write what a trace holds for other programs: tables, NWB or Neo."""
    with Output(as_json, quiet) as output:
        from neurosim import exports

        path = exports.export(file, to, out, force)
        files = sorted(map(str, path.iterdir())) if path.is_dir() else [str(path)]
        words = f"{path}: {len(files)} files" if path.is_dir() else str(path)
        report = {"trace": str(file), "to": to, "path": str(path), "files": files}
        output.result(report, words)
