"""Tables of a trace, as pandas has them."""

from collections.abc import Iterator
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np

from neurosim.exports.spikes import populations, spikes
from neurosim.traces.reader import studying

if TYPE_CHECKING:
    import pandas

APART = ("provenance", "spikes")
"""Groups that hold documents, and spikes in the layout of SONATA."""

COLUMNS = "columns"
"""The table that says what the columns of the others are."""

UNTOLD = {"unit": "1", "description": ""}


def to_tables(file: str | PathLike[str]) -> "dict[str, pandas.DataFrame]":
    """Everything that a trace holds, as tables by name.

    Of every group there is a table for each set of dimensions that its arrays have: a column for
    each dimension, with its coordinates, and one for each array. The only one of a group is called
    as the group, as `evaluation` and `traces/layer1`; one of a single array as group and array, as
    `weights/W1`; another by its dimensions, as `metrics/presentation-phase`. A dimension `seed`,
    which traces of several seeds have, stands in no name. What a group above says of the same rows,
    such as the `phase_at` of every moment, is a column too; phases stand by name.

    `spikes/<population>` has a row for every spike: the presentation and the sample, or the sweep;
    the unit and which of its neurons, or the copy or cell; the `time` since the trial began (ms).
    `columns` says of every column of the other tables its `unit` and what it is.

    file: a trace, of a network or of cells, finished or not.

    Raises:
        InputError: it is no trace.
    """
    from pandas import DataFrame

    with studying(file) as opened:
        tree: Any = opened  # whose values mypy takes for a function
        sweeps = [str(name) for name in tree["sweep"].values] if "sweep" in tree.coords else []
        found: dict[str, pandas.DataFrame] = {}
        told: list[dict[str, str]] = []
        for name, columns, about in [*_of_groups(tree), *_of_spikes(tree, sweeps)]:
            found[name] = columns
            names = columns.columns.tolist()
            told += [{"table": name, "column": c, **about.get(c, UNTOLD)} for c in names]
        found[COLUMNS] = DataFrame(told, columns=["table", "column", "unit", "description"])
        return found


Table = tuple[str, "pandas.DataFrame", dict[str, dict[str, str]]]
"""A name, the table, and of its columns the unit and what they are."""


def _of_groups(tree: Any) -> Iterator[Table]:
    from xarray import Dataset

    for group in tree.subtree:
        path = group.path.strip("/")
        if path.partition("/")[0] in APART or not group.data_vars:
            continue
        kinds: dict[tuple[str, ...], list[str]] = {}
        for name, variable in group.data_vars.items():
            kinds.setdefault(tuple(map(str, variable.dims)), []).append(str(name))
        for dims, names in kinds.items():
            title = path
            if len(kinds) > 1 or not path:
                by = names[0] if len(names) == 1 else "-".join(d for d in dims if d != "seed")
                title = f"{path}/{by}".strip("/")
            data = dict(_above(group, dims))
            data |= {name: group[name] for name in names}
            about = {str(n): _about(v) for n, v in [*group.coords.items(), *data.items()]}
            if not dims:
                yield title, _scalars(data), about
                continue
            held = Dataset({name: _named(v) for name, v in data.items()})
            held = held.assign_coords({d: _named(held[d]) for d in held.coords})
            yield title, held.to_dataframe(dim_order=list(dims)).reset_index(), about


def _scalars(data: dict[str, Any]) -> "pandas.DataFrame":
    from pandas import DataFrame

    return DataFrame({name: [variable.values[()]] for name, variable in data.items()})


def _above(group: Any, dims: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Arrays of the groups above, but for the root, that say something of the same rows."""
    for parent in group.parents[:-1]:
        for name, variable in parent.data_vars.items():
            if set(variable.dims) <= set(dims):
                yield str(name), variable


def _named(variable: Any) -> Any:
    """Codes as the names that they stand for; "" for those that stand for none."""
    if "flag_meanings" not in variable.attrs:
        return variable
    names = np.array([*str(variable.attrs["flag_meanings"]).split(), ""])
    return variable.copy(data=names[variable.values])


def _about(variable: Any) -> dict[str, str]:
    told = variable.attrs
    return {
        "unit": str(told.get("units", "1")),
        "description": str(told.get("long_name", "")),
    }


def _of_spikes(tree: Any, sweeps: list[str]) -> Iterator[Table]:
    from pandas import DataFrame

    about = {
        "time": {"unit": "ms", "description": "of the spike, since its trial began"},
        "neuron": {"unit": "1", "description": "of those behind the unit, from 0"},
    }
    for name in populations(tree):
        found = spikes(tree, name)
        columns: dict[str, Any] = {**found.trial, **found.neuron, "time": found.time}
        if sweeps:
            columns["sweep"] = np.array(sweeps)[columns["sweep"]]
        yield f"spikes/{name}", DataFrame(columns), about
