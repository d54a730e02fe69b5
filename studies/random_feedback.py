"""Learning channels, and learning as an ODE, after Baldi, Sadowski & Lu 2018.

    python studies/random_feedback.py channels FOLDER   # table 1 on images in the format of MNIST
    python studies/random_feedback.py channels          # the same on scikit-learn's digits
    python studies/random_feedback.py channel-figure    # of both
    python studies/random_feedback.py ode               # weights that flow, and their closed forms

All write to `outputs/random-feedback/`. `channels` keeps the runs that are there.
"""

from pathlib import Path
from typing import Annotated

import typer
from learning_channels import PUBLISHED, drawn, in_words, measured
from learning_flows import SHOWN, architectures, courses, powers, vector_fields

OUT = Path("outputs/random-feedback")

app = typer.Typer(add_completion=False)


@app.command()
def channels(
    folder: Annotated[Path | None, typer.Argument()] = None,
    epochs: int | None = None,
    seeds: int = 5,
    only: str = "",
) -> None:
    """Test accuracies of every channel of table 1, on images beside the published ones."""
    name = "digits" if folder is None else "images"
    found = measured(OUT / name, folder, epochs or (100 if folder is None else 40), seeds, only)
    (OUT / f"{name}.md").write_text(in_words(found, PUBLISHED if folder else None))


@app.command()
def channel_figure(out: Path = Path("docs/learning-channels.png")) -> None:
    """What is reached through every channel, on images and on digits."""
    drawn(OUT, out)


@app.command()
def ode(
    seeds: Annotated[int, typer.Option(min=SHOWN + 1, help="Starts of every network.")] = 8,
) -> None:
    """Architectures, vector fields, weights on their way, a power without its slope."""
    OUT.mkdir(parents=True, exist_ok=True)
    architectures(OUT)
    vector_fields(OUT)
    courses(OUT, seeds)
    powers(OUT)


if __name__ == "__main__":
    app()
