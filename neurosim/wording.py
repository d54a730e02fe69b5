"""Numbers in words, as people read them."""

import html
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean
from typing import Any

LABEL = 12
"""Columns of the labels in front of texts."""


def duration(seconds: float) -> str:
    """A time of any length in its two largest units: "31 ms", "2 min 5 s", "1 h 3 min".

    >>> duration(125.2)
    '2 min 5 s'
    """
    if seconds < 0.9995:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 59.5:
        return f"{seconds:.2g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min"
    return f"{hours // 24} d {hours % 24} h"


def size(count: float) -> str:
    """Bytes with a decimal prefix.

    >>> size(5_277_120)
    '5.28 MB'
    """
    for prefix in ("", "k", "M", "G"):
        if count < 999.5:
            return f"{count:.3g} {prefix}B" if count < 9.95 else f"{count:.0f} {prefix}B"
        count /= 1000
    return f"{count:.3g} TB"


def percent(fraction: float) -> str:
    """A fraction in percent; "100 %" only for all, "0 %" only for none.

    >>> percent(0.0339), percent(0.99999), percent(1.0)
    ('3.4 %', '99.9 %', '100 %')
    """
    if fraction in (0, 1):
        return f"{fraction:.0%}".replace("%", " %")
    return f"{min(max(100 * fraction, 0.1), 99.9):.1f} %"


def budget(planned: int, asked: int) -> Iterator[tuple[str, str]]:
    """Label and text of a run that is to do fewer presentations than its stages ask for.

    >>> list(budget(14, 840))
    [('shown', '14 of the 840 presentations that its stages ask for, by spiking.presentations')]
    """
    if planned < asked:
        asks = f"{asked} presentations that its stages ask for"
        yield "shown", f"{planned} of the {asks}, by spiking.presentations"


def shortened(found: dict[str, float], done: int) -> Iterator[tuple[str, str]]:
    """Label and text of a run that had to cut its fixed steps; see `Run`. done: presentations.

    >>> list(shortened({"presentations": 12, "first": 126, "step": 0.0025}, 700))
    [('steps', 'cut in 12 of 700 presentations, from number 126 on, down to 2.5 ms')]
    """
    if found:
        text = f"cut in {found['presentations']:g} of {done} presentations"
        text += f", from number {found['first']:g} on, down to {duration(found['step'])}"
        if found["presentations"] > done / 2:
            text += "; a shorter rate.dt may take less time"
        yield "steps", text


def rounded(residual: float | None, tolerance: float, precision: str) -> str:
    """Of samples that all settled, how far only, where rounding is what ended it; else nothing.

    residual, tolerance: as fractions of the expected learning signal.

    >>> rounded(0.058, 0.001, "float32")
    ", to rounding: float32 leaves up to 5.8 % of the expected signal; use precision = 'float64'"
    """
    if residual is None or residual <= tolerance:
        return ""
    advice = "; use precision = 'float64'" if precision == "float32" else ""
    left = f"{100 * residual:.2g} % of the expected signal"
    return f", to rounding: {precision} leaves up to {left}{advice}"


def metrics(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Labels and texts of losses and errors, such as `test_loss` and `validation_error`."""
    for name, value in found.items():
        write = percent if name.endswith("error") else "{:.4g}".format
        yield name.replace("_", " "), _over_seeds(value, write)


def _over_seeds(value: Any, write: Callable[[float], str]) -> str:
    if not isinstance(value, list):
        return "not a number" if value is None else write(value)
    known = [v for v in value if v is not None]
    if not known:
        return "not a number for any seed"
    low, high = write(min(known)), write(max(known))
    lost = f", {len(value) - len(known)} lost" if len(known) < len(value) else ""
    return f"{write(fmean(known))}, mean of {plural(len(known), 'seed')} ({low} to {high}){lost}"


def plural(count: int, word: str) -> str:
    """A count and its noun: "1 seed", "2 seeds"."""
    return f"{count} {word}{'' if count == 1 else 's'}"


def listed(values: Sequence[object], most: int = 8) -> str:
    """Values, shortened in the middle where there are many: "0, 1, 2, ..., 99"."""
    words = [str(value) for value in values]
    if len(words) > most:
        words = [*words[: most - 2], "...", words[-1]]
    return ", ".join(words)


def labelled(rows: Iterable[tuple[str, str]], width: int) -> list[str]:
    """Lines of a label and its text, which is wrapped to `width` columns under itself."""
    lines: list[str] = []
    for label, text in rows:
        lines += textwrap.wrap(
            text,
            max(width, 3 * LABEL),
            initial_indent=f"  {label:<{LABEL}}",
            subsequent_indent=" " * (LABEL + 2),
            break_long_words=False,
            break_on_hyphens=False,
        )
    return lines


def tabled(rows: Iterable[tuple[str, str]]) -> str:
    """Labels and texts as a table of HTML, which notebooks show.

    >>> tabled([("loss", "0.1 < 0.2")])
    '<table><tr><th>loss</th><td>0.1 &lt; 0.2</td></tr></table>'
    """
    cells = (f"<tr><th>{html.escape(k)}</th><td>{html.escape(v)}</td></tr>" for k, v in rows)
    return f"<table>{''.join(cells)}</table>"
