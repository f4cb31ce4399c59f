"""Renew the README's tables and sentences from the kept results of the benchmarks.

`python -m benchmarks.readme RESULTS` copies the `results.json` (without its curves) and the figure
of a run of the main job, of `benchmarks.devices`, `multigrid` or `handoff`, or what
`benchmarks.frequency` found of each claim, into `docs/results` and writes what stands between the
README's markers; a test compares the two.
"""

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.devices.fields import SOLVERS
from benchmarks.devices.merging import compared
from benchmarks.devices.tables import speed_up, succeeded
from benchmarks.handoff.verdict import median_seconds, regrets, way_seconds
from benchmarks.multigrid.verdict import converged_seconds
from benchmarks.race import DISCRETIZATION
from benchmarks.report import COLUMNS, verdict
from benchmarks.results import write_json

ROOT = Path(__file__).parents[1]
KEPT = ROOT / "docs" / "results"
FIGURES = {
    "devices": "solvers.png",
    "poisson_hybrid": "d_error_against_seconds.png",
    "multigrid": "seconds_against_unknowns.png",
    "handoff": "regret_and_ways.png",
    "frequency": "mnist/rdf_by_layer.png",
}
# Seconds to a relative residual of 1e-8 at the largest size of each.
MULTIGRID_CASES = ("rough_2d", "rough_3d", "anisotropic_2d", "neumann_2d", "varying_2d", "discs_2d")


def hybrid_table(results: dict[str, Any]) -> str:
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
    to_discretization = {row[0]: row[2:-1] for row in growth["rows"] if row[1] == DISCRETIZATION}
    pairs = zip(
        to_discretization["Jacobi alone"], to_discretization["hybrid, scheduler"], strict=True
    )
    ratios = [_cell(alone / hybrid) if alone and hybrid else "–" for alone, hybrid in pairs]
    lines += [
        "",
        f"To the discretisation error the scheduler's hybrid is {', '.join(ratios)} times sooner "
        "than Jacobi alone on these grids.",
    ]
    return lines


def multigrid_table(results: dict[str, Any]) -> str:
    """Markdown of seconds to a relative residual of 1e-8 at the largest size of each case."""
    rows = {(row["case"], row["size"], row["solver"]): row for row in results["rows"]}
    cases = {case: max(size for c, size, _ in rows if c == case) for case in MULTIGRID_CASES}
    titles = [f"{case[:-3]} {n}{_power(case)}" for case, n in cases.items()]
    lines = [f"| seconds to 1e-8 | {' | '.join(titles)} |", f"|---|{'---:|' * len(titles)}"]
    labels = {solver: row["label"] for (_, _, solver), row in rows.items()}
    for solver in ("multigrid", "multigrid_cg", "cg", "direct", "direct_cg", "pyamg", "sine"):
        found = [rows.get((case, n, solver)) for case, n in cases.items()]
        cells = [_cell(converged_seconds(row)) for row in found]
        lines.append(f"| {labels[solver]} | {' | '.join(cells)} |")
    environment = results["environment"]
    versions, device = environment["versions"], environment["device"]
    notes = (
        f"{device['cores']} cores of {device['processor']}, jax {versions['jax']}, pyamg "
        f"{versions['pyamg']}, scipy {versions['scipy']}, {environment['precision']}; compilation "
        "and the set-up of the last two apart, ours in; – not for this case, or not converged."
    )
    return "\n".join([*lines, "", notes, "", *_answers(results["verdict"])])


def _power(case: str) -> str:
    return "³" if case.endswith("3d") else "²"


def _answers(verdict: list[dict[str, Any]]) -> list[str]:
    """What was asked of multigrid, with its number and whether that is enough."""
    lines = ["| asked of it | bound | measured | met |", "|---|---:|---:|---|"]
    for line in verdict:
        sign, bound = ("≥", line["least"]) if line["least"] is not None else ("≤", line["most"])
        met = {True: "yes", False: "no", None: "–"}[line["met"]]
        size = "" if line["size"] is None else f", {line['size']} per axis"
        measured = _cell(line["number"])
        lines.append(f"| {line['demand']}{size} | {sign} {bound:g} | {measured} | {met} |")
    return lines


def handoff_table(results: dict[str, Any]) -> str:
    """Markdown of seconds to the goal: relaxing, the hybrid, its rivals; then the verdict."""
    columns = {
        "Jacobi": lambda row: _zero(row, "jacobi"),
        "hybrid": lambda row: _cell(median_seconds(row, "scheduler")),
        "– not combined": lambda row: _cell(median_seconds(row, "scheduled_alone")),
        "Galerkin": lambda row: _way(row, "galerkin"),
        "– untrained": lambda row: _way(row, "galerkin_untrained"),
        "– modes only": lambda row: _way(row, "galerkin_modes"),
        "coarse grid": lambda row: _cell(row["coarse"]["jacobi"]),
        "CG": lambda row: _zero(row, "cg"),
        "multigrid": lambda row: _zero(row, "multigrid"),
        "direct": lambda row: _zero(row, "direct_cg" if "direct_cg" in row["zero"] else "direct"),
        "regret": lambda row: f"{np.median(regrets(row)):.2f}, {max(regrets(row)):.2f}",
    }
    lines = [
        f"| seconds to the goal | {' | '.join(columns)} |",
        f"|---|{'---:|' * len(columns)}",
    ]
    for row in results["problems"]:
        size = "×".join(map(str, row["intervals"]))
        cells = [column(row) for column in columns.values()]
        lines.append(f"| {row['title']}, {size} | {' | '.join(cells)} |")
    device = results["environment"]["device"]
    notes = (
        f"{results['summary']} Medians of {results['settings']['seeds']} networks, regret also the "
        "worst; training, planning and looking charged, compilation apart; hybrid and Galerkin "
        "into Jacobi. The goal is the discretisation error, or 1e-5 of max|u| where that is "
        "smaller. Direct: by transforms; where a varies by elimination in 1-D, and else of the "
        "mean coefficients, as a preconditioner. ~ predicted, not run; – given up. "
        f"{device['cores']} cores of {device['processor']}, float64 relaxation."
    )
    return "\n".join([*lines, "", notes])


def _way(row: dict[str, Any], way: str) -> str:
    return _cell(way_seconds(row, "jacobi", way))


def _zero(row: dict[str, Any], solver: str) -> str:
    mark = "~" if row["zero_is_predicted"].get(solver) else ""
    return mark + _cell(row["zero"].get(solver))


def frequency_table(results: dict[str, Any]) -> str:
    """Markdown of the claims of every experiment, and in how many runs each held."""
    lines = ["| experiment | published claim | held in |", "|---|---|---:|"]
    for found in results["experiments"].values():
        name = found["experiment"] + (" --full" if found["mode"] == "full" else "")
        for i, claim in enumerate(found["claims"]):
            first = f"`{name}`" if i == 0 else ""
            share = f"{sum(claim['holds'])} of {len(claim['holds'])} {claim['counted']}"
            lines.append(f"| {first} | {claim['words']} | {share} |")
    device = results["environment"]["device"]
    notes = f"Quick settings where not `--full`, {device['cores']} cores of {device['processor']}"
    return "\n".join([*lines, "", f"{notes}, float32."])


def devices_table(results: dict[str, Any]) -> str:
    """Markdown of seconds in float64 by grid and device, and how many times the first one's."""
    runs, names = results["runs"], results["columns"]
    found: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entry, rows in compared(runs):
        everywhere = [row for row in rows if row is not None]
        if entry[0] in SOLVERS and entry[4] == "float64" and len(everywhere) == len(runs):
            found[entry] = everywhere
    grids = dict.fromkeys((ndim, n) for _, ndim, _, n, _, _ in found)
    head = ["float64, seconds"]
    for ndim, n in grids:
        grid = f"{n}{'¹²³'[ndim - 1]}"
        head += [f"{grid}: {names[0]}"]
        head += [text for name in names[1:] for text in (f"{grid}: {name}", "times as fast")]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    labels = {entry[5]: rows[0]["label"] for entry, rows in found.items()}
    for method, label in labels.items():
        own = [rows for entry, rows in found.items() if entry[5] == method]
        cells = []
        for first, *others in own:
            cells.append(_cell(_own_seconds(first)))
            for row in others:
                cells += [_cell(_own_seconds(row)), _cell(speed_up(first, row))]
        if any(cell != "–" for cell in cells):
            lines.append(f"| {label} | {' | '.join(cells)} |")
    notes = [_bandwidths(run, name) for run, name in zip(runs, names, strict=True)]
    return "\n".join([*lines, "", *notes])


def _own_seconds(row: dict[str, Any]) -> float | None:
    return row["seconds"] if succeeded(row) else None


def _bandwidths(run: dict[str, Any], name: str) -> str:
    """What a device's memory moves, how much of it a sweep of the largest 2-D grid asks for."""
    sweeps = [r for r in run["rows"] if r["method"] == "jacobi" and r["ndim"] == 2]
    finest = max(row["intervals"] for row in sweeps)
    shares = [
        f"{row['bandwidth_fraction']:.0%} of "
        f"{run['precisions'][row['precision']]['bandwidth'] / 1e9:.0f} GB/s in {row['precision']}"
        for row in sweeps
        if row["intervals"] == finest
    ]
    versions = run["environment"]["versions"]
    return (
        f"{name}, jax {versions['jax']}: a Jacobi sweep of {finest}² asks for "
        f"{' and '.join(shares)}, by the triad."
    )


TABLES = {
    "devices": devices_table,
    "poisson_hybrid": hybrid_table,
    "multigrid": multigrid_table,
    "handoff": handoff_table,
    "frequency": frequency_table,
}


def renewed(readme: str, name: str, results: dict[str, Any]) -> str:
    """The README with a fresh table between the markers of a benchmark."""
    begin, end = (f"<!-- {name}: {word} -->" for word in ("begin", "end"))
    before, rest = readme.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n{TABLES[name](results)}\n{end}{after}"


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _experiments(folder: Path) -> dict[str, Any]:
    """Of each experiment on frequencies in a folder of its own: what was found, and how."""
    found = {path.parent.name: _read(path) for path in sorted(folder.glob("*/results.json"))}
    kept = "experiment", "mode", "claims", "table"
    return {
        "experiments": {name: {key: own[key] for key in kept} for name, own in found.items()},
        "environment": next(iter(found.values()))["environment"],
    }


def _cell(value: float | None) -> str:
    return "–" if value is None or not np.isfinite(value) else f"{value:.3g}"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.readme", description=__doc__)
    parser.add_argument("results", type=Path, help="output folder of a benchmark")
    folder = parser.parse_args(argv).results
    whole = folder / "results.json"
    if not whole.exists() and not any(folder.glob("*/results.json")):
        parser.error(f"results: expected a folder with a results.json in it, got {folder}")
    results = _read(whole) if whole.exists() else _experiments(folder)
    results.pop("curves", None)
    for row in results.get("problems", []):
        row.pop("curves")
    keys = {"runs": "devices", "methods": "poisson_hybrid", "problems": "handoff",
            "rows": "multigrid", "experiments": "frequency"}  # fmt: skip
    name = next(keys[key] for key in keys if key in results)
    write_json(KEPT / f"{name}.json", results)
    shutil.copy(folder / FIGURES[name], KEPT / f"{name}.png")
    readme = ROOT / "README.md"
    readme.write_text(renewed(readme.read_text(encoding="utf-8"), name, results), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
