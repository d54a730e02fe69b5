"""What a recording has to say in a comparison: of cells alone, or of cells and their synapses."""

import json
import re
from collections.abc import Iterator
from os import PathLike
from typing import Any, NamedTuple

import numpy as np

from neurosim.comparison.trains import Trains, trains

CHANCE = re.compile(r"\b(xi|rand)\b")
"""What equations draw."""

TEXTS = ("equations", "threshold", "reset", "on_pre", "on_post")
"""Where equations stand."""


class Quantity(NamedTuple):
    """Over time: (sweeps, cells or synapses, moments)."""

    unit: str
    values: np.ndarray


class Weights(NamedTuple):
    """Of synapses, `before` and `after`: (sweeps, synapses). pairs: the cells that they join."""

    unit: str
    pairs: np.ndarray
    values: dict[str, np.ndarray]


class _Recorded:
    """What both kinds have."""

    def __init__(self, path: str | PathLike[str], tree: Any) -> None:
        self.path, self.tree = path, tree
        self.protocol = json.loads(str(tree["provenance/protocol_json"].values))
        self._summary = json.loads(str(tree.attrs.get("summary", "{}")))
        self.sweeps = [str(name) for name in tree["sweep"].values]
        self.time = tree["recording/time"].values

    @property
    def units(self) -> dict[str, str]:
        """Of what was measured."""
        return dict(self._summary.get("units", {}))

    @property
    def by_sweep(self) -> dict[str, list[float | None]]:
        """What was measured in every sweep."""
        return dict(self._summary.get("sweeps", {}))

    def _about(self, cell: str) -> dict[str, Any]:
        about = self.tree.attrs
        return {
            "path": str(self.path),
            "protocol": str(about["protocol"]),
            "cell": cell,
            "level": str(about["level"]),
            "seed": self.protocol["seed"],
        }

    @property
    def _noisy(self) -> bool:
        kinds = [given["kind"] for given in self.protocol.get("stimuli", ())]
        return "ornstein-uhlenbeck" in kinds

    def _dealt(self, name: str, cells: int, same: bool, spreads: bool) -> Trains:
        """The trains of so many cells of every sweep."""
        group, sweeps = self.tree[f"spikes/{name}"], len(self.sweeps)
        number = np.arange(sweeps * cells)
        # What copies draw is theirs in all sweeps.
        condition = number // cells if same and not spreads else np.zeros(len(number), int)
        return trains(
            group["timestamps"].values / 1e3,
            group["node_ids"].values.astype(np.int64),
            np.full(sweeps, float(self.time[-1]) / 1e3),
            cells,
            condition,
            number % cells if spreads else number,
        )


def _draws(model: dict[str, Any]) -> bool:
    """Whether equations draw."""
    return any(CHANCE.search(str(model.get(key, ""))) for key in TEXTS)


def _spread(model: dict[str, Any]) -> bool:
    """Whether cells draw parameters."""
    return any(isinstance(p, dict) for p in model.get("parameters", {}).values())


class Alone(_Recorded):
    """Cells of one kind without synapses.

    spreads: whether copies draw parameters of their own. quiet: whether nothing is drawn.
    """

    def __init__(self, path: str | PathLike[str], tree: Any) -> None:
        super().__init__(path, tree)
        model = self.protocol["model"]
        self.spreads = _spread(model)
        self.quiet = not (self._noisy or _draws(model) or self.spreads)
        self.weights: dict[str, Weights] = {}
        self.curve: dict[str, Any] = {}

    @property
    def about(self) -> dict[str, Any]:
        """What it is, as plain data."""
        return self._about(str(self.tree.attrs["model"]))

    @property
    def measures(self) -> dict[str, float | None]:
        """What was measured of the cell."""
        return dict(self._summary.get("cell", {}))

    @property
    def quantities(self) -> dict[str, Quantity]:
        """What was recorded of the cells, without stimuli."""
        group = self.tree["recording"]
        names = (str(name) for name in group.data_vars if not str(name).startswith("stimulus"))
        return {n: Quantity(str(group[n].attrs["units"]), group[n].values) for n in names}

    def trains(self, same: bool, spreads: bool) -> dict[str, Trains]:
        """Of every copy of every sweep; none of cells that do not spike."""
        name = str(self.tree.attrs["model"])
        if "spikes" not in self.tree:
            return {}
        copies = int(self.tree[f"spikes/{name}"].attrs["copies"])
        return {name: self._dealt(name, copies, same, spreads)}


class Wired(_Recorded):
    """Groups of cells with synapses between them."""

    def __init__(self, path: str | PathLike[str], tree: Any) -> None:
        super().__init__(path, tree)
        cells, synapses = self.protocol["cells"], self.protocol.get("synapses", {})
        self.spreads = any(map(_spread, cells.values()))
        trained = [given["spikes"]["kind"] for given in cells.values() if given.get("spikes")]
        wired = any(given.get("chance") for given in synapses.values())
        texts = any(map(_draws, (*cells.values(), *synapses.values())))
        chance = self._noisy or texts or wired or "poisson" in trained
        self.quiet = not (chance or self.spreads)

    @property
    def about(self) -> dict[str, Any]:
        """What it is, as plain data."""
        return self._about(", ".join(self.protocol["cells"]))

    @property
    def measures(self) -> dict[str, float | None]:
        """Of what was measured in every sweep the mean of those that have a number."""
        found: dict[str, float | None] = {}
        for name, values in self.by_sweep.items():
            known = [value for value in values if value is not None]
            found[name] = float(np.mean(known)) if known else None
        return found

    @property
    def curve(self) -> dict[str, list[float | None]]:
        """What the protocol draws over its sweeps."""
        return dict(self._summary.get("curve", {}))

    def _over_time(self) -> Iterator[tuple[str, Quantity]]:
        for owner, group in self.tree["recording"].children.items():
            for name, variable in group.data_vars.items():
                yield f"{owner}.{name}", Quantity(str(variable.attrs["units"]), variable.values)

    @property
    def quantities(self) -> dict[str, Quantity]:
        """What was recorded of cells and synapses."""
        return dict(self._over_time())

    @property
    def weights(self) -> dict[str, Weights]:
        """Of all synapses that are plastic."""
        if "weights" not in self.tree.children:
            return {}
        return {
            owner: Weights(
                str(group["before"].attrs["units"]),
                np.stack([group[end].values for end in ("pre", "post")]),
                {when: group[when].values for when in ("before", "after")},
            )
            for owner, group in self.tree["weights"].children.items()
        }

    def trains(self, same: bool, spreads: bool) -> dict[str, Trains]:
        """Of every group that spikes."""
        if "spikes" not in self.tree:
            return {}
        counted = {
            name: int(group.attrs["cells"]) for name, group in self.tree["spikes"].children.items()
        }
        return {name: self._dealt(name, cells, same, spreads) for name, cells in counted.items()}
