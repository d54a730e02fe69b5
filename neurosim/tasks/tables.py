"""A user's own table: CSV or Parquet, a row a sample."""

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from neurosim.errors import InputError, arrived, unknown
from neurosim.extras import needed
from neurosim.plain import plain
from neurosim.tasks import checks, samples
from neurosim.tasks.data import Data

if TYPE_CHECKING:
    import pandas

ENDINGS = (".csv", ".tsv", ".parquet")


@dataclass(frozen=True)
class Table:
    """A table in a CSV (or tab-separated `.tsv`) or Parquet file: a row a sample, columns by name.

    The first row of a CSV names the columns. Every cell of a feature is a number (true and false
    are 1 and 0) and none is empty. One column `target` of texts, or of whole numbers 0 … C-1,
    holds classes; of other numbers, or several columns, it is a regression target. Splits are as of
    `Arrays`.

    Args:
        path: the file, `.csv`, `.tsv` or `.parquet`; `~` is the home directory.
        target: the column that is to be learned, or a list of several.
        features: the columns that are the input, in this order; all others where not given.
        test_path: another such file, of the samples to be tested on; where not given, a part is
            held out.
        classes: whether the target is a class, each distinct value one, in ascending order; where
            not given, as above.
        test_fraction, split_seed, standardise, validation: as of `Arrays`.
    """

    path: str | Path
    target: str | list[str] = "y"
    features: list[str] | None = None
    test_path: str | Path | None = None
    classes: bool | None = None
    test_fraction: float = 0.2
    split_seed: int | None = None
    standardise: bool = False
    validation: float | None = None

    summary: ClassVar[str] = "your own table, a row a sample: .csv, .tsv or .parquet"
    source: ClassVar[str] = "the user's file"

    def __post_init__(self) -> None:
        checks.path("table: path", self.path)
        if self.test_path is not None:
            checks.path("table: test_path", self.test_path)
        _names("table: target", self.target)
        if self.features is not None:
            _names("table: features", self.features)
        checks.switch_or_none("table: classes", self.classes)
        checks.splitting("table", self)

    @property
    def shared(self) -> bool:
        """Whether `split_seed` says which split, or there is nothing to split."""
        split = self.test_path is None or self.validation is not None
        return self.split_seed is not None or not split

    @property
    def inputs(self) -> int | None:
        """None: the file says it."""
        return None

    @property
    def outputs(self) -> int | None:
        """None: the file says it."""
        return None

    @cached_property
    def _held(self) -> dict[str, np.ndarray]:
        path = checks.path("table: path", self.path)
        table = _read(path)
        targets = _names("table: target", self.target)
        others = [name for name in table.columns if name not in targets]
        features = others if self.features is None else _names("table: features", self.features)
        _refuse_missing(path, table, {"target": targets, "features": features})
        if both := [name for name in features if name in targets]:
            raise InputError(f"table: features: {both[0]!r} is the target, too; expected another")
        if not features:
            raise InputError(f"{path}: has no column beside {', '.join(targets)}")
        arrays = dict(zip(("x", "y"), _split(path, table, features, targets), strict=True))
        if self.test_path is not None:
            other = checks.path("table: test_path", self.test_path)
            tested = _read(other)
            _refuse_missing(other, tested, {"target": targets, "features": features})
            if extra := [name for name in tested.columns if name not in table.columns]:
                raise InputError(f"{other}: has a column {extra[0]!r}, which {path} has not")
            pair = _split(other, tested, features, targets)
            arrays |= dict(zip(("x_test", "y_test"), pair, strict=True))
        return samples.checked(path, arrays)

    def draw(self, rng: np.random.Generator) -> Data:
        """The data, split by `rng` or by `split_seed`.

        Raises:
            InputError: a file is missing or no such table, or pyarrow is, which reads Parquet.
        """
        path = checks.path("table: path", self.path)
        return samples.divided(path, self._held, self.classes, self, rng)


def _names(where: str, value: Any) -> list[str]:
    """One name, or a list of several that are not the same."""
    names = [value] if isinstance(value, str) else plain(value)
    listed = isinstance(names, list) and names and all(isinstance(n, str) for n in names)
    if not listed or len(set(names)) < len(names):
        what = "the name of a column, or a list of several"
        raise InputError(f"{where}: got {arrived(value)}; expected {what}")
    return names


def _refuse_missing(path: Path, table: "pandas.DataFrame", wanted: dict[str, list[str]]) -> None:
    problems = [
        f"{path}: {unknown('column', name, table.columns)}, for task.{key}"
        for key, names in wanted.items()
        for name in names
        if name not in table.columns
    ]
    if problems:
        raise InputError(problems)


def _read(path: Path) -> "pandas.DataFrame":
    """All of the file, as it says it."""
    ending = path.suffix.lower()
    if ending not in ENDINGS:
        raise InputError(f"{path}: is no table; expected {', '.join(ENDINGS[:-1])} or .parquet")
    if not os.path.isfile(path):
        what = "is a folder" if os.path.isdir(path) else "no such file"
        raise InputError(f"{path}: {what}; expected a table")
    table = _of_parquet(path) if ending == ".parquet" else _of_text(path, ending)
    if not len(table):
        raise InputError(f"{path}: has no rows below the names of its columns")
    return table


def _of_parquet(path: Path) -> "pandas.DataFrame":
    with needed("parquet", f"{path}"):
        import pyarrow  # noqa: F401  with which pandas reads them
    import pandas

    try:
        table = pandas.read_parquet(path, engine="pyarrow")
    except Exception as problem:  # pyarrow has its own
        reason = str(problem).partition("\n")[0]
        raise InputError(f"{path}: cannot be read as Parquet ({reason})") from None
    table.columns = [str(name) for name in table.columns]
    return table


def _of_text(path: Path, ending: str) -> "pandas.DataFrame":
    import pandas

    given: dict[str, Any] = {"sep": "\t" if ending == ".tsv" else ",", "skip_blank_lines": False}
    try:
        names = pandas.read_csv(path, header=None, nrows=1, dtype=str, **given).iloc[0].tolist()
        table = pandas.read_csv(path, header=0, names=range(len(names)), index_col=False, **given)
    except UnicodeDecodeError as problem:
        raise InputError(
            f"{path}: byte {problem.start} is no UTF-8; expected a text in UTF-8"
        ) from None
    except (ValueError, OSError) as problem:  # pandas' own are of the first
        reason = str(problem).removeprefix("Error tokenizing data. C error: ").strip()
        raise InputError(f"{path}: cannot be read as a table ({reason})") from None
    names = ["" if pandas.isna(name) else str(name).strip() for name in names]
    if all(_is_number(name) for name in names):
        raise InputError(
            f"{path}: its first row is {arrived(', '.join(names))}; expected the names of the "
            "columns"
        )
    for number, name in enumerate(names, start=1):
        if not name or names.index(name) < number - 1:
            what = f"the name {name!r} again" if name else "no name"
            raise InputError(f"{path}: column {number} has {what}; expected one of its own")
    table.columns = names
    filled = np.flatnonzero(table.notna().any(axis=1))
    return table.iloc[: filled[-1] + 1 if len(filled) else 0]  # blank lines may end a file


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _split(
    path: Path, table: "pandas.DataFrame", features: list[str], targets: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets; one target may be of texts."""
    x = np.stack([_numbers(path, table, name) for name in features], axis=1)
    if len(targets) > 1:
        return x, np.stack([_numbers(path, table, name) for name in targets], axis=1)
    column = table[targets[0]]
    _refuse_empty(path, targets[0], column)
    if column.dtype.kind in "biuf":
        return x, _numbers(path, table, targets[0], whole=True)
    return x, column.astype(str).to_numpy().astype(np.str_)


def _numbers(path: Path, table: "pandas.DataFrame", name: str, whole: bool = False) -> np.ndarray:
    """A column as numbers; whole: those that are whole stay so."""
    import pandas

    column = table[name]
    _refuse_empty(path, name, column)
    if column.dtype.kind not in "biuf":
        found = pandas.to_numeric(column, errors="coerce")
        if (bad := found.isna().to_numpy()).any():
            row = int(bad.argmax())
            raise InputError(
                f"{path}: row {row + 1} (below the names): column {name!r}: got "
                f"{arrived(column.iloc[row])}; expected a number"
            )
        column = found
    values = column.to_numpy()
    return values if whole else values.astype(np.float64)


def _refuse_empty(path: Path, name: str, column: "pandas.Series") -> None:
    empty = column.isna().to_numpy()
    if empty.any():
        raise InputError(
            f"{path}: row {int(empty.argmax()) + 1} (below the names): column {name!r} is empty; "
            "expected a value in every row"
        )
