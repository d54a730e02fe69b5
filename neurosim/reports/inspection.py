"""What `neurosim inspect` says: what a trace is and what it holds."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from neurosim import wording
from neurosim.reports import recordings, synapses
from neurosim.reports.provenance import named, origin, what, when
from neurosim.reports.variables import in_words as _variables
from neurosim.traces.reader import Arrays, interpreting, records_cell, records_synapses

STATUS = {
    "complete": "complete",
    "diverged": "diverged: every seed left the finite numbers",
    "interrupted": "interrupted; holds all up to there",
    "killed": "killed while it ran; holds all up to the last flush",
    "running": "still running",
}


def inspect(path: str | Path) -> dict[str, Any]:
    """What a trace is and what it holds, finished or not, as plain data.

    Among the keys: `status`; `protocol`, `model`, `level` and `seeds`; `presentations`, how many
    are done of how many; `metrics`, the last ones (lists over seeds where there are several);
    `phases`, each with the fraction of samples that settled, in the mean and at worst over
    presentations and seeds, and the largest residual, as a fraction of the expected signal;
    `variables` with dims, shape and units; `resolved`, the protocol. Of
    a recording of a cell see `neurosim.reports.recordings.inspect`, of several with synapses
    between them `neurosim.reports.synapses.inspect`.

    Raises:
        InputError: there is no such file, or it is no intact trace.
    """
    with interpreting(path):
        if not records_cell(path):
            return _inspect(path)
        return (synapses if records_synapses(path) else recordings).inspect(path)


def _inspect(path: str | Path) -> dict[str, Any]:
    said, about, summary = origin(path)
    with Arrays.of(path) as tree:
        done = _done(tree)
        metrics, after = _metrics(tree)
        phases, shortened = _phases(tree), _shortened(tree)
        planned = tree["traces/presentation"].tolist() if "traces" in tree else []
    return said | {
        "model": about["model"],
        "precision": about["precision"],
        "plasticity": about["plasticity"],
        "seeds": [int(seed) for seed in about["seeds"].split(",")],
        "presentations": {"done": done[0], "total": done[1]},
        "metrics": summary.get("metrics", metrics),
        "metrics_after": after,
        "diverged": summary.get("diverged", []),
        "phases": phases,
        "shortened": shortened,
        "recorded": [number for number in planned if number < done[0]],
    }


def in_words(report: dict[str, Any], width: int = 80) -> str:
    """What `inspect` returns, as text for people."""
    if "cell" in report:
        return recordings.in_words(report, width)
    if "curve" in report:
        return synapses.in_words(report, width)
    rows = [*_about(report), *_results(report), *_settling(report)]
    lines = [
        f"{report['path']}: a trace of {wording.size(report['bytes'])}",
        *wording.labelled(rows, width),
        "  variables:",
        *_variables(report, width),
    ]
    return "\n".join(lines)


# --- reading ------------------------------------------------------------------------------------


def _by_seed(tree: Arrays, name: str) -> np.ndarray:
    """A variable over (presentation, seed, …)."""
    return tree[name] if "seed" in tree.dims(name) else np.expand_dims(tree[name], 1)


def _done(tree: Arrays) -> tuple[int, int]:
    written = ~np.isnan(_by_seed(tree, "metrics/effort")).all(axis=(1, 2))
    return int(np.max(np.flatnonzero(written), initial=-1)) + 1, len(written)


def _metrics(tree: Arrays) -> tuple[dict[str, Any], int | None]:
    """The metrics of the last test, and after how many presentations it was."""
    loss, error = _by_seed(tree, "evaluation/loss"), _by_seed(tree, "evaluation/error")
    tests = np.flatnonzero(~np.isnan(_by_seed(tree, "evaluation/loss")).all(axis=1))
    if not tests.size:
        return {}, None
    tested = tree.attribute("evaluation/loss", "tested_on")
    metrics = {f"{tested}_loss": _of_seeds(loss[tests[-1]])}
    if not np.isnan(error).all():
        metrics[f"{tested}_error"] = _of_seeds(error[tests[-1]])
    return metrics, int(tree["evaluation/presentation"][tests[-1]])


def _of_seeds(values: np.ndarray) -> Any:
    plain = [float(value) if np.isfinite(value) else None for value in values]
    return plain if len(plain) > 1 else plain[0]


def _phases(tree: Arrays) -> list[dict[str, Any]]:
    settled, residual = (_by_seed(tree, f"metrics/{name}") for name in ("settled", "residual"))
    names = tree.names("phases/phase")
    plastic = [w for w in tree.members("phases") if w not in ("phase", "duration", "teaching")]
    phases = []
    for k, name in enumerate(names):
        seen, left = (found[..., k][~np.isnan(found[..., k])] for found in (settled, residual))
        phases.append(
            {
                "name": name,
                "duration_ms": float(tree["phases/duration"][k]),
                "taught": bool(tree["phases/teaching"][k] == 1),
                "plastic": [w for w in plastic if tree[f"phases/{w}"][k] == 1],
                "settled_mean": float(seen.mean()) if seen.size else None,
                "settled_worst": float(seen.min()) if seen.size else None,
                "residual_worst": float(left.max()) if left.size else None,
            }
        )
    return phases


def _shortened(tree: Arrays) -> dict[str, float]:
    """What became of fixed steps; see `Run`."""
    if "step" not in tree.members("metrics"):
        return {}
    whole = tree.attribute("metrics/step", "dt")
    parts = np.rint(whole / _by_seed(tree, "metrics/step"))
    most = np.nanmax(parts, axis=(1, 2), initial=1.0)
    cut = np.flatnonzero(most > 1)
    if not cut.size:
        return {}
    step = float(whole) / 1e3 / float(most.max())
    return {"presentations": len(cut), "first": int(cut[0]), "step": step}


# --- words --------------------------------------------------------------------------------------


def _about(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from what(report)
    layers = "-".join(map(str, report["resolved"]["model"]["layers"]))
    yield "model", named(f"{report['model']}, layers {layers}", report)
    yield "level", f"{report['level']}, {report['precision']}, {report['plasticity']} plasticity"
    yield "seeds" if len(report["seeds"]) > 1 else "seed", wording.listed(report["seeds"])
    count = report["presentations"]
    progress = f"{count['done']} of {count['total']} presentations"
    yield "status", f"{STATUS.get(report['status'], report['status'])}; {progress}"
    yield from when(report)


def _results(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    yield from wording.metrics(report["metrics"])
    if report["status"] != "complete" and report["metrics_after"] is not None:
        yield "", f"(after {report['metrics_after']} presentations)"
    for entry in report["diverged"]:
        yield "diverged", entry["message"]


def _settling(report: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for phase in report["phases"]:
        if phase["settled_mean"] is None:
            continue
        mean, worst = (
            wording.percent(phase["settled_mean"]),
            wording.percent(phase["settled_worst"]),
        )
        what = f"{phase['name']}: {mean} of samples"
        if phase["settled_worst"] < 1:
            what += f", {worst} in the worst presentation"
        else:
            how = report["resolved"]["rate" if report["level"] == "rate" else "equilibrium"]
            given = phase["residual_worst"], how["tolerance"], report["precision"]
            what += wording.rounded(*given)
        yield "settled", what
    yield from wording.shortened(report["shortened"], report["presentations"]["done"])
    if report["recorded"]:
        yield "in detail", f"presentations {wording.listed(report['recorded'])}"
