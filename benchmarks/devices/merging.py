"""Results of several devices and machines as the columns of one comparison."""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks.devices.backends import PRECISIONS
from benchmarks.devices.fields import PARTS, SOLVERS, Row, key, wrong_entry

BENCHMARK, FORMAT = "devices", 1
Run = dict[str, Any]
# What the results of one device on one occasion have.
RUN: dict[str, type] = {
    "id": str,
    "label": str,
    "date": str,
    "mode": str,
    "platform": str,
    "backends": dict,
    "precisions": dict,
    "environment": dict,
    "rows": list,
}


def read_runs(path: Path) -> list[Run]:
    """The runs of a `results.json` of this benchmark.

    Raises:
        ValueError: in one line that names the file, if it is not there or is no such file.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:  # of decoding UTF-8 or JSON
        raise ValueError(f"{path}: not a whole JSON file ({error})") from error
    if not isinstance(found, dict) or found.get("benchmark") != BENCHMARK:
        raise ValueError(f"{path}: not the results.json of python -m benchmarks.devices")
    if found.get("format") != FORMAT:
        raise ValueError(
            f"{path}: expected format {FORMAT}, got {found.get('format')!r}: written by another "
            "version"
        )
    runs = found.get("runs")
    if not isinstance(runs, list) or not runs:
        raise ValueError(f"{path}: damaged, it has no runs")
    for run in runs:
        wrong = _wrong_part(run)
        if wrong is not None:
            raise ValueError(f"{path}: damaged, in a run {wrong} is missing or of another kind")
    return runs


def _wrong_part(run: Any) -> str | None:
    if not isinstance(run, dict):
        return "everything"
    for name, kind in RUN.items():
        if not isinstance(run.get(name), kind):
            return repr(name)
    for dtype in PRECISIONS:
        if not isinstance(run["precisions"].get(dtype.name), dict):
            return f"precision {dtype.name!r}"
    wrong = next((entry for entry in map(wrong_entry, run["rows"]) if entry is not None), None)
    return None if wrong is None else f"{wrong!r} of a row"


def merged(runs: Iterable[Run]) -> list[Run]:
    """All runs in this order, each once however many files it is in."""
    by_id: dict[str, Run] = {}
    for run in runs:
        by_id.setdefault(run["id"], run)
    return list(by_id.values())


def column_names(runs: list[Run]) -> list[str]:
    """A name for each run: its label, with the day, the minute or a number if others have it."""
    names = [run["label"] for run in runs]
    endings: tuple[Callable[[Run], str], ...] = (
        lambda run: run["date"][:10],
        lambda run: run["date"][:16].replace("T", " "),
    )
    for ending in endings:
        names = _apart(runs, names, ending)
    shared = Counter(names)
    seen: Counter[str] = Counter()
    for i, name in enumerate(names):
        if shared[name] > 1:
            seen[name] += 1
            names[i] = f"{name} ({seen[name]})"
    return names


def _apart(runs: list[Run], names: list[str], ending: Callable[[Run], str]) -> list[str]:
    shared = Counter(names)
    return [
        f"{run['label']}, {ending(run)}" if shared[name] > 1 else name
        for run, name in zip(runs, names, strict=True)
    ]


def compared(runs: list[Run]) -> list[tuple[tuple[Any, ...], list[Row | None]]]:
    """For each key the rows of all runs, None where one has not measured it, in tables' order."""
    found = [{key(row): row for row in run["rows"]} for run in runs]
    keys = dict.fromkeys(entry for rows in found for entry in rows)
    return [(entry, [rows.get(entry) for rows in found]) for entry in sorted(keys, key=_place)]


def _place(entry: tuple[Any, ...]) -> tuple[Any, ...]:
    """Where a row stands: sweeps and solves of a grid together, what has a network after them."""
    part, *grid, _ = entry
    order = tuple(PARTS).index(part)
    return (part not in SOLVERS and order, *grid, order)
