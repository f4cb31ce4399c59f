"""What a benchmark shows while it works and when it is done."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from solvers.threads import single_threaded_blas

COLUMNS = ("1e-01", "1e-02", "1e-03", "1e-04", "discretization")


class Stages:
    """A progress bar a stage: `with stages("name", total) as report: report(done)`."""

    def __init__(self, console: Console):
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description:<44}"),
            BarColumn(),
            TimeElapsedColumn(),
            console=console,
        )

    def __enter__(self) -> "Stages":
        self._progress.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._progress.stop()

    @contextlib.contextmanager
    def __call__(self, name: str, total: float | None = None) -> Iterator[Callable[[float], None]]:
        task = self._progress.add_task(name, total=total)
        yield lambda done: self._progress.update(task, completed=min(done, total or done))
        self._progress.update(task, total=1, completed=1)


def exit_code_of(work: Callable[[], object], console: Console, interrupted: str) -> int:
    """Do the work of a command: 0, or 130 and a line of what is left where Ctrl-C ended it."""
    try:
        with single_threaded_blas():
            work()
    except KeyboardInterrupt:
        console.print(f"Interrupted. {interrupted}")
        return 130
    return 0


def print_report(console: Console, results: dict[str, Any], written: list[Path]) -> None:
    """Print the table of rows, the decision, and where everything was written."""
    problem = results["problem"]
    title = f"{problem['title']}, {' × '.join(map(str, problem['intervals']))} intervals"
    console.print(rows_table(title, results["methods"]))
    console.print(
        "Seconds to a maximum error relative to max|u|; in the last column to the discretisation "
        f"error, {problem['discretization_error']:.1e}. Compilation is apart. A row ends at "
        f"{results['row_ends_at_seconds']:.3g} s."
    )
    handoff, speedup = results["handoff"], results["speedup"]
    start = f"the network of step {handoff['step']}" if handoff["trained"] else "zero"
    console.print(
        f"The scheduler handed over {start} at {handoff['seconds']:.3g} s and predicted "
        f"{handoff['predicted_seconds']:.3g} s more: {handoff['reason']}."
    )
    console.print(verdict(speedup))
    for table in (results["scaling"], results.get("seeds"), results.get("regret")):
        if table:
            console.print(plain_table(table))
    console.print("Written: " + ", ".join(map(str, written)))


def verdict(speedup: dict[str, Any]) -> str:
    """Say whether the hybrid won, how much of it compiling eats, and how far the gain reaches."""
    return f"{_to_tolerance(speedup)} {_to_discretization(speedup['to_discretization'])}"


def _to_tolerance(speedup: dict[str, Any]) -> str:
    ratio = speedup["to_1e-04"]
    if ratio is None:
        return "The scheduler's hybrid or Jacobi alone did not reach 1e-4, so there is no ratio."
    compiled = f"{speedup['to_1e-04_with_compiling']:.3g} with compilation on both sides"
    if ratio < 1:
        return (
            f"Here the hybrid loses: the scheduler's reaches 1e-4 {1 / ratio:.3g} times later than "
            f"Jacobi alone (speed-up {ratio:.3g}; {compiled})."
        )
    sooner = f"{ratio:.3g} times sooner than Jacobi alone ({compiled})"
    return f"The scheduler's hybrid reaches 1e-4 {sooner}."


def _to_discretization(ratio: float | None) -> str:
    if ratio is None:
        return "To the discretisation error it loses: its row ended before it got there."
    comparison = "sooner" if ratio >= 1 else "later: it loses there"
    return f"To the discretisation error it is {max(ratio, 1 / ratio):.3g} times {comparison}."


def rows_table(title: str, rows: dict[str, Any]) -> Table:
    table = Table(title=title)
    table.add_column("method")
    for column in (*COLUMNS, "final error", "steps", "compile s"):
        table.add_column(column.replace("discretization", "discr."), justify="right")
    for row in rows.values():
        cells = [_seconds(row["seconds_to"][column]) for column in COLUMNS]
        cells += [f"{row['final_error']:.1e}", f"{row['steps']:,}", f"{row['compile_seconds']:.2f}"]
        table.add_row(row["label"], *cells)
    return table


def plain_table(content: dict[str, Any]) -> Table:
    """A table of `{"title": …, "columns": […], "rows": [[…], …]}`."""
    table = Table(title=content["title"])
    for i, column in enumerate(content["columns"]):
        table.add_column(column, justify="left" if i == 0 else "right")
    for row in content["rows"]:
        table.add_row(*[x if isinstance(x, str) else _seconds(x) for x in row])
    return table


def _seconds(value: float | int | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"
