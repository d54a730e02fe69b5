"""What `neurosim check` says: a protocol resolved, and what running it would take."""

import os
import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from neurosim import wording
from neurosim.building import facts, ingredients
from neurosim.building.continuing import started
from neurosim.building.loading import Protocol, names_file, resolve
from neurosim.credit import named
from neurosim.errors import InputError, NeurosimWarning, either
from neurosim.process import caller
from neurosim.reports import outline
from neurosim.runs import draws
from neurosim.runs.contents import Contents, Plan
from neurosim.specs import ModelSpec, PhaseSpec, ProtocolSpec
from neurosim.specs.toml import KeyPath, written
from neurosim.theory.relaxation import chain
from neurosim.traces.naming import located

SHOWN = {"latex": (".tex",), "plot": (".png", ".svg", ".pdf")}
"""What the circuit of a model can be shown as, and how such files end."""


def check(
    protocol: Protocol | str | Path,
    *,
    level: str | None = None,
    seed: int | None = None,
    seeds: Iterable[int] | None = None,
    start: str | Path | None = None,
    out: str | Path | None = None,
    force: bool = False,
    device: str | None = None,
    cost: bool = False,
    latex: str | Path | None = None,
    plot: str | Path | None = None,
) -> dict[str, Any]:
    """Everything `run` does with the same arguments before it simulates.

    Nothing is written but what is asked for of a circuit: `latex`, its equations for a methods
    section (a `.tex`, or "-" for no file), and `plot`, its picture (PNG, SVG or PDF by its ending).

    Returns plain data: the resolved `protocol`, as `load_protocol` accepts it from a file;
    `seeds`; `trace`, where it would go, and `trace_bytes`, about; `stages` and `presentations`;
    `samples`; `simulated_s`, at most, by one seed; `signal`, the teaching signal expected in each
    layer as a fraction of the output error, and `slowest_s`, the time constant at which a phase
    comes to rest where it has a closed form; both None where they mean nothing; `cost`, None unless
    asked for: what the run would take, measured by running a little of it (see `costs.cost`);
    `circuit`, who stands where and reaches whom (see `outline.outline`); `latex`, the text, None
    unless asked for; `files`, those that were written.

    Raises:
        InputError: what `run` would refuse, but for a trace that exists, of which it warns; `latex`
            or `plot` of a name that cannot be, or of a file that exists.
    """
    protocol, chosen, path = resolve(protocol, level, seed, seeds, out)
    if start is not None:
        protocol = started(protocol, start, chosen[0])
    spec = protocol.spec
    for name, file in (("latex", latex), ("plot", plot)):
        _check_file(spec, name, file, force)
    with draws.fitting(spec):
        _, drawn = draws.data(protocol, chosen)
        next(draws.weights(protocol, chosen[:1], drawn[:1]))
        samples = len(drawn[0].x_train)
        draws.warn_of(protocol, drawn[0])
        plan = Plan(spec, samples // spec.batch)
        observed = facts.observed(spec.model)
    costs = None
    told = os.environ.get("JAX_PLATFORMS", "cpu") != "cpu"
    if cost or device is not None or told:
        costs = _computed(protocol, chosen, path, device, cost)
    contents = Contents(spec, plan, observed, chosen, len(drawn[0].x_test))
    if os.path.exists(path) and not force:
        warnings.warn(
            f"{path}: exists; run will ask for {caller.option('force')}, or another "
            f"{caller.option('out', 'FILE')}",
            NeurosimWarning,
            stacklevel=2,
        )
    report: dict[str, Any] = {
        "protocol": _resolved(protocol),
        "seeds": chosen,
        "trace": str(path),
        "trace_bytes": contents.bytes,
        "stages": [
            {"name": stage.name, "presentations": count, "epochs": count / plan.batches}
            for stage, (_, count) in zip(spec.stages, plan.stages, strict=True)
        ],
        "presentations": plan.total,
        "samples": {"train": samples, "test": len(drawn[0].x_test)},
        "simulated_s": _simulated(spec, plan),
        "signal": _signal(spec.model),
        "slowest_s": _slowest(spec),
        "cost": costs,
        "circuit": outline.outline(spec),
        "latex": None if latex is None else outline.latex(protocol),
    }
    report["files"] = [] if latex in (None, "-") else [_write(report["latex"], Path(latex))]
    if plot is not None:
        from neurosim.figures import circuit

        report["files"].append(str(circuit(spec.model, plot)))
    return report


def _check_file(spec: ProtocolSpec, name: str, file: str | Path | None, force: bool) -> None:
    """Whether a circuit can be shown so, and there."""
    if file is None:
        return
    given = caller.option(name, os.fspath(file))
    if name == "latex" and str(file) == "-":
        return
    path = located(file)
    if path.suffix not in SHOWN[name]:
        raise InputError(f"{given}: expected a name that ends in {either(SHOWN[name])}")
    if os.path.exists(path) and not force:
        raise InputError(f"{given}: exists; give {caller.option('force')} to overwrite it")


def _write(text: str, file: Path) -> str:
    path = located(file)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be written there: {error.strerror}") from error
    return str(path)


def _computed(
    protocol: Protocol, seeds: list[int], path: Path, device: str | None, cost: bool
) -> dict[str, Any] | None:
    """What takes an engine to say: whether there is such a device and, if asked for, the cost.

    Everything else of a check goes without JAX, which takes longer to import than all the rest.
    """
    from neurosim.runs import costs
    from neurosim.runs.launch import computing, initial_weights, prepare
    from neurosim.runs.members import Setting

    with computing(protocol.spec, device):
        samples, drawn = prepare(protocol, seeds)
        if not cost:
            return None
        weights = initial_weights(protocol, seeds, drawn)
        return costs.cost(Setting(protocol, seeds, path, samples, weights, {}))


def in_words(report: dict[str, Any]) -> str:
    """What `check` returns, as a protocol file: the words are its comments."""
    protocol = report["protocol"]
    stages = ", ".join(f"{s['name']} {s['presentations']}" for s in report["stages"])
    samples = report["samples"]
    words = [
        f"{protocol['name']}, {protocol['level']} level, "
        f"{'seeds' if len(report['seeds']) > 1 else 'seed'} {wording.listed(report['seeds'])}",
        f"{report['presentations']} presentations ({stages}) of {protocol['batch']} samples; "
        f"the task has {samples['train']} to train on and {samples['test']} to test",
    ]
    rest = samples["train"] % protocol["batch"]
    if rest and protocol["shuffle"]:
        words.append(f"an epoch leaves out {rest} samples, which do not fill a batch; others each")
    if report["simulated_s"] is not None:
        drawn = any(p.get("longer") for stage in protocol["stages"] for p in stage["phases"])
        most = "or so" if drawn else "at the most"
        words.append(f"simulated time: {wording.duration(report['simulated_s'])} {most}")
    if report["signal"] is not None:
        layers = (f"layer {i} {x:.2g}" for i, x in enumerate(report["signal"], start=1))
        words.append(f"teaching signal expected, over the output error: {', '.join(layers)}")
    if report["slowest_s"] is not None:
        words.append(f"slowest time constant: {wording.duration(report['slowest_s'])}")
    if report["cost"] is not None:
        words += _cost_in_words(report["cost"])
    words.append(f"trace: {report['trace']}, about {wording.size(report['trace_bytes'])}")
    words += outline.in_words(report["circuit"])
    if report["files"]:
        words.append(f"written: {', '.join(report['files'])}")
    comments = "\n".join(f"# {_UNCOMMENTED.sub(' ', line)}" for line in words)
    return f"{comments}\n\n{written(protocol)}"


_UNCOMMENTED = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
"""Signs that no comment of TOML may hold, though a name may."""


def _cost_in_words(cost: dict[str, Any]) -> list[str]:
    wall, compiling = wording.duration(cost["wall_s"]), wording.duration(cost["compile_s"])
    words = [
        f"wall time: about {wall}, of it {compiling} to compile; measured over "
        f"{cost['measured_presentations']} presentations and a test, within a factor of two where "
        "phases settle no sooner or later than at first"
    ]
    for key, where in (("memory_bytes", ""), ("device_bytes", " of the accelerator")):
        if cost[key] is not None:
            words.append(f"memory{where}: about {wording.size(cost[key])}")
    return words


def _resolved(protocol: Protocol) -> dict[str, Any]:
    """The protocol as plain data, with paths that mean the same from everywhere."""
    data = protocol.spec.model_dump(mode="json", exclude_none=True)

    def placed(key: KeyPath, node: Any) -> Any:
        if isinstance(node, dict):
            return {name: placed((*key, name), value) for name, value in node.items()}
        if isinstance(node, str) and key and names_file(key):
            return str(ingredients.located(protocol.folder, node).resolve())
        return node

    return placed((), data)


def _simulated(spec: ProtocolSpec, plan: Plan) -> float | None:
    """The time all phases of all presentations last (s), if none ends early, in the mean."""
    if not spec.timed:
        return None

    def lasts(phase: PhaseSpec) -> float:
        return (phase.duration or 0.0) + (phase.longer.mean if phase.longer else 0.0)

    return sum(
        count * sum(map(lasts, stage.phases))
        for stage, (_, count) in zip(spec.stages, plan.stages, strict=True)
    )


def _signal(model: ModelSpec) -> list[float] | None:
    """η̂ attenuation_i for the layers 1 … L."""
    credit = named(model.credit)
    if credit.own_channel and credit.form is None:
        return None
    return [model.target_step * share for share in facts.facts(model).attenuation]


def _slowest(spec: ProtocolSpec) -> float | None:
    """The slowest time constant of all phases (s), for exact inverses; None where none is known."""
    if spec.level == "equilibrium":
        return None
    phases = (phase for stage in spec.stages for phase in stage.phases)
    ways = [chain(spec.model, phase.teaching, changed=phase.values) for phase in phases]
    slowest = max((np.inf if way is None else way.slowest for way in ways), default=np.inf)
    return slowest if np.isfinite(slowest) else None
