"""The command that sweeps: its options as the library takes them, and what it says."""

from pathlib import Path
from typing import Any

import typer

from neurosim.cli.console import Output
from neurosim.cli.pictures import columns, pictures
from neurosim.errors import IncompleteError, InputError
from neurosim.process.caller import tell

FAILED = 1
"""Exit code where a model failed at a point, and nothing is left to do."""


def over_axes(texts: list[str] | None) -> dict[str, list[Any]] | None:
    """Axes by key, as `--over` gives them; None where it is not given."""
    from neurosim.sweeps.axes import parse_axis

    found: dict[str, list[Any]] = {}
    for text in texts or []:
        key, values = parse_axis(text)
        if key in found:
            raise InputError(f"--over {key}: is given twice; give all its values at once")
        found[key] = values
    return found or None


def sweep(output: Output, made: Any, given: dict[str, Any], dry: bool) -> None:
    """Say what a sweep will cost and, unless that is all that is wanted, sweep.

    made: its plan. given: what the library takes beside it.
    """
    from neurosim.process import progression
    from neurosim.reports import sweeps as reports
    from neurosim.sweeps import forecast, launch

    report = forecast.forecast(made, **given, measured=dry)
    words = reports.forecast_in_words(report, columns())
    if dry:
        output.result(report, words)
        return
    if not (output.quiet or output.as_json):
        tell(words)
    incomplete = None
    with progression.display(report["protocol"], output.quiet) as progress:
        try:
            found = launch.carry_out(made, **given, progress=progress)
        except IncompleteError as error:
            found, incomplete = error.results, error
    folder = Path(report["folder"])
    drawn = pictures(("sweep", found, folder / "sweep.png"))
    files = [*drawn, *(str(folder / name) for name in ("sweep.csv", "sweep.nc"))]
    ended = reports.summary(found) | {"files": files}
    if incomplete is not None and output.as_json:
        incomplete.report = ended
        raise incomplete
    output.result(ended, reports.in_words(found, ended, files, columns()))
    if incomplete is not None:
        raise incomplete
    if ended["states"].get("failed"):
        raise typer.Exit(FAILED)
