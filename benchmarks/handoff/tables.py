"""The tables that the benchmark prints."""

from typing import Any

import numpy as np
from rich.console import Console

from benchmarks.handoff.verdict import (
    median_seconds,
    number,
    regrets,
    summary,
    verdict,
    way_seconds,
)
from benchmarks.handoff.ways import CHOSEN, ways_of
from benchmarks.report import plain_table

Row = dict[str, Any]
SOLVERS = {"jacobi": "Jacobi", "gauss_seidel": "Gauss–Seidel", "cg": "CG",
           "multigrid": "multigrid"}  # fmt: skip


def print_all(console: Console, results: dict[str, Any]) -> None:
    rows = results["problems"]
    console.print(plain_table(regret_table(rows)))
    for solver in CHOSEN:
        console.print(plain_table(ways_table(rows, solver)))
    console.print(plain_table(classical_table(rows)))
    for row in rows:
        console.print(f"- {verdict(row)}")
    console.print(summary(rows))
    console.print(
        "The goal is the discretisation error, or 1e-5 of max|u| where that is smaller, in the "
        "distance from the discrete solution."
    )


def regret_table(rows: list[Row]) -> dict[str, Any]:
    """The scheduler against no training and the fixed handoffs, every seed."""
    body = []
    for row in rows:
        for seed in row["seeds"]:
            fixed = {int(step): number(t) for step, t in seed["fixed"].items()}
            best = min(fixed, key=lambda step: fixed[step], default=None)
            seconds = None if best is None else _finite(fixed[best])
            body.append([
                row["problem"] if seed["seed"] == 0 else "", seed["seed"],
                seed["handoff_step"] if seed["trained"] else "none",
                seed["scheduler"], _zero(row, "jacobi", seed["zero"]), seconds,
                None if seconds is None else best, f"{seed['regret']:.2f}",
                _finite(seed["scheduled_alone"]), _finite(seed["scheduled_galerkin"]),
            ])  # fmt: skip
    columns = ["problem", "seed", "handoff step", "scheduler", "zero", "best fixed", "its step",
               "regret", "not combined", "scheduled Galerkin"]  # fmt: skip
    return {"title": "Seconds to the goal by replay, Jacobi, all charged", "columns": columns,
            "rows": body}  # fmt: skip


def ways_table(rows: list[Row], solver: str) -> dict[str, Any]:
    """Medians over the seeds of every way into one solver."""
    labels = {name: way.label.split(",")[0] if "modes" in name else way.label
              for name, way in ways_of(1).items()}  # fmt: skip
    shown = [w for w in labels if any(way_seconds(row, solver, w) is not None for row in rows)]
    body = [
        [row["problem"], _zero(row, solver), _finite(row["coarse"][solver]),
         *[_finite(way_seconds(row, solver, way)) for way in shown]]
        for row in rows
    ]  # fmt: skip
    names = [labels[w] + (", modes" if w.endswith("modes") else "") for w in shown]
    return {
        "title": f"Seconds to the goal with {SOLVERS[solver]} by way of starting, training charged "
        "(– more than three times the best of the scheduler and the fixed handoffs)",
        "columns": ["problem", "zero", "coarse grid", *names],
        "rows": body,
    }


def classical_table(rows: list[Row]) -> dict[str, Any]:
    """The solvers that need no network, and the hybrid beside them."""
    names = {"jacobi": "Jacobi", "gauss_seidel": "Gauss–Seidel", "sor": "best ω", "cg": "CG",
             "multigrid": "multigrid", "direct": "direct", "direct_cg": "CG, direct"}  # fmt: skip
    body = []
    for row in rows:
        hybrid = median_seconds(row, "scheduler")
        cells = [_zero(row, name) for name in names]
        spread = f"{np.median(regrets(row)):.2f}–{max(regrets(row)):.2f}"
        body.append([row["problem"], *cells, hybrid, row["wall"], spread, row["advice"]["best"]])
    columns = ["problem", *names.values(), "hybrid", "by the clock", "regret", "advise"]
    title = "Seconds to the goal from zero (~ predicted); the hybrid beside them"
    return {"title": title, "columns": columns, "rows": body}


def _zero(row: Row, solver: str, seconds: float | None = None) -> str | float | None:
    """Seconds from zero, with a mark where they are a price and no run."""
    seconds = row["zero"].get(solver) if seconds is None else seconds
    is_predicted = row["zero_is_predicted"].get(solver, False)
    return f"~{seconds:.3g}" if is_predicted and seconds is not None else seconds


def _finite(value: float | None) -> float | None:
    return value if value is not None and np.isfinite(value) else None
