"""The tables that the multigrid benchmark prints."""

from typing import Any

from rich.console import Console

from benchmarks.report import plain_table

ROW_COLUMNS = {
    "label": "solver",
    "status": "status",
    "steps": "steps",
    "residual": "residual",
    "error": "error",
    "discretization_error": "discr. error",
    "seconds": "seconds",
    "unknowns_per_second": "unknowns/s",
    "setup_seconds": "set-up s",
    "compile_seconds": "compile s",
    "factor": "factor",
    "factor_predicted": "predicted",
    "work_units": "work units",
}
CURVE_COLUMNS = {
    "label": "to the discretisation error",
    "seconds_to_discretization": "seconds",
    "steps_to_discretization": "steps",
}
PASS_COLUMNS = {
    "case": "full multigrid, one pass",
    "size": "size",
    "ratio": "error/discr. error",
    "discretization_error": "discr. error",
    "work_units_formula": "work units (V)",
    "work_units": "counted",
    "seconds": "seconds",
    "unknowns_per_second": "unknowns/s",
}
CONTRAST_COLUMNS = {
    "contrast": "a in the discs",
    "seed": "seed",
    "status": "status",
    "steps_by_residual": "steps to 1e-8",
    "residual": "residual",
    "steps_by_error": "steps, error 1e-8",
    "steps_to_floor": "steps to floor",
    "error_floor": "error floor",
    "residual_floor": "residual floor",
    "residual_of_direct": "direct's residual",
}
FACTOR_COLUMNS = {
    "sizes": "unknowns per axis",
    "sides": "sides",
    "diffusion": "diffusion",
    "pre": "pre",
    "measured": "measured",
    "predicted": "predicted",
    "bound": "bound",
    "met": "met",
}
VERDICT_COLUMNS = {
    "demand": "demand",
    "size": "at",
    "number": "number",
    "least": "at least",
    "most": "at most",
    "goal": "goal",
    "met": "met",
}


def print_all(console: Console, results: dict[str, Any]) -> None:
    cases: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for row in results["rows"]:
        cases.setdefault((row["case"], row["size"]), []).append(row)
    for (name, size), rows in cases.items():
        title = f"{name}: {rows[0]['title']}, {size} unknowns per axis"
        _print(console, title, ROW_COLUMNS, rows)
    if results["curves"]:
        size = results["curves"]["size"]
        title = f"smooth_2d, {size} per axis: to 1.3 discretisation errors"
        _print(console, title, CURVE_COLUMNS, list(results["curves"]["solvers"].values()))
    _print(console, "Full multigrid and the discretisation error", PASS_COLUMNS,
           results["full_multigrid"])  # fmt: skip
    _print(console, "Jumps: CG with a multigrid preconditioner", CONTRAST_COLUMNS,
           results["contrast"])  # fmt: skip
    _print(console, "Factor per cycle, cycles 3 to 10", FACTOR_COLUMNS, results["factors"])
    _print(console, "Verdict", VERDICT_COLUMNS, results["verdict"])


def _print(
    console: Console, title: str, columns: dict[str, str], rows: list[dict[str, Any]]
) -> None:
    if not rows:
        return
    cells = [[_cell(row[key]) for key in columns] for row in rows]
    console.print(plain_table({"title": title, "columns": list(columns.values()), "rows": cells}))


def _cell(value: Any) -> Any:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple | list):
        return ", ".join(f"{x:g}" for x in value)
    return value
