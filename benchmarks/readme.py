"""Renew the README's table and sentence from the kept results of the main job.

`python -m benchmarks.readme RESULTS` copies a run's `results.json` (without its curves) and figure
into `docs/results` and writes what stands between the README's markers; a test compares the two.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import COLUMNS, verdict
from benchmarks.results import write_json

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "results"
FIGURE = "d_error_against_seconds.png"
BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def table(results: dict[str, Any]) -> str:
    """Markdown of the rows: seconds to each tolerance."""
    problem, environment = results["problem"], results["environment"]
    lines = [
        "| seconds to a relative error of | 1e-1 | 1e-2 | 1e-3 | 1e-4 | discretisation |",
        "|---|---:|---:|---:|---:|---:|",
    ]
    for row in results["methods"].values():
        cells = [_cell(row["seconds_to"][column]) for column in COLUMNS]
        lines.append(f"| {row['label']} | {' | '.join(cells)} |")
    device = environment["device"]
    notes = [
        f"{verdict(results['speedup'])} {problem['intervals'][0]} intervals, "
        f"{device['cores']} cores of {device['processor']}, "
        f"jax {environment['versions']['jax']}, {environment['precision']}; compilation apart, "
        "– not reached within 1.2 times Jacobi alone.",
        *_over_seeds(results),
        *_growth(results),
    ]
    return "\n".join([*lines, "", *notes])


def _over_seeds(results: dict[str, Any]) -> list[str]:
    """Ratios of the five networks, and the regret, where the run was a full one."""
    if not results.get("seeds"):
        return []
    ratios = [
        row[results["seeds"]["columns"].index("× Jacobi")] for row in results["seeds"]["rows"]
    ]
    shown = ", ".join(f"{ratio:.3g}" if ratio is not None else "–" for ratio in ratios)
    regret = results["handoff"]["regret"]
    return [
        "",
        f"Five networks, times Jacobi alone to 1e-4: {shown}. The scheduler's worst regret against "
        f"zero and ten fixed handoffs of the same training: {regret:.3g}.",
    ]


def _growth(results: dict[str, Any]) -> list[str]:
    """Seconds to 1e-4 by grid, where the run was a full one."""
    growth = results["scaling"]
    if not growth:
        return []
    sizes = growth["intervals"]
    lines = [
        "",
        f"| seconds to 1e-4 at | {' | '.join(map(str, sizes))} | grows as n to the |",
        f"|---|{'---:|' * (len(sizes) + 1)}",
    ]
    for label, column, *numbers in growth["rows"]:
        if column == "1e-04" and any(number is not None for number in numbers):
            lines.append(f"| {label} | {' | '.join(map(_cell, numbers))} |")
    return lines


def renewed(readme: str, results: dict[str, Any]) -> str:
    """The README with a fresh table between the markers."""
    before, rest = readme.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{table(results)}\n{END}{after}"


def _cell(seconds: float | None) -> str:
    return "–" if seconds is None else f"{seconds:.3g}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("results", type=Path, help="output folder of benchmarks.poisson_hybrid")
    folder = parser.parse_args(argv).results
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    results.pop("curves")
    write_json(KEPT / "poisson_hybrid.json", results)
    shutil.copy(folder / FIGURE, KEPT / FIGURE)
    readme = ROOT / "README.md"
    readme.write_text(renewed(readme.read_text(encoding="utf-8"), results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
