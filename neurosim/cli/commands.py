"""The command line: words in, words out. Every command is one call of the library.

Heavy modules are imported inside the commands, so that `neurosim --help` comes at once.
"""

import os
import re
import sys
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from neurosim.cli.cells import check_cell, is_recording, of_network, record, recorded
from neurosim.cli.console import Output, serving
from neurosim.cli.exchange import diff, export
from neurosim.cli.options import (
    Device,
    Devices,
    Force,
    Json,
    Level,
    Out,
    ProtocolName,
    Quiet,
    Seed,
    Seeds,
    Set,
    Start,
)
from neurosim.cli.pictures import columns, drawing, figure_at, importing_meanwhile, pictures
from neurosim.cli.publishing import cite, report
from neurosim.errors import InputError
from neurosim.process import garbage
from neurosim.process.caller import on_terminal
from neurosim.traces.naming import beside, located, stem

app = typer.Typer(
    name="neurosim",
    help="Simulate networks of pyramidal neurons that learn by target propagation.",
    epilog="Exit codes: 0 done, 1 the model failed, 2 bad input, 3 a sweep is incomplete, "
    "75 stopped and resumable, 130 interrupted.",
    context_settings={"help_option_names": ["-h", "--help"]},
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """The console script."""
    with garbage.command(), serving():
        app()


# --- what all commands share ---------------------------------------------------------------------


def _loaded(name: str, assignments: list[str] | None, level: str | None, seed: int | None) -> Any:
    """The protocol, of a network or a cell, with everything that the options change in it."""
    from neurosim.building.synapses import load
    from neurosim.specs.toml import parse_assignment

    changes: dict[str, Any] = dict(map(parse_assignment, assignments or []))
    options = {k: v for k, v in (("level", level), ("seed", seed)) if v is not None}
    try:
        return load(name, changes | options)
    except InputError as error:
        own = re.compile(rf"^--set ({'|'.join(options)}):") if options else None
        lines = [own.sub(r"--\1:", m) if own else m for m in error.messages]
        raise InputError(lines) from None


def _ensemble(seeds: str | None, seed: int | None) -> range | None:
    """`"0:5"` as the seeds 0 to 4."""
    if seeds is None:
        return None
    if seed is not None:
        raise InputError("--seed and --seeds: got both; expected one of them")
    match = re.fullmatch(r"([0-9]{1,9}):([0-9]{1,9})", seeds)
    found = range(int(match[1]), int(match[2])) if match else range(0)
    if not found:
        raise InputError(
            f"--seeds {seeds}: expected A:B with A less than B, "
            "such as 0:5 for the seeds 0, 1, 2, 3 and 4"
        )
    return found


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        print(f"neurosim {version('neurosim')}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    pass


# --- commands ------------------------------------------------------------------------------------


@app.command()
def run(
    protocol: ProtocolName,
    level: Level = None,
    seed: Seed = None,
    seeds: Seeds = None,
    start: Start = None,
    out: Out = None,
    changes: Set = None,
    device: Device = None,
    devices: Devices = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Simulate a protocol; write its trace and a figure."""
    with Output(as_json, quiet) as output:
        ensemble = _ensemble(seeds, seed)
        loaded = _loaded(protocol, changes, level, seed)
        from neurosim.building.loading import Protocol

        if not isinstance(loaded, Protocol):
            of_network("run", seeds=seeds, device=device, devices=devices, **{"from": start})
            record(output, loaded, out, force)
            return
        from neurosim.building.loading import trace_path
        from neurosim.process import progression
        from neurosim.runs import launch

        trace = trace_path(loaded.spec, out)
        figure = figure_at(None, beside(trace, ".png"), force or os.path.exists(trace))
        with progression.display(loaded.spec.name, quiet) as progress:
            heard = importing_meanwhile(progress)
            given: dict[str, Any] = {"seeds": ensemble, "start": start, "out": trace}
            given |= {"device": device, "devices": devices or 1}
            done = launch.run(loaded, **given, force=force, progress=heard)
        _finish(output, done, figure)


@app.command()
def sweep(
    protocol: ProtocolName,
    over: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=V,V,…",
            help="An axis, e.g. model.parameters.mu=0.1,0.2; repeatable. Else the protocol's own.",
        ),
    ] = None,
    level: Level = None,
    seeds: Annotated[
        str | None, typer.Option(metavar="A:B", help="Of every point, run as one: A to B-1.")
    ] = None,
    start: Start = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="outputs/sweeps/PROTOCOL-LEVEL if not given."),
    ] = None,
    changes: Set = None,
    workers: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Processes of this machine; else one a core."),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Of a Dask scheduler, whose workers run the points."),
    ] = None,
    device: Device = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what it would cost; write nothing.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Run points again that are done.")] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run a protocol at every combination of values of some keys; only what is not done yet."""
    with Output(as_json, quiet) as output:
        from neurosim.cli import sweeps
        from neurosim.specs.toml import parse_assignment
        from neurosim.sweeps.plan import plan

        ensemble, axes = _ensemble(seeds, None), sweeps.over_axes(over)
        overrides = dict(map(parse_assignment, changes or []))
        made = plan(protocol, axes, ensemble, level, overrides, start)
        given: dict[str, Any] = {"out": out, "workers": workers, "cluster": cluster}
        sweeps.sweep(output, made, given | {"device": device, "force": force}, dry_run)


@app.command()
def resume(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The trace of a run that stopped.")],
    device: Device = None,
    devices: Devices = None,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although something is no longer what it was.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Go on with a run or recording that was stopped or killed, as if it had never been."""
    with Output(as_json, quiet) as output:
        from neurosim.process import progression
        from neurosim.recordings import resumption

        with progression.display(stem(file), quiet) as progress:
            given: dict[str, Any] = {"device": device, "devices": devices}
            done = resumption.resume(file, force=force, **given, progress=progress)
        finish = recorded if is_recording(done) else _finish
        finish(output, done, beside(file, ".png"))


def _finish(output: Output, done: Any, figure: Path) -> None:
    """Draw a finished run and say how it ended."""
    wanted: list[tuple[Any, ...]] = [("overview", done.path, figure)]
    if done.spec.level == "spiking" and done.spec.record.presentations:
        wanted.append(("raster", done.path))
    report = done.summary | {"figures": pictures(*wanted)}
    output.result(report, _summary(done.spec, report))


def _summary(spec: Any, report: dict[str, Any]) -> str:
    """The end of a run in words."""
    from neurosim import wording

    rows = [*wording.metrics(report["metrics"])]
    rows += [("diverged", entry["message"]) for entry in report["diverged"]]
    rows += wording.budget(**report["presentations"])
    if not any(spec.model.noise.values()):
        for phase, fraction in report["settled"].items():
            words = f"{phase}: {wording.percent(fraction)} of samples"
            if fraction < 1:
                words += " in the worst batch; a longer phase may settle the rest"
            else:
                words += wording.rounded(
                    report["residual"].get(phase), spec.tolerance, spec.precision
                )
            rows.append(("settled", words))
    rows += wording.shortened(report["shortened"], report["presentations"]["planned"])
    rows += [("wall time", wording.duration(report["wall_s"])), ("trace", report["trace"])]
    rows += [("figure", figure) for figure in report["figures"]]
    return "\n".join([f"{spec.name}, {spec.level} level: done", *wording.labelled(rows, columns())])


@app.command()
def check(
    protocol: ProtocolName,
    level: Level = None,
    seed: Seed = None,
    seeds: Seeds = None,
    start: Start = None,
    out: Out = None,
    changes: Set = None,
    device: Device = None,
    cost: Annotated[
        bool, typer.Option("--cost", help="Predict time and memory by running a little of it.")
    ] = False,
    latex: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the circuit as LaTeX; - for standard output."),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Draw the circuit: .png, .svg or .pdf.")
    ] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Validate a protocol and print it resolved; run nothing."""
    with Output(as_json, quiet) as output:
        ensemble = _ensemble(seeds, seed)
        loaded = _loaded(protocol, changes, level, seed)
        from neurosim.building.loading import Protocol

        given: dict[str, Any]
        if not isinstance(loaded, Protocol):
            given = {"cost": cost, "latex": latex, "plot": plot, "from": start}
            of_network("check", seeds=seeds, device=device, **given)
            check_cell(output, loaded, out)
            return
        from neurosim.reports import checks

        given = {"cost": cost, "latex": latex, "plot": plot, "start": start}
        report = checks.check(loaded, seeds=ensemble, out=out, force=force, device=device, **given)
        words = report["latex"].rstrip() if latex == "-" else checks.in_words(report)
        output.result(report, words)


@app.command()
def inspect(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A trace.")],
    plot: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="Draw variables, e.g. soma,apical_rate; or overview, raster, calibration.",
        ),
    ] = None,
    presentation: Annotated[
        int | None, typer.Option(metavar="N", help="Which one to draw; the last if not given.")
    ] = None,
    sample: Annotated[
        int | None, typer.Option(metavar="K", help="Which of its samples to draw.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(metavar="N", help="Which seed of an ensemble to draw.")
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The figure.")] = None,
    protocol: Annotated[
        bool, typer.Option("--protocol", help="Print the resolved protocol inside.")
    ] = False,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what is in a trace; draw what it recorded."""
    with Output(as_json, quiet) as output:
        from neurosim.reports import inspection

        report = inspection.inspect(file)
        if plot is not None:
            from inspect import signature

            with drawing():
                from neurosim.figures import NAMED, variables

            names = [name.strip() for name in plot.split(",")]
            which = {"presentation": presentation, "sample": sample, "seed": seed}
            given: dict[str, Any] = {k: v for k, v in which.items() if v is not None}
            figure = figure_at(out, beside(file, f"-{'-'.join(names)}.png"), force)
            if plot in NAMED:
                picture = NAMED[plot]
                for name in given.keys() - signature(picture).parameters.keys():
                    raise InputError(f"--{name}: cannot be chosen for --plot {plot}")
                draw = partial(picture, file, out=figure, **given)
            else:
                draw = partial(variables, file, names, out=figure, **given)
            with drawing():
                draw()
            output.result(report | {"figures": [str(figure)]}, str(figure))
        elif protocol:
            from neurosim.specs.toml import written

            resolved = report["resolved"]
            output.result({"protocol": resolved}, written(resolved))
        else:
            output.result(report, inspection.in_words(report, columns()))


@app.command()
def compare(
    a: Annotated[Path, typer.Argument(metavar="A", help="A trace.")],
    b: Annotated[
        Path,
        typer.Argument(metavar="B", help="Another: of another level, model, parameter or seed."),
    ],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The figure.")] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what two traces have in common, how far they agree, and what differs; draw it."""
    with Output(as_json, quiet) as output:
        from neurosim import comparison

        usual = located(b).with_name(f"{stem(a)}-vs-{stem(b)}.png")
        figure = figure_at(out, usual, force)
        found = comparison.hold(a, b)
        drawn = pictures(("comparison_of", found, figure))
        words = "\n".join([comparison.in_words(found.report), "", *(f"figure: {n}" for n in drawn)])
        output.result(found.report | {"figures": drawn}, words)


app.command()(diff)


@app.command()
def analyze(
    what: Annotated[
        str, typer.Argument(metavar="FILE|MODEL", help="A model, a protocol or a trace.")
    ],
    at: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Of a trace: initial, final or a presentation."),
    ] = None,
    samples: Annotated[int, typer.Option(metavar="N", min=1, help="How many samples.")] = 8,
    starts: Annotated[
        int, typer.Option(metavar="N", min=0, help="Random starts of the search for fixed points.")
    ] = 32,
    seed: Seed = None,
    changes: Set = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="The figure.")] = None,
    force: Force = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say where a network rests, how fast, and what its learning signals are made of; draw it."""
    with Output(as_json, quiet) as output:
        from neurosim.reports import analysis
        from neurosim.specs.toml import parse_assignment
        from neurosim.theory import findings

        overrides = dict(map(parse_assignment, changes or []))
        name = stem(what.removesuffix(".toml"))
        figure = figure_at(out, Path("outputs") / f"{name}-analysis.png", force)
        found = analysis.analyze(what, overrides, seed=seed, at=at, samples=samples, starts=starts)
        drawn = pictures(("analysis", found, figure))
        words = [findings.in_words(found, columns()), *(f"\nfigure: {name}" for name in drawn)]
        output.result(found.report | {"figures": drawn}, "\n".join(words))


app.command()(report)


@app.command()
def repair(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The trace of a killed run.")],
    force: Annotated[
        bool, typer.Option("--force", help="Though another host wrote it, which only you know of.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Clear the mark "open for writing" that a killed run leaves."""
    with Output(as_json, quiet) as output:
        from neurosim.traces.repairing import repair

        cleared = repair(file, force=force)
        words = "any HDF5 program opens it now" if cleared else "nothing to repair"
        output.result({"path": str(file), "repaired": cleared}, f"{file}: {words}")


app.command()(export)


@app.command("list")
def list_(
    kind: Annotated[
        str | None,
        typer.Argument(
            metavar="[KIND]",
            help="models, protocols, neurons, synapses, recordings, tasks, rules, activations or "
            "solvers; or all.",
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Say what ships, one line each, with its source."""
    with Output(as_json, quiet) as output:
        from neurosim.reports.catalogue import catalog, in_words

        entries = catalog(kind)
        report: dict[str, Any] = {}
        for entry in entries:
            report.setdefault(entry["kind"], []).append(entry)
        output.result(report, in_words(entries, columns() if on_terminal(sys.stdout) else None))


app.command()(cite)
