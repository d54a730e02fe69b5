"""Arguments and options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

ProtocolName = Annotated[
    str, typer.Argument(metavar="PROTOCOL", help="A file, or the bare name of a shipped protocol.")
]
Level = Annotated[
    str | None,
    typer.Option(metavar="NAME", help="equilibrium, rate or spiking; not the protocol's own."),
]
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, help="Not the protocol's own.")]
Seeds = Annotated[
    str | None, typer.Option(metavar="A:B", help="An ensemble: the seeds A to B-1, run as one.")
]
Out = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="The trace; outputs/PROTOCOL-LEVEL.h5 if not given."),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Change a key, e.g. model.parameters.mu=0.2; repeatable."
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite files that exist.")]
Device = Annotated[str | None, typer.Option(metavar="cpu|gpu", help="Where to compute.")]
Devices = Annotated[
    int | None,
    typer.Option(metavar="N", min=1, help="How many share the seeds, or the samples of batches."),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output.")]
Start = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="TRACE[@N]",
        help="Start from the weights of a run: the final ones, @initial, or of presentation N.",
    ),
]
