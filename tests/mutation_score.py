"""What became of the mutants that `mutants.py` drew, and the score that follows, as Markdown.

`mutants.json` keeps it: for each module how many were killed when they were first drawn, and what
becomes of each now. `mutants.toml` explains survivors that no test should kill.
"""

import json
import tomllib
from collections import Counter
from pathlib import Path

from scipy.stats import binomtest

RESULTS = Path(__file__).with_name("mutants.json")
KNOWN = tomllib.loads(RESULTS.with_suffix(".toml").read_text(encoding="utf-8"))


def outcomes() -> dict[str, dict]:
    """By module: `first`, the number killed when they were drawn, and `now`, each by its name."""
    return json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}


def keep(module: str, found: dict) -> None:
    """Put down the outcomes of a module, in the order of `mutants.toml`."""
    all = outcomes() | {module: found}
    ordered = {name: all[name] for name in KNOWN["core"] if name in all}
    RESULTS.write_text(json.dumps(ordered, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def dead(now: dict[str, str]) -> int:
    """How many were noticed; what runs out of time stands out, too."""
    return sum(outcome != "survived" for outcome in now.values())


def unexplained(module: str, now: dict[str, str]) -> list[str]:
    """Those that survived and are not explained, whatever line they have moved to."""
    known = {f"{e['line']} → {e['mutant']}" for e in KNOWN["explained"] if e["module"] == module}
    survivors = [name for name, outcome in now.items() if outcome == "survived"]
    return [name for name in survivors if name.split(": ", 1)[1] not in known]


def table() -> str:
    """Module by module, and all of them, with the score: the share that was killed at first."""
    columns = "mutants", "killed at first", "killed now", "explained", "open"
    rows, total = {}, Counter()
    for module, found in outcomes().items():
        now, left = found["now"], len(unexplained(module, found["now"]))
        numbers = len(now), found["first"], dead(now), len(now) - dead(now) - left, left
        rows[f"`{module}`"] = dict(zip(columns, numbers, strict=True))
        total.update(rows[f"`{module}`"])
    lines = [f"| module | {' | '.join(columns)} |", "| --- " * 6 + "|"]
    for name, row in {**rows, "all": total}.items():
        lines.append(f"| {name} | {' | '.join(str(row[column]) for column in columns)} |")
    first, drawn = total["killed at first"], total["mutants"]
    low, high = binomtest(first, drawn).proportion_ci(method="wilson")
    score, low, high = (round(100 * share) for share in (first / drawn, low, high))
    words = (
        f"**The score is {score} % (95 % interval {low} to {high} %, Wilson)**: {first} of {drawn}."
    )
    return "\n".join([*lines, "", words])
