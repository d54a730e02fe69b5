"""Segregated dendrites: what plateaus teach, as networks at rest, as rates and as spikes.

    python studies/segregated_dendrites.py digits           # --choose tries the rates again
    python studies/segregated_dendrites.py levels           # the same as rates and as spikes
    python studies/segregated_dendrites.py agreement        # how far spikes are from rates
    python studies/segregated_dendrites.py mnist FOLDER
    python studies/segregated_dendrites.py figure

Every seed has a split of the data of its own. Rates are chosen on a fifth of the training samples,
and tested over other seeds. Writes traces and results to `outputs/segregated-dendrites/`; `figure`
draws them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import typer
from matplotlib.figure import Figure

import neurosim as ns
from neurosim.figures import save

OUT = Path("outputs/segregated-dendrites")
PROTOCOL, BACKPROP = "segregated-dendrites-digits", "backprop-digits"
SPARSE = {"model.projections.Y.init": "5*uniform()*int(rand() < 0.2)"}
TWO = {"model.layers": [64, 64, 64, 10]}
AS_BACKPROP = {
    "batch": 10,
    "task.standardise": False,
    "model.activation": "sigmoid",
    "model.output_activation": "sigmoid",
    "model.output": "linear",
    "model.loss": "half-squared",
    "model.projections.W.init": "xavier",
    "model.projections.W.bias": True,
}

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "dense": (PROTOCOL, {}),
    "sparse": (PROTOCOL, SPARSE),
    "coupled": (PROTOCOL, {"model.parameters.g_a": "50 Hz"}),
    "learned": (PROTOCOL, {"stages.0.phases.1.plastic": ["W", "Y"]}),
    "dense, frozen": (PROTOCOL, {}),
    "backprop": (BACKPROP, AS_BACKPROP),
    "two": (PROTOCOL, TWO),
    "two, frozen": (PROTOCOL, TWO),
    "two, backprop": (BACKPROP, AS_BACKPROP | TWO),
}
RATES = ((1.0, 1.0), (2.0, 1.0), (4.0, 1.0), (8.0, 1.0), (2.0, 2.0), (4.0, 2.0), (8.0, 2.0))
FROZEN = ((0.0, 0.5), (0.0, 1.0), (0.0, 2.0), (0.0, 4.0))
DESCENT = ((1.0, 1.0), (2.0, 2.0), (4.0, 4.0), (8.0, 8.0))
"""Of hidden layers and of the output."""

app = typer.Typer(add_completion=False)


def rates(variant: str) -> tuple[tuple[float, float], ...]:
    if variant.endswith("frozen"):
        return FROZEN
    return DESCENT if variant.endswith("backprop") else RATES


def trained(
    name: str, variant: str, rate: tuple[float, float], seeds: range, more: dict[str, Any]
) -> dict[str, Any]:
    """Errors over seeds and the mean loss over presentations; a trace that is there is kept."""
    protocol, changes = VARIANTS[variant]
    hidden, output = rate
    given = {"record.presentations": 0} | changes | more
    given["model.projections.W.rate"] = f"{output} + ({hidden} - {output})*int(i < L)"
    path = OUT / f"{name}.h5"
    if not path.exists():
        ns.run(ns.load_protocol(protocol, given), seeds=seeds, out=path, force=True)
    with ns.open_trace(path) as trace:
        evaluation = trace["evaluation"]
        errors, loss = evaluation["error"].values, evaluation["loss"].values
        shown = evaluation["presentation"].values
    return {
        "errors": errors[-1].tolist(),
        "diverged": int(np.sum(~np.isfinite(errors[-1]))),
        "presentations": shown.tolist(),
        "loss": loss.tolist(),
        "rate": rate,
    }


def told(name: str, found: dict[str, Any]) -> None:
    errors = 100 * np.array(found["errors"])
    print(
        f"{name:24} rates {found['rate']}: {np.nanmean(errors):.2f} % "
        f"({np.nanmin(errors):.2f} to {np.nanmax(errors):.2f}), {found['diverged']} diverged",
        flush=True,
    )


def write(name: str, found: Any) -> None:
    (OUT / f"{name}.json").write_text(json.dumps(found, indent=1), encoding="utf-8")


def read(name: str) -> Any:
    return json.loads((OUT / f"{name}.json").read_text(encoding="utf-8"))


CHOSEN = {
    "dense": (4.0, 2.0),
    "sparse": (8.0, 2.0),
    "coupled": (8.0, 2.0),
    "learned": (8.0, 2.0),
    "dense, frozen": (0.0, 4.0),
    "backprop": (4.0, 4.0),
    "two": (8.0, 2.0),
    "two, frozen": (0.0, 2.0),
    "two, backprop": (4.0, 4.0),
}
"""What `--choose` found: the least error, a diverged run counting as 1; the first where equal."""


@app.command()
def digits(seeds: int = 5, choose: bool = False) -> None:
    """Test errors of all variants at the equilibrium level, over seeds that chose no rate."""
    OUT.mkdir(parents=True, exist_ok=True)
    found = {}
    for variant in VARIANTS:
        key = variant.replace(", ", "-")
        best = CHOSEN[variant]
        if choose:
            means = {}
            for rate in rates(variant):
                name = f"validation-{key}-{rate[0]:g}-{rate[1]:g}"
                given = {"task.validation": 0.2}
                result = trained(name, variant, rate, range(seeds), given)
                told(f"held out: {variant}", result)
                means[rate] = round(float(np.mean(np.nan_to_num(result["errors"], nan=1.0))), 9)
            best = min(means, key=lambda rate: means[rate])
        found[variant] = trained(key, variant, best, range(seeds, 2 * seeds), {})
        told(variant, found[variant])
    write("digits", found)


COUNTED = {
    "level": "spiking",
    "stages.0.epochs": 3,
    "spiking": {"dt": "0.5 ms", "window": "20 ms", "target": "standalone"},
}
LEVELS: dict[str, tuple[tuple[float, float], dict[str, Any]]] = {
    "equilibrium": ((4.0, 2.0), {"stages.0.epochs": 3}),
    "rate": ((4.0, 2.0), {"stages.0.epochs": 3, "level": "rate"}),
    "spiking": ((4.0, 2.0), COUNTED),
    "spiking, frozen": ((0.0, 2.0), COUNTED),
    "equilibrium, frozen": ((0.0, 2.0), {"stages.0.epochs": 3}),
}


@app.command()
def levels(seeds: int = 5) -> None:
    """Three epochs at the three levels, with the same rates and a control; nothing is chosen."""
    OUT.mkdir(parents=True, exist_ok=True)
    found = {}
    for level, (rate, more) in LEVELS.items():
        name = f"level-{level.replace(', ', '-')}"
        found[level] = trained(name, "dense", rate, range(seeds), more)
        told(level, found[level])
    write("levels", found)


SETTLE = 100
"""Of a phase, before its window begins (ms)."""


@app.command()
def agreement(seeds: int = 5) -> None:
    """Untaught 64-8-8-10 networks of Poisson neurons, their counts against rates at rest."""
    OUT.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    for neurons, window in ((5, 200), (20, 200), (80, 200), (20, 800)):
        length = f"{SETTLE + window} ms"
        given = {
            "batch": 20,
            "model.layers": [64, 8, 8, 10],
            "model.spiking.neurons": neurons,
            "stages.0.epochs": None,
            "stages.0.presentations": 1,
            "stages.0.phases": [{"name": "forward", "duration": length, "until": "duration"}],
            "record": {"presentations": [0], "samples": 20, "every": "100 ms"},
            "spiking": COUNTED["spiking"] | {"window": f"{window} ms", "test": 1},
        }
        protocol = ns.load_protocol(PROTOCOL, given)
        ends = {}
        for level in ("equilibrium", "spiking"):
            path = OUT / f"agreement-{level}.h5"
            ns.run(protocol, level=level, seeds=range(seeds), out=path, force=True)
            ends[level] = ns.open_trace(path)
        squares: dict[str, list[np.ndarray]] = {"rate": [], "apical": []}
        for place, names in (("layer1", squares), ("layer2", squares), ("layer3", ("rate",))):
            for name in names:
                order = ("seed", "sample", "unit")
                at = {"presentation": 0, "phase": 0}
                counted = ends["spiking"][f"estimates/{place}/{name}"].isel(at).transpose(*order)
                still = ends["equilibrium"][f"traces/{place}/{name}"].isel(at).transpose(*order)
                squares[name].append(((counted.values - still.values) ** 2).mean(axis=(1, 2)))
        rmse = {name: np.sqrt(np.mean(of, axis=0)).tolist() for name, of in squares.items()}
        found[f"{neurons}, {window}"] = rmse
        said = ", ".join(f"{n} {np.sqrt(np.mean(np.square(of))):.4f}" for n, of in rmse.items())
        print(f"N = {neurons}, T = {window} ms: {said}", flush=True)
        for trace in ends.values():
            trace.close()
    write("agreement", found)


@app.command()
def mnist(folder: Path, seeds: int = 5, epochs: int = 5) -> None:
    """Images of a folder, with 500 hidden units as in the source, taught and not."""
    OUT.mkdir(parents=True, exist_ok=True)
    found: dict[str, Any] = {}
    kinds: dict[str, dict[str, Any]] = {
        "taught": {},
        "frozen": {"model.projections.W.rate": [0.0, 0.1]},
    }
    for kind, changes in kinds.items():
        given = {"task.path": str(folder.absolute()), "record.presentations": 0}
        given |= {"stages.0.epochs": epochs} | changes
        path = OUT / f"mnist-{kind}.h5"
        if not path.exists():
            spec = ns.load_protocol("segregated-dendrites-mnist", given)
            ns.run(spec, seeds=range(seeds), out=path, force=True)
        with ns.open_trace(path) as trace:
            errors = trace["evaluation/error"].values[-1]
        found[kind] = errors.tolist()
        print(f"{kind}: {100 * np.mean(errors):.2f} % {np.round(100 * errors, 2)}", flush=True)
    write("mnist", found)


COLORS = {"dense": "#0072B2", "dense, frozen": "#999999", "two": "#D55E00", "backprop": "#009E73"}
NAMES = {
    "dense": "one hidden layer",
    "dense, frozen": "one, not taught",
    "two": "two hidden layers",
    "backprop": "one, by backprop",
}
STYLES = {
    "equilibrium": ("#999999", "at rest"),
    "rate": ("#0072B2", "rates"),
    "spiking": ("#D55E00", "spikes"),
}


@app.command()
def figure(out: Path = Path("docs/segregated-dendrites.png")) -> None:
    """Losses of the variants and of the levels, and how far spikes are from rates."""
    drawing = Figure(figsize=(9.6, 3.4), layout="constrained", dpi=150)
    variants, by_level, apart = drawing.subplots(1, 3)
    parts = ((variants, read("digits"), {k: (COLORS[k], NAMES[k]) for k in COLORS}),)
    for axes, found, styles in (*parts, (by_level, read("levels"), STYLES)):
        for key, (color, label) in styles.items():
            of = found[key]
            loss, shown = np.array(of["loss"]), np.array(of["presentations"]) / 143
            axes.plot(shown, loss.mean(1), color=color, label=label)
            axes.fill_between(shown, loss.min(1), loss.max(1), color=color, alpha=0.15, lw=0)
        axes.set(xlabel="epochs", ylabel="½|u − y|² a sample", yscale="log")
        axes.legend(frameon=False, fontsize=7)
    variants.set_title("test loss, at rest", loc="left", fontsize=9)
    by_level.set_title("test loss, three levels", loc="left", fontsize=9)
    for name, color, label in (
        ("rate", "#0072B2", "rates"),
        ("apical", "#D55E00", "apical potentials"),
    ):
        for key, of in read("agreement").items():
            neurons, window = map(float, key.split(", "))
            values = np.array(of[name])
            at = neurons * window * 1e-3
            apart.plot(at, np.sqrt(np.mean(values**2)), "o", color=color, label=label)
            apart.plot([at, at], [values.min(), values.max()], color=color, lw=1)
            label = ""
    span = np.array([0.8, 20])
    first = read("agreement")["20, 200"]["rate"]
    root = np.sqrt(np.mean(np.square(first)))
    apart.plot(span, root * np.sqrt(4 / span), color="#999999", lw=1, label="1/√(N T)")
    apart.set(xscale="log", yscale="log", xlabel="neurons a unit × window, N T (s)", ylabel="rmse")
    apart.set_title("spikes less rates, rmse", loc="left", fontsize=9)
    apart.legend(frameon=False, fontsize=7)
    for axes in (variants, by_level, apart):
        axes.spines[["top", "right"]].set_visible(False)
    save(drawing, out)


if __name__ == "__main__":
    app()
