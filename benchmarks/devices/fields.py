"""What a row of the results has, whichever part it comes from."""

from numbers import Real
from typing import Any

from benchmarks.devices.backends import in_a_line

Row = dict[str, Any]
MEASURED, FAILED, UNSUPPORTED = "measured", "failed", "not supported"
# The parts, in the order of tables, and what their seconds are of.
PARTS = {
    "sweeps": "a sweep",
    "solves": "a solve",
    "training": "a training step",
    "hybrid": "the hybrid, to its tolerance",
}
SOLVERS = ("sweeps", "solves")
# What a row is, and what it may have: None where it does not apply or was not reached.
KNOWN: dict[str, type] = {
    "part": str,
    "method": str,
    "label": str,
    "problem": str,
    "ndim": int,
    "intervals": int,
    "precision": str,
    "status": str,
}
FOUND: dict[str, type] = {
    "reason": str,
    "tolerance": Real,
    "unknowns": int,
    "steps": int,
    "rounds": int,
    "seconds": Real,
    "seconds_spread": list,
    "all_seconds": list,
    "unknowns_per_second": Real,
    "steps_per_second": Real,
    "least_bytes": Real,
    "bandwidth_fraction": Real,
    "compile_seconds": Real,
    "residual": Real,
    "error": Real,
    "jacobi_predicted_seconds": Real,
}


def new_row(**known: Any) -> Row:
    """A row of which nothing has been measured yet."""
    row = {"status": MEASURED} | dict.fromkeys(FOUND) | known
    assert set(row) == {*KNOWN, *FOUND}
    return row


def failed(error: Exception) -> Row:
    """What a row gets whose measurement has raised an error."""
    return {"status": FAILED, "reason": in_a_line(error)}


def unsupported(reason: str) -> Row:
    """What a row gets that its device cannot have."""
    return {"status": UNSUPPORTED, "reason": reason}


def key(row: Row) -> tuple[Any, ...]:
    """What two rows of different devices have in common if they can be compared."""
    names = ("part", "ndim", "problem", "intervals", "precision", "method")
    return tuple(row[name] for name in names)


def wrong_entry(row: Any) -> str | None:
    """The first entry of a row that is missing or of another type; None for a proper row."""
    if not isinstance(row, dict):
        return "row"
    for name, kind in KNOWN.items():
        if not isinstance(row.get(name), kind):
            return name
    for name, kind in FOUND.items():
        if name not in row or not (row[name] is None or isinstance(row[name], kind)):
            return name
    return None if row["part"] in PARTS else "part"
