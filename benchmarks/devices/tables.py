"""The tables that the comparison of devices prints."""

from typing import Any

from rich.console import Console

from benchmarks.devices.backends import PRECISIONS
from benchmarks.devices.fields import MEASURED, PARTS, SOLVERS, UNSUPPORTED, Row
from benchmarks.devices.merging import Run, compared
from benchmarks.report import plain_table

SOLVER_COLUMNS = {
    "label": "method",
    "status": "status",
    "steps": "steps",
    "tolerance": "tolerance",
    "residual": "residual",
    "error": "error",
    "seconds": "seconds",
    "seconds_spread": "quartiles",
    "unknowns_per_second": "unknowns/s",
    "bandwidth_fraction": "of bandwidth",
    "compile_seconds": "compile s",
}
TRAINING_COLUMNS = {
    "label": "training",
    "problem": "problem",
    "precision": "precision",
    "status": "status",
    "steps": "steps",
    "error": "error after them",
    "seconds": "seconds a step",
    "seconds_spread": "quartiles",
    "steps_per_second": "steps/s",
    "compile_seconds": "compile s",
}
HYBRID_COLUMNS = {
    "label": "hybrid",
    "intervals": "intervals",
    "status": "status",
    "steps": "handoff step",
    "tolerance": "tolerance",
    "residual": "residual, worst",
    "error": "error, worst",
    "seconds": "seconds",
    "all_seconds": "by network",
    "jacobi_predicted_seconds": "Jacobi alone, predicted",
    "compile_seconds": "compile s",
}
NOTES = (
    "Sweeps: seconds of one, residual and error after ten from zero. Solves from zero to the "
    "tolerance, set-up in. Residuals are relative to b and formed in double precision, errors are "
    "against the exact solution relative to its largest value. In float32 the tolerance is what "
    "rounding lets a residual fall to, so that its seconds do not compare with those of float64; "
    "where there is none, Refined is held to its tolerance, by pairs of float32. "
    "Of bandwidth: the least traffic of the method over its seconds, in that of the triad on the "
    "same device; what fits into a cache can exceed it. Compilation (a first call less a warm one) "
    "is in no other column."
)
PLACES = {"seconds_spread": "–", "all_seconds": ", "}


def print_all(console: Console, runs: list[Run], names: list[str], own: int) -> None:
    """The tables of the first `own` runs, measured now, and all of them side by side."""
    console.print(plain_table(devices_table(runs, names)))
    for run, name in zip(runs[:own], names, strict=False):
        for title, columns, rows in _parts(run):
            cells = [[_cell(key, row[key]) for key in columns] for row in rows]
            content = {"title": f"{name}: {title}", "columns": list(columns.values())}
            console.print(plain_table(content | {"rows": cells}))
    if len(runs) > 1:
        console.print(plain_table(side_by_side(runs, names)))
    for run, name in zip(runs, names, strict=True):
        for words in failures(run):
            console.print(f"- {name}: {words}")
    console.print(NOTES)


def _parts(run: Run) -> list[tuple[str, dict[str, str], list[Row]]]:
    """Title, columns and rows of each table of one device."""
    parts = []
    solver_rows = [row for row in run["rows"] if row["part"] in SOLVERS]
    grids = dict.fromkeys((row["ndim"], row["intervals"], row["precision"]) for row in solver_rows)
    for ndim, intervals, precision in grids:
        wanted = (ndim, intervals, precision)
        rows = [r for r in solver_rows if (r["ndim"], r["intervals"], r["precision"]) == wanted]
        title = f"{ndim}-D, {intervals} intervals per axis, {precision}"
        parts.append((title, SOLVER_COLUMNS, rows))
    for part, columns in (("training", TRAINING_COLUMNS), ("hybrid", HYBRID_COLUMNS)):
        rows = [row for row in run["rows"] if row["part"] == part]
        if rows:
            parts.append((PARTS[part], columns, rows))
    return parts


def devices_table(runs: list[Run], names: list[str]) -> dict[str, Any]:
    """The columns: what they are, when they were measured, and what their memory does."""
    rows = []
    for run, name in zip(runs, names, strict=True):
        device = run["environment"].get("device", {})
        versions = run["environment"].get("versions", {})
        speeds = [_bandwidth(run["precisions"][dtype.name]) for dtype in PRECISIONS]
        kind = ", ".join(dict.fromkeys((run["platform"], device.get("kind", "–"))))
        rows.append([name, kind, run["date"][:16].replace("T", " "), run["mode"],
                     versions.get("jax", "–"), *speeds])  # fmt: skip
    columns = ["device", "platform, kind", "measured", "mode", "jax"]
    columns += [f"triad GB/s, {dtype.name}" for dtype in PRECISIONS]
    return {"title": "Devices", "columns": columns, "rows": rows}


def _bandwidth(entry: dict[str, Any]) -> str | float | None:
    if entry.get("reason") is not None:
        return UNSUPPORTED
    speed = entry.get("bandwidth")
    return None if speed is None else speed / 1e9


def side_by_side(runs: list[Run], names: list[str]) -> dict[str, Any]:
    """Seconds of every device, of its memory's bandwidth, and how many times the first one's."""
    columns = ["method", "size", "precision"]
    for i, name in enumerate(names):
        columns += [name, "of bandwidth"] + (["times as fast"] if i else [])
    body = []
    for (_, ndim, problem, intervals, precision, _), rows in compared(runs):
        label = next(row["label"] for row in rows if row is not None)
        size = f"{intervals}{'¹²³'[ndim - 1] if ndim > 1 else ''}"
        cells: list[Any] = [label, f"{problem} {size}", precision]
        for i, row in enumerate(rows):
            cells += [seconds_or_word(row), _cell("bandwidth_fraction", _get(row))]
            cells += [speed_up(rows[0], row)] if i else []
        body.append(cells)
    title = f"Side by side in seconds; times as fast as {names[0]}"
    return {"title": title, "columns": columns, "rows": body}


def _get(row: Row | None) -> float | None:
    return None if row is None else row["bandwidth_fraction"]


def seconds_or_word(row: Row | None) -> str | float | None:
    """The seconds of a row, or in a word why they do not count; None where it was not run."""
    if row is None:
        return None
    return row["seconds"] if succeeded(row) else row["status"]


def speed_up(first: Row | None, other: Row | None) -> float | None:
    """How many times as fast the other one is; None unless both have done the same."""
    if first is None or other is None or not (succeeded(first) and succeeded(other)):
        return None
    return first["seconds"] / other["seconds"]


def succeeded(row: Row) -> bool:
    return row["seconds"] is not None and row["status"] in (MEASURED, "converged")


def failures(run: Run) -> list[str]:
    """A line for each row that has not done what it should, those of one reason together."""
    by_reason: dict[tuple[str, str | None], list[Row]] = {}
    for row in run["rows"]:
        if not succeeded(row):
            by_reason.setdefault((row["status"], row["reason"]), []).append(row)
    lines = []
    for (status, reason), rows in by_reason.items():
        which = [f"{r['label']}, {r['ndim']}-D, {r['intervals']}, {r['precision']}" for r in rows]
        words = which[0] if len(which) == 1 else f"{len(which)} rows, the first {which[0]}"
        lines.append(f"{words}: {status}" + (f" ({reason})" if reason else ""))
    return lines


def _cell(key: str, value: Any) -> Any:
    if value is None:
        return None
    if key in PLACES:
        return PLACES[key].join(f"{x:.3g}" for x in value)
    if key == "bandwidth_fraction":
        return f"{value:.0%}"
    if key in ("residual", "error"):
        return f"{value:.1e}"
    return value
