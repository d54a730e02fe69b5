"""A sweep from its beginning: what is there already, the workers, and what comes of the rest."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax

from neurosim import wording
from neurosim.building.loading import Protocol
from neurosim.errors import IncompleteError, InputError, NeurosimWarning, arrived
from neurosim.process.progression import Runs, shown
from neurosim.process.stopping import delivering
from neurosim.runs.environment import cores
from neurosim.sweeps import results
from neurosim.sweeps.axes import given_by, label
from neurosim.sweeps.cluster import GoneError
from neurosim.sweeps.ledger import Ledger
from neurosim.sweeps.plan import Plan, Point, plan
from neurosim.sweeps.sending import Sweeping

if TYPE_CHECKING:
    import xarray

NAMED = 5
"""Points that are named where several are missing."""


def sweep(
    protocol: Protocol | str | Path,
    over: Mapping[str, Any] | None = None,
    *,
    seeds: Iterable[int] | None = None,
    level: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    start: str | Path | None = None,
    out: str | Path | None = None,
    workers: int | None = None,
    cluster: Any = None,
    device: str | None = None,
    force: bool = False,
    progress: bool | Callable[[Runs], None] | None = None,
) -> xarray.Dataset:
    """Run a protocol at every combination of values of some of its keys, in many processes.

    Points that are done are not run again: what a point is follows from its protocol with the text
    of its model, its seeds, its data, and the version of neurosim. What an earlier sweep left
    unfinished goes on where it was.

    protocol: as `run` takes it. over: lists of values by dotted key, such as
    {"model.parameters.mu": [0.05, 0.1]}; by default those of the protocol's table `sweep`. seeds:
    of every point, run as one array axis; by default of the table, else the protocol's own. level,
    overrides: for all points. start: a trace from whose weights every point starts, as `run` takes
    it. out: a folder, `outputs/sweeps/<protocol>-<level>` if not given.
    workers: processes of this machine, each with its share of the cores; by default one a core.
    cluster: in place of them the address of a Dask scheduler, its file, or what a launcher of Dask
    returns. device: as in `run`. force: run all points again. progress: as in `run`.

    Returns: a Dataset over the axes, called by the ends of their keys, and `seed`: `test_loss` and
    `test_error` (or `validation_loss` …), the curves `loss` and `error` over the `test`s of a run,
    `presentation` before each, whether a seed `diverged`, the fraction `settled`, `wall_s` (s),
    `state`, `reason` and `trace`. The folder has it as `sweep.nc`, and a table `sweep.csv`.

    Raises:
        InputError: something given is impossible; nothing was run.
        IncompleteError: points came to no end; it has the dataset of the others as `results`.
        StoppedError: as `run` does; the same call goes on.
    """
    made = plan(protocol, over, seeds, level, overrides, start)
    given = {"workers": workers, "cluster": cluster, "device": device, "force": force}
    return carry_out(made, out=out, progress=progress, **given)


def carry_out(
    made: Plan,
    *,
    out: str | Path | None = None,
    workers: int | None = None,
    cluster: Any = None,
    device: str | None = None,
    force: bool = False,
    progress: bool | Callable[[Runs], None] | None = None,
) -> xarray.Dataset:
    """Run what is not done of a plan; see `sweep`."""
    ledger, count = Ledger(folder(made, out)), worker_count(made, workers, cluster, device)
    name = made.protocol.spec.name
    with (
        delivering() as request,
        ledger.kept(_about(made)),
        shown(progress, name) as display,
    ):
        records = {} if force else known(made, ledger)
        todo = distinct(p for p in made.points if p.digest not in records)
        if force:
            for point in todo:
                ledger.trace(point.digest).unlink(missing_ok=True)
        if todo:
            before = len({point.digest for point in made.points}) - len(todo)
            sweeping = Sweeping(todo, made.seeds, ledger, device, before, display=display)
            try:
                sweeping.run(cluster, count, request)
            except GoneError as error:
                warnings.warn(str(error), NeurosimWarning, stacklevel=3)
            records |= sweeping.records
        found = results.gather(made, ledger, records)
        results.write(found, ledger.folder)
    _warn_of(made, records)
    missing = results.outstanding(made, records)
    if missing:
        raise IncompleteError(_missing(made, records, missing), found)
    return found


def folder(made: Plan, out: str | Path | None) -> Path:
    """Where a sweep goes."""
    spec = made.protocol.spec
    return Path(out) if out else Path("outputs") / "sweeps" / f"{spec.name}-{spec.level}"


def known(made: Plan, ledger: Ledger) -> dict[str, dict[str, Any]]:
    """The records of points that are done, by digest."""
    found = {point.digest: ledger.record(point.digest) for point in made.points}
    return {digest: record for digest, record in found.items() if record is not None}


def distinct(points: Iterable[Point]) -> list[Point]:
    """Points that differ in nothing that counts are run once."""
    return list({point.digest: point for point in points}.values())


def worker_count(made: Plan, given: int | None, cluster: Any, device: str | None) -> int:
    """Among how many processes of this machine its cores are shared; an accelerator is not.

    It does not depend on what is done already: a run goes on only with as many cores as it had.
    """
    if given is not None and cluster is not None:
        raise InputError(
            f"{given_by('workers')} and {given_by('cluster')}: got both; expected one of them"
        )
    if given is None:
        shared = device == "cpu" or jax.default_backend() == "cpu"
        return min(cores(), len(made.points)) if shared else 1
    if type(given) is not int or given < 1:
        raise InputError(
            f"{given_by('workers')}: got {arrived(given)}; expected how many processes, at least 1"
        )
    return given


def _about(made: Plan) -> dict[str, Any]:
    """What the folder says of the sweep for people, and for other programs."""
    return {
        "protocol": made.protocol.spec.model_dump(mode="json", exclude_none=True),
        "over": {axis.key: [label(value) for value in axis.values] for axis in made.axes},
        "seeds": made.seeds,
        "neurosim": version("neurosim"),
        "points": {made.words(point): point.digest for point in made.points},
    }


def _warn_of(made: Plan, records: Mapping[str, Mapping[str, Any]]) -> None:
    """What runs warned of, and those that failed."""
    said: dict[str, list[Point]] = {}
    for point in made.points:
        record = records.get(point.digest, {})
        for message in record.get("warnings", ()):
            said.setdefault(message, []).append(point)
        if record.get("state") == "failed":
            warnings.warn(
                f"{made.words(point)}: failed: {record['reason']}", NeurosimWarning, stacklevel=3
            )
    for message, points in list(said.items())[:NAMED]:
        more = f" and {len(points) - 1} more" if len(points) > 1 else ""
        warnings.warn(f"{made.words(points[0])}{more}: {message}", NeurosimWarning, stacklevel=3)


def _missing(made: Plan, records: Mapping[str, Mapping[str, Any]], missing: list[Point]) -> str:
    lines = [
        f"{wording.plural(len(missing), 'point')} of {len(made.points)} missing; the same sweep "
        "takes them up again:"
    ]
    for point in missing[:NAMED]:
        reason = records.get(point.digest, {}).get("reason", "was not reached")
        lines.append(f"{made.words(point)}: {reason}")
    if len(missing) > NAMED:
        lines.append(f"and {len(missing) - NAMED} more")
    return "\n".join(lines)
