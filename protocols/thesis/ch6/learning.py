"""Prediction 5: which models learn, how well, and with which feedback [T 6.5, 6.6, 6.8, 6.9]?

One phase needs exact inverses; two phases do not; signals that multiplex suit depth. Against
backprop, backprop of the output layer alone, and difference target propagation (DTP-AI).
"""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib
import numpy as np

from ch6.common import COLOURS, STYLE, Result, band, new_figure

HERE = Path(__file__).parents[1]
TUNING = 3
"""Seeds, before the reported ones, on which the rate is chosen."""

STEP = 0.1
FEEDBACK: dict[str, dict[str, Any]] = {
    "fixed": {"rule": "fixed"},
    "tied": {"rule": "tied"},
    "reconstruction": {"rule": "reconstruction", "rate": 0.01, "decay": 0.0},
    "difference": {"rule": "difference", "rate": 0.05, "noise": 0.01, "decay": 0.001},
}
"""All start at the pseudo-inverse. tied: stays there. fixed: keeps that of the first weights."""


class Method(NamedTuple):
    """A model file, its credit assignment and how its feedback learns."""

    model: str
    credit: str
    feedback: str | None = None


METHODS: dict[str, Method] = {
    "BP": Method("backprop", "backprop"),
    "BP-fixed": Method("backprop", "bp-fixed"),
    "DTP-AI": Method("target-propagation", "dtp-ai"),
    "one phase, exact": Method("mixture", "single-phase", "tied"),
    **{
        f"{name}, {feedback}": Method(model, credit, feedback)
        for name, model, credit in (
            ("one phase", "mixture", "single-phase"),
            ("two phases", "mixture-two-phase", "two-phase"),
            ("multiplexing", "multiplexing", "two-phase"),
        )
        for feedback in ("fixed", "reconstruction", "difference")
    },
}
FEW = ("BP", "BP-fixed", "DTP-AI", "one phase, exact", "two phases, difference",
       "multiplexing, difference")  # fmt: skip


class Task(NamedTuple):
    """A protocol, the rates tried (times η̂ where there is one) and the methods compared."""

    protocol: str
    rates: tuple[float, ...]
    methods: tuple[str, ...]
    kind: str


TASKS = {
    "student–teacher 6-6-6": Task(
        "ch6-student-teacher", (0.002, 0.008, 0.03), tuple(METHODS), "loss"
    ),
    "student–teacher, 4 hidden layers": Task("ch6-deep", (0.001, 0.003, 0.01), FEW, "loss"),
    "Yin-Yang 4-30-30-3": Task("ch6-yin-yang", (0.3, 1.0, 3.0), FEW, "error"),
    "digits 64-32-32-10": Task(
        "ch6-digits", (0.1, 0.3, 1.0), (*FEW, "one phase, difference"), "error"
    ),
}


class Job(NamedTuple):
    """One run: a method on a task at a rate, all seeds at once."""

    task: str
    method: str
    rate: float
    seeds: range
    trace: Path


def changes(job: Job) -> dict[str, Any]:
    """What makes the method of the two-phase protocol that the task names."""
    method = METHODS[job.method]
    found: dict[str, Any] = {"model.use": method.model, "model.credit": method.credit}
    taught: dict[str, Any] = {"name": "learning", "duration": "2 s", "plastic": ["forward"]}
    free = {"name": "free", "duration": "2 s", "plastic": ["feedback"]}
    own_channel = method.feedback is None
    compensated = method.model.startswith("mixture")
    found["model.forward"] = {"rate": job.rate if method.model == "backprop" else job.rate / STEP}
    if compensated:
        found["model.forward"]["depth_compensation"] = True
    else:
        found["model.mu"] = None
    found["model.target_step"] = STEP
    if own_channel:
        found["model.feedback"] = {"rate": 0.05} if method.model == "target-propagation" else {}
        if method.model == "target-propagation":
            taught["plastic"] = ["forward", "feedback"]
    else:
        rule = FEEDBACK[str(method.feedback)]
        found["model.feedback"] = {"init": "pseudo-inverse", **rule}
        learns = rule["rule"] not in ("fixed", "tied")
        single = method.credit == "single-phase"
        taught["teaching"] = "following" if single else "frozen"
        if not learns:
            free["plastic"] = []
        if single and learns:
            taught["plastic"] = ["forward", "feedback"]
    two = method.credit == "two-phase"
    found["stages.0.phases"] = [free, taught] if two else [taught]
    return found


def train(job: Job) -> dict[str, Any]:
    """Run one job: the final loss or error of every seed, NaN where it diverged, and its curve."""
    import neurosim as ns

    protocol = ns.load_protocol(HERE / f"{TASKS[job.task].protocol}.toml", changes(job))
    job.trace.parent.mkdir(parents=True, exist_ok=True)
    if not _finished(job, protocol.spec.model_dump_json(exclude_none=True)):
        with suppress(ns.DivergedError):
            ns.run(protocol, seeds=job.seeds, out=job.trace, force=True)
    with ns.open_trace(job.trace) as trace:
        summary = json.loads(trace.attrs["summary"])
        kinds = ("loss", "error")
        found = {kind: np.array(trace[f"evaluation/{kind}"].values) for kind in kinds}
    lost = {entry["seed"] for entry in summary["diverged"]}
    alive = np.array([seed not in lost for seed in job.seeds])
    curves = {kind: np.where(alive, values, np.nan) for kind, values in found.items()}
    return {"curves": curves, "wall_s": summary["wall_s"]}


def _finished(job: Job, protocol: str) -> bool:
    """Whether an earlier call left the whole trace of this very protocol and these seeds."""
    import neurosim as ns

    if not job.trace.exists():
        return False
    with ns.open_trace(job.trace) as trace:
        about = trace.attrs
        return (
            about["status"] in ("complete", "diverged")
            and about["seeds"] == ",".join(map(str, job.seeds))
            and str(trace["provenance/protocol_json"].values) == protocol
        )


def jobs(seeds: range, folder: Path) -> Iterator[Job]:
    """Every method of every task at every rate."""
    both = range(seeds.start - TUNING, seeds.stop)
    for name, task in TASKS.items():
        for method in task.methods:
            for rate in task.rates:
                file = f"{task.protocol}-{method}-{rate}.h5".replace(", ", "-").replace(" ", "-")
                yield Job(name, method, rate, both, folder / file)


def run(seeds: range, folder: Path) -> Result:
    """All runs, two at a time; per task and method the rate that the tuning seeds like best."""
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false")
    todo = list(jobs(seeds, folder))
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        done = list(pool.map(train, todo))
    measured: dict[str, dict[str, Any]] = {}
    finals: dict[str, dict[str, np.ndarray]] = {}
    curves: dict[str, dict[str, np.ndarray]] = {}
    for name, task in TASKS.items():
        measured[name], finals[name], curves[name] = {}, {}, {}
        for method in task.methods:
            tried = {
                job.rate: result["curves"][task.kind]
                for job, result in zip(todo, done, strict=True)
                if (job.task, job.method) == (name, method)
            }
            rate = min(tried, key=lambda r: _score(tried[r][-1, :TUNING]))
            curve = tried[rate][:, TUNING:]
            finals[name][method], curves[name][method] = curve[-1], curve
            measured[name][method] = {
                "rate": rate,
                "final": band(curve[-1]),
                "start": band(curve[0]),
                "at_edge_of_grid": rate in (min(tried), max(tried)),
                "diverged": int(np.sum(~np.isfinite(curve[-1]))),
                "tuning": {str(r): band(c[-1, :TUNING]) for r, c in tried.items()},
            }
    return _judge(measured, finals, curves, seeds)


def _score(final: np.ndarray) -> float:
    """The mean over the tuning seeds; a diverged one is worse than any that did not."""
    return float(np.mean(np.where(np.isfinite(final), final, 1e9)))


def better(a: np.ndarray, b: np.ndarray) -> float:
    """The fraction of seeds in which a ends lower than b; a diverged seed has lost."""
    return float(np.mean(np.where(np.isfinite(a), a, np.inf) < np.where(np.isfinite(b), b, 1e300)))


def _judge(measured, finals, curves, seeds: range) -> Result:
    claims: dict[str, dict[str, float]] = {"one phase without exact inverses is no better than "
        "training the output alone": {}, "two phases learn hidden layers": {},
        "one phase with exact inverses learns hidden layers": {},
        "multiplexing beats two phases in depth": {}}  # fmt: skip
    wrong, two, one, deep = claims.values()
    for task, found in finals.items():
        fixed = found["BP-fixed"]
        for method, values in found.items():
            if method.startswith("one phase") and not method.endswith("exact"):
                wrong[f"{task}: {method}"] = 1 - better(values, fixed)
            if method.startswith("two phases"):
                two[f"{task}: {method}"] = better(values, fixed)
            if method == "one phase, exact":
                one[task] = better(values, fixed)
    for task in ("student–teacher, 4 hidden layers", "Yin-Yang 4-30-30-3"):
        deep[task] = better(
            finals[task]["multiplexing, difference"], finals[task]["two phases, difference"]
        )
    held = {claim: min(values.values()) >= 0.8 for claim, values in claims.items()}
    words = "; ".join(
        f"{claim}: {'yes' if ok else 'no'} (in {min(claims[claim].values()):.0%} to "
        f"{max(claims[claim].values()):.0%} of seeds)"
        for claim, ok in held.items()
    )
    verdict = "holds" if all(held.values()) else "holds in part" if any(held.values()) else "fails"
    return Result(
        prediction="one phase learns only with exact inverses; two phases learn without; "
        "multiplexing suits depth",
        source="T 6.8, 6.9",
        measured={"tasks": measured, "claims": claims},
        seeds=f"{len(seeds)} seeds ({seeds.start}–{seeds.stop - 1}), equal presentations; rates of "
        f"all methods from grids of three, on seeds {seeds.start - TUNING}–{seeds.start - 1}; "
        "median and 5–95 %; a claim holds where it does in at least 80 % of seeds in every case",
        verdict=verdict,
        because=words,
        figures={"learning": _figure(measured, curves)},
    )


@matplotlib.rc_context(STYLE)
def _figure(measured: dict, curves: dict):
    figure = new_figure("Prediction 5: final test loss or error, median and all seeds", 12, 7.5)
    panels = figure.subplots(2, 2).ravel()
    for axes, (name, task) in zip(panels, TASKS.items(), strict=True):
        scale = 100 if task.kind == "error" else 1
        for row, method in enumerate(task.methods):
            final = scale * curves[name][method][-1]
            colour = COLOURS[("BP", "DTP", "one", "two", "mul").index(_family(method))]
            axes.plot(final, np.full(final.shape, row), "o", ms=3, mew=0, alpha=0.5, color=colour)
            middle = scale * measured[name][method]["final"]["median"]
            axes.plot([middle], [row], "|", ms=12, mew=2, color=colour)
            lost = measured[name][method]["diverged"]
            if lost:
                axes.annotate(f"{lost} diverged", (1, row), xycoords=("axes fraction", "data"),
                              ha="right", va="center", size=7)  # fmt: skip
        axes.set_yticks(range(len(task.methods)), task.methods)
        axes.invert_yaxis()
        axes.set(xscale="log", title=name)
        axes.set_xlabel("test error (%)" if task.kind == "error" else "test loss (a.u.)")
    return figure


def _family(method: str) -> str:
    return next(f for f in ("BP", "DTP", "one", "two", "mul") if method.startswith(f))
