r"""Networks whose layers have goals of their own, after Kostadinov, Razeghi & Voloshynovskiy 2019.

    python studies/local_goals.py            # scikit-learn's digits
    python studies/local_goals.py FOLDER --width 196 --train 2000 --iterations 20  # of MNIST
    python studies/local_goals.py FOLDER --train 10000 --iterations 60 --seeds 1 --threshold 0.05 \
        --cost 0.01

Representations of the last node are read by a linear support vector machine, beside one of pixels,
one of the same network before it learned, and one of the last hidden layer of the same network
taught by backprop. Step sizes and thresholds are chosen on a fifth of the training samples of one
seed, which is held out; then the test samples are seen once, by other seeds. Every method is kept
as soon as it is done, and a folder that is not there is skipped with that reason.
"""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import jax
import numpy as np
import typer
from matplotlib.figure import Figure
from sklearn.svm import LinearSVC

import neurosim as ns
from neurosim.building import ingredients
from neurosim.figures import save
from neurosim.functions.local_goals import exclusive
from neurosim.functions.penalized_weights import Penalties, closed_form
from neurosim.seeds import host_stream
from neurosim.tasks.data import split

RESULTS = Path("docs/local-goals")
"""Of what was found, so that a further row does not need all others again."""

CHOOSING = [0]
STEPS, THRESHOLDS = (0.02, 0.1, 0.5), (0.02, 0.05, 0.1)
OF_GRADIENT = (0.003, 0.01, 0.03)
COSTS = (0.01, 0.1, 1.0)
"""C of the support vector machine, chosen on a fifth of the samples that it learns from: of digits
by every seed, of images by the first."""

NETS = ("n4g4", "n6g6", "n6g3")
NODES = "model.credit.nodes"


class Method(NamedTuple):
    """A shipped protocol and what is changed there; published: accuracy on MNIST (%).

    own: whether its step size is chosen for itself, and not taken from n4g4.
    """

    net: str
    changes: dict[str, Any]
    published: float | None = None
    own: bool = False

    @property
    def nodes(self) -> int:
        """How many there are."""
        return int(self.net[1])

    @property
    def goal(self) -> int:
        """The one with a goal."""
        return int(self.net[3])


ASYNCHRONOUS = {f"{NODES}.active": 0.5}
METHODS = {
    "n4g4": Method("n4g4", {}, 98.75),
    "n6g6": Method("n6g6", {}, 99.28),
    "n6g3": Method("n6g3", {}, 98.98),
    "n4g4, asynchronous": Method("n4g4", ASYNCHRONOUS, 98.57),
    "n6g6, asynchronous": Method("n6g6", ASYNCHRONOUS, 99.01),
    "n6g3, asynchronous": Method("n6g3", ASYNCHRONOUS, 98.91),
    "n4g4, gradient steps": Method(
        "n4g4", {"model.projections.W.rule": "penalized-gradient"}, own=True
    ),
    "n4g4, weights fit y alone": Method("n4g4", {f"{NODES}.correction": 0.0}),
    "n4g4, weights fit y + ν": Method("n4g4", {f"{NODES}.correction": -1.0}),
    "n4g4, nothing heard of neighbors": Method(
        "n4g4", {f"{NODES}.from_above": 0.0, f"{NODES}.from_below": 0.0}
    ),
    "n4g4, nothing wanted elsewhere": Method("n4g4", {f"{NODES}.elsewhere": "nothing"}),
}
BACKPROP: dict[str, Any] = {
    "model.credit": "backprop",
    "model.credit.rule": "fixed",
    NODES: None,
    "model.projections.W.rule": "delta",
    "model.projections.W.rate": 0.1,
    "batch": 50,
    "stages.0.presentations": None,
}


class Setting(NamedTuple):
    """What all runs share: the folder of images, or none for digits, and where traces go.

    seeds: those that see the test samples. costs: of machines, to choose from.
    """

    folder: Path | None
    train: int | None
    iterations: int
    width: int
    out: Path
    seeds: list[int]
    costs: Sequence[float]

    def protocol(self, method: Method, held: bool, changes: dict[str, Any]) -> Any:
        """The protocol of a run. held: whether it is tested on a part of the training samples."""
        task: dict[str, Any] = {"name": "digits"}
        batch, inputs = 215, 64
        if self.folder is not None:
            task = {"name": "idx", "path": str(self.folder.resolve())}
            task |= {} if self.train is None else {"train": self.train}
            batch, inputs = round(0.15 * (self.train or 60_000)), 784
        given = {
            "task": task | ({"validation": 0.2} if held else {}),
            "batch": round(0.8 * batch) if held else batch,
            "model.layers": [inputs, *[self.width] * method.nodes, 10],
            "stages.0.presentations": self.iterations,
            "record.presentations": 0,
        }
        return ns.load_protocol(f"local-goals-{method.net}", given | method.changes | changes)

    def run(self, name: str, protocol: Any, seeds: list[int]) -> tuple[Any, list[Any]]:
        """The trace of a run, and the data of every seed."""
        out = self.out / f"{name.replace(',', '').replace(' ', '-')}.h5"
        with suppress(ns.DivergedError):
            ns.run(protocol, seeds=seeds, out=out, force=True)
        task = ingredients.task(protocol.spec, protocol.folder)
        return ns.open_trace(out), [task.draw(host_stream(seed, "task")) for seed in seeds]

    def moments(self, name: str) -> list[str]:
        """When a method is looked at: on images, where machines take their time, networks are not
        read again before they learn that start as another one does."""
        return list(MOMENTS) if self.folder is None or name in NETS[:2] else ["final"]


# ------------------------------------------------------------------------------- what is measured


def forward_weights(trace: Any, moment: str, seed: int) -> list[np.ndarray]:
    """A of every node."""
    weights = trace["weights"]
    nodes = sum(name.startswith("W") for name in weights) - 1
    found = [weights[f"W{i}"].sel(moment=moment).values for i in range(1, nodes + 1)]
    return [W[seed] if W.ndim == 3 else W for W in found]


def passed(A: Sequence[np.ndarray], u: np.ndarray, threshold: float) -> list[np.ndarray]:
    """The linear responses of nodes, the first of which hears u."""
    found = []
    for W in A:
        found.append(u @ W.T)
        u = soft(found[-1], threshold)
    return found


def soft(q: np.ndarray, threshold: float) -> np.ndarray:
    """The sparse representation."""
    return np.sign(q) * np.maximum(np.abs(q) - threshold, 0)


def read(
    train: np.ndarray,
    y: np.ndarray,
    test: np.ndarray,
    y_test: np.ndarray,
    costs: Sequence[float],
) -> tuple[float, float]:
    """The error (%) of a linear support vector machine on a representation, 100 without one, and
    its C, the best of some."""
    if not (np.isfinite(train).all() and np.isfinite(test).all()):
        return 100.0, costs[0]
    scale = np.sqrt(np.mean(train**2)) + 1e-12
    train, test = train / scale, test / scale
    labels, of_test = y.argmax(1), y_test.argmax(1)
    rest, held = split("held", len(train), 0.2, np.random.default_rng(0), labels)

    def machine(C: float, rows: Any) -> LinearSVC:
        return LinearSVC(C=C, dual=False).fit(train[rows], labels[rows])

    def score(C: float) -> float:
        return float(machine(C, rest).score(train[held], labels[held]))

    best = max(costs, key=score) if len(costs) > 1 else costs[0]
    return 100 * (1 - machine(best, slice(None)).score(test, of_test)), best


def reads(setting: Setting, pairs: Sequence[tuple[Any, ...]]) -> list[float]:
    """The error of every seed, which on digits chooses its own C; on images the first does."""
    errors: list[float] = []
    costs = setting.costs
    for pair in pairs:
        error, best = read(*pair, costs)
        errors.append(error)
        costs = costs if setting.folder is None else [best]
    return errors


def shaped(q: np.ndarray, y: np.ndarray, threshold: float) -> float:
    """The share of the squared activity of a node that units say to the class they serve."""
    u, g = soft(q, threshold), np.asarray(exclusive(q, y, threshold))
    return float(np.sum(g**2) / max(np.sum(u**2), 1e-30))


def missing(
    A: Sequence[np.ndarray], q: Sequence[np.ndarray], y: np.ndarray, threshold: float, goal: int
) -> float:
    """How far the last node is from what the goal of an earlier one becomes there, of theorem 1:
    ‖U_L − D_L‖/‖U_L‖, where D_L is G of the node with the goal, sent on."""
    D = np.asarray(exclusive(q[goal - 1], y, threshold))
    for response in passed(A[goal:], D, threshold):
        D = soft(response, threshold)
    u = soft(q[-1], threshold)
    return float(np.linalg.norm(u - D) / max(np.linalg.norm(u), 1e-30))


MOMENTS = {"initial": "untrained", "final": "learned"}


def looked(
    setting: Setting,
    run: tuple[Any, list[Any]],
    threshold: float,
    goal: int,
    moments: Sequence[str] = (),
) -> dict[str, Any]:
    """What is measured of a run, by seed; at both moments if none are named. goal: the node that
    has one."""
    trace, data = run
    found: dict[str, Any] = {}
    for moment in moments or MOMENTS:
        when, pairs = MOMENTS[moment], []
        for seed, of in enumerate(data):
            A = forward_weights(trace, moment, seed)
            train, test = (passed(A, x, threshold) for x in (of.x_train, of.x_test))
            u = soft(train[-1], threshold)
            pairs.append((u, of.y_train, soft(test[-1], threshold), of.y_test))
            shares = [shaped(q, of.y_train, threshold) for q in train]
            found.setdefault(f"{when} shares", []).append(shares)
            far = missing(A, train, of.y_train, threshold, goal)
            found.setdefault(f"{when} missing", []).append(far)
            found.setdefault(f"{when} active", []).append(float(np.mean(u != 0)))
        found[when] = reads(setting, pairs)
    error = trace["evaluation/error"].values.reshape(-1, len(data))[-1]
    return found | {"readout": [100 * float(e) for e in error]}


# ------------------------------------------------------------------------------------- the methods


def method(
    setting: Setting, name: str, of: Method, steps: Sequence[float], thresholds: Sequence[float]
) -> dict[str, Any]:
    """A method by the step size and threshold that do best on samples held out of training.

    Of images, which take their time, one of both is chosen: the threshold at the middle step, or
    the step where one threshold is given.
    """

    def protocol(step: float, threshold: float, held: bool) -> Any:
        changes = {"model.parameters.rho": step, "model.activation.threshold": threshold}
        return setting.protocol(of, held, changes)

    tried: dict[tuple[float, float], float] = {}

    def best(choices: Sequence[tuple[float, float]]) -> tuple[float, float]:
        for choice in choices if len(choices) > 1 else ():
            if choice not in tried:
                run = setting.run(f"{name} held", protocol(*choice, True), CHOOSING)
                tried[choice] = looked(setting, run, choice[1], of.goal, ["final"])["learned"][0]
                print(name, choice, tried[choice], flush=True)
        return min(choices, key=lambda c: tried[c]) if len(choices) > 1 else choices[0]

    if setting.folder is not None and len(thresholds) > 1:
        steps = [steps[len(steps) // 2]]
    step, threshold = best(list(product(steps, thresholds)))
    run = setting.run(name, protocol(step, threshold, False), setting.seeds)
    found = looked(setting, run, threshold, of.goal, setting.moments(name))
    validation = {f"{s}, {t}": error for (s, t), error in tried.items()}
    return found | {"step": step, "threshold": threshold, "validation": validation}


def backprop(setting: Setting, net: str, threshold: float) -> dict[str, Any]:
    """The same network taught by backprop; the pace is chosen on samples held out."""
    epochs = 20 if setting.folder is None else 5
    of = Method(net, BACKPROP | {"stages.0.epochs": epochs})
    tried = {}

    def protocol(pace: float, held: bool) -> Any:
        changes = {"stages.0.pace": pace, "model.activation.threshold": threshold}
        return setting.protocol(of, held, changes)

    for pace in (1 / 3, 1.0, 3.0):
        run = setting.run(f"{net} backprop held", protocol(pace, True), CHOOSING)
        tried[pace] = looked(setting, run, threshold, of.goal, ["final"])["learned"][0]
    best = min(tried, key=lambda pace: tried[pace])
    run = setting.run(f"{net} backprop", protocol(best, False), setting.seeds)
    found = looked(setting, run, threshold, of.goal, setting.moments("backprop"))
    return found | {"pace": best, "validation": tried}


def pixels(setting: Setting) -> list[float]:
    """The error of a linear support vector machine on pixels, by seed."""
    spec = setting.protocol(METHODS["n4g4"], False, {})
    task = ingredients.task(spec.spec, spec.folder)
    drawn = [task.draw(host_stream(seed, "task")) for seed in setting.seeds]
    pairs = [(d.x_train, d.y_train, d.x_test, d.y_test) for d in drawn]
    return reads(setting, pairs)


# -------------------------------------------------------------------------------------------- time


def timed(width: int, nodes: int = 6, repeats: int = 15) -> dict[str, float]:
    """Milliseconds for the solutions of all nodes: one after the other, in one program, and in a
    thread each; medians, measured in turns."""
    rng = np.random.default_rng(0)
    penalties = Penalties(0.16, 0.16, 0.16, 0.16)
    u = rng.standard_normal((nodes, 2 * width, width)).astype(np.float32)
    M = [jax.numpy.asarray(a.T @ a / len(a)) for a in u]
    N = [jax.numpy.asarray(np.tanh(a).T @ a / len(a)) for a in u]
    A = np.eye(width, dtype=np.float32)
    one = jax.jit(lambda M, N: closed_form(M, N, A, penalties))
    every = jax.jit(
        lambda M, N: [closed_form(m, n, A, penalties) for m, n in zip(M, N, strict=True)]
    )
    with ThreadPoolExecutor(nodes) as pool:
        ways: dict[str, Callable[[], Any]] = {
            "in turn": lambda: [one(m, n).block_until_ready() for m, n in zip(M, N, strict=True)],
            "one program": lambda: jax.block_until_ready(every(M, N)),
            "threads": lambda: list(pool.map(lambda m, n: one(m, n).block_until_ready(), M, N)),
        }
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(repeats + 1):
            for name, way in ways.items():
                began = time.perf_counter()
                way()
                if turn:  # the first compiles
                    taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: float(np.median(each)) for name, each in taken.items()}


# -------------------------------------------------------------------------------------------- all


def main(
    folder: Annotated[Path | None, typer.Argument()] = None,
    iterations: int = 120,
    train: int | None = None,
    width: int | None = None,
    only: Annotated[list[str] | None, typer.Option()] = None,
    seeds: int = 3,
    threshold: float | None = None,
    cost: float | None = None,
    out: Path = Path("outputs/local-goals"),
) -> None:
    """Every method, or those that `only` names; what is there already is kept.

    Steps and thresholds are chosen for n4g4 and taken for all its kin. Nodes are of `width` units,
    which is that of the inputs if not given. threshold, cost: λ₁ and C, where they are not chosen;
    on images the step is then the middle one.
    """
    if folder is not None and not folder.is_dir():
        print(f"skipped: no folder {folder}; expected one with files in the format of MNIST")
        return
    out.mkdir(parents=True, exist_ok=True)
    own = 64 if folder is None else 784
    testing, costs = list(range(1, seeds + 1)), COSTS if cost is None else (cost,)
    setting = Setting(folder, train, iterations, width or own, out, testing, costs)
    thresholds = THRESHOLDS if threshold is None else (threshold,)
    steps = STEPS if folder is None or threshold is None else STEPS[1:2]
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / (
        "digits.json" if folder is None else f"images-{setting.width}-{train}-{iterations}.json"
    )
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}

    def kept(name: str, make: Callable[[], Any]) -> Any:
        if name not in found and (not only or name in only):
            found[name] = make()
            path.write_text(json.dumps(found, indent=1) + "\n")
            print(f"{name}: {json.dumps(found[name])[:300]}", flush=True)
        return found.get(name)

    kept("pixels", lambda: pixels(setting))
    first = kept("n4g4", lambda: method(setting, "n4g4", METHODS["n4g4"], steps, thresholds))
    if first is None:
        raise SystemExit("n4g4 comes first: its step and threshold are those of all")
    best = first["threshold"]
    for name, of in METHODS.items():
        given = name, of, OF_GRADIENT if of.own else [first["step"]], [best]
        kept(name, lambda given=given: method(setting, *given))
    for net in NETS[:2]:
        kept(f"{net}, backprop", lambda net=net: backprop(setting, net, best))
    for size in (64, 256):
        kept(f"time {size}", lambda size=size: timed(size))
    if "pixels" in found:
        methods = {n: v for n, v in found.items() if "learned" in v}
        drawn(methods, found["pixels"], out / f"{path.stem}.png")


def drawn(found: dict[str, Any], of_pixels: list[float], path: Path) -> None:
    """Test errors of every method before and after learning, and the share of every node."""
    canvas = Figure(figsize=(9.5, 0.8 + 0.34 * len(found)), layout="constrained", dpi=130)
    errors, shares = canvas.subplots(1, 2, width_ratios=[3, 2])
    for row, each in enumerate(reversed(found.values())):
        for when, colour in (("untrained", "#999999"), ("learned", "#0072B2")):
            if when not in each:
                continue
            errors.plot(each[when], [row] * len(each[when]), "o", ms=4, color=colour, alpha=0.6)
            errors.plot([np.mean(each[when])], [row], "|", ms=12, mew=2, color=colour)
    errors.axvline(np.mean(of_pixels), color="#D55E00", lw=1)
    errors.set(yticks=range(len(found)), yticklabels=list(reversed(found)))
    ticks = (3, 5, 10, 20, 50, 100)
    errors.set_xscale("log")
    errors.set_xticks(ticks, labels=map(str, ticks))
    errors.minorticks_off()
    errors.set_xlabel("test error of a linear support vector machine (%)")
    handles = [
        errors.plot([], [], "o", color=colour, label=label)[0]
        for colour, label in (("#999999", "before"), ("#0072B2", "after learning"))
    ] + [errors.plot([], [], color="#D55E00", label="pixels")[0]]
    errors.legend(handles=handles, fontsize=8)
    for net, colour in zip(NETS, ("#0072B2", "#009E73", "#D55E00"), strict=True):
        if net in found:
            for when, style in (("untrained", ":"), ("learned", "-")):
                if f"{when} shares" not in found[net]:
                    continue
                mean = np.mean(found[net][f"{when} shares"], axis=0)
                label = net if when == "learned" else None
                shares.plot(range(1, len(mean) + 1), mean, style, marker="o", ms=4, color=colour,
                            label=label)  # fmt: skip
    shares.set(xlabel="node", ylabel="share of activity in the served class", ylim=(0, 1))
    shares.plot([], [], ":", color="#666666", label="before learning")
    shares.legend(fontsize=8)
    save(canvas, path)


if __name__ == "__main__":
    typer.run(main)
