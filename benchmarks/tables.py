"""Tables of docs/performance.md from the latest results: `python benchmarks/tables.py [DEVICE]`.

Prints how cost grows (`--only scaling`), how many samples a second protocols learn from
(`--only throughput`) and what a GPU is for (`--only gpu`) as Markdown.
"""

import json
import sys
from typing import Any

from measure import FOLDER


def main(device: str = "cpu") -> None:
    """Print all that there are."""
    kept = json.loads((FOLDER / f"results-{device}.json").read_text())
    parts = kept["parts"]
    for name, table in (("scaling", growth), ("throughput", learned), ("gpu", listed)):
        if name in parts:
            when, commit = parts[name]["when"], parts[name]["commit"]
            print(f"{name}, {kept['machine']['device']}, {when}, commit {commit}\n")
            print(table({row["what"]: row for row in parts[name]["rows"]}) + "\n")


def growth(rows: dict[str, Any]) -> str:
    """Milliseconds of every size of an axis, and the exponent."""
    lines = ["| growing | sizes | ms | exponent | wanted |", "| --- | --- | --- | --- | --- |"]
    for what, row in rows.items():
        if not what.startswith("scaling: exponent of "):
            continue
        axis = what.removeprefix("scaling: exponent of ")
        sizes = {k.split()[-1]: of for k, of in rows.items() if k.startswith(f"scaling: {axis} ")}
        times = ", ".join(f"{of['best']:.3g}" for of in sizes.values())
        sign, number = row["limit"]
        met = "" if row["value"] <= number else ", missed"
        wanted = f"{sign.replace('<=', '≤')} {number:g}{met}"
        lines.append(f"| {axis} | {', '.join(sizes)} | {times} | {row['value']:.2f} | {wanted} |")
    return "\n".join(lines)


def learned(rows: dict[str, Any]) -> str:
    """Samples a second of every protocol at its levels."""
    lines = ["| protocol | equilibrium | rate | spiking |", "| --- | --- | --- | --- |"]
    found: dict[str, dict[str, str]] = {}
    for what, row in rows.items():
        name, _, level = what.removeprefix("samples learned from: ").rpartition(", ")
        found.setdefault(name, {})[level] = f"{row['value']:.3g}" if "value" in row else "-"
    for name, levels in found.items():
        cells = (levels.get(level, "") for level in ("equilibrium", "rate", "spiking"))
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def listed(rows: dict[str, Any]) -> str:
    """Every row of a part, with what is wanted."""
    lines = ["| what | measured | wanted |", "| --- | --- | --- |"]
    for what, row in rows.items():
        limit = row.get("limit")
        wanted = f"{limit[0]} {limit[1]:g} {row['unit']}, {row['verdict']}" if limit else ""
        found = f"{row['value']:.3g} {row['unit']}" if "value" in row else f"– ({row['why']})"
        lines.append(f"| {what} | {found} | {wanted} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(*sys.argv[1:])
