"""The part of the solvers: every method, size and precision on one device."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from benchmarks.devices import cases
from benchmarks.devices.backends import PRECISIONS, Device, in_a_line, why_not
from benchmarks.devices.fields import MEASURED, Row, failed, new_row, unsupported
from benchmarks.devices.methods import METHODS, PAIRS, Method
from benchmarks.devices.timing import Ready, in_turn, prepare, summary
from benchmarks.devices.triad import Triad
from benchmarks.report import Stages
from solvers.placement import default_platform

# By mode: rounds of all methods, and seconds that the difference between two runs of sweeps has.
ROUNDS = {"quick": 3, "default": 5, "full": 7}
LEAST_SECONDS = {"quick": 0.02, "default": 0.05, "full": 0.05}
ENOUGH = 10  # times these seconds, after which a method has no more rounds


class Effort(NamedTuple):
    """How long everything is timed."""

    rounds: int
    least_seconds: float


def measure(
    device: Device,
    run: Row,
    sizes: dict[int, tuple[int, ...]],
    stages: Stages,
    save: Callable[[], None],
) -> None:
    """Add to `run` the bandwidth in each precision and the rows of every grid; `save` after each.

    Args:
        device: the default one already.
        run: results of this device.
        sizes: intervals per axis, by dimension.
        stages: shows what is under way.
        save: writes what there is.
    """
    grids = [(ndim, n) for ndim, own in sizes.items() for n in own]
    effort = Effort(ROUNDS[run["mode"]], LEAST_SECONDS[run["mode"]])
    has_double = why_not(device, PRECISIONS[-1]) is None
    methods = METHODS if has_double else METHODS | PAIRS
    for dtype in PRECISIONS:
        entry = run["precisions"][dtype.name] = {"reason": why_not(device, dtype)}
        entry |= {"bandwidth": None, "bandwidth_spread": None}
        if entry["reason"] is not None:
            planned = [
                row for grid in grids for row in planned_rows(METHODS, *grid, dtype).values()
            ]
            run["rows"] += [row | unsupported(entry["reason"]) for row in planned]
            continue
        triad = _triad(dtype, entry)
        begin = len(run["rows"])
        for ndim, intervals in grids:
            name = f"{run['label'][:24]}: {ndim}-D, {intervals}, {dtype.name}"
            with stages(name, len(methods) + 1) as report:
                run["rows"] += measure_grid(
                    ndim, intervals, dtype, effort, triad, report, methods=methods
                )
            if triad is not None:
                entry |= {"bandwidth": triad.bandwidth, "bandwidth_spread": triad.spread}
                _add_fractions(run["rows"][begin:], triad.bandwidth)
            save()


def _triad(dtype: Any, entry: Row) -> Triad | None:
    try:
        return Triad(dtype)
    except Exception as error:  # rows are measured all the same
        entry["bandwidth_reason"] = in_a_line(error)
        return None


def planned_rows(
    methods: dict[str, Method], ndim: int, intervals: int, dtype: Any
) -> dict[str, Row]:
    """The rows of one grid by method, without any number."""
    problem = cases.GALLERY[ndim].__name__
    return {
        name: new_row(
            part="sweeps" if method.is_sweep else "solves",
            method=name,
            label=method.label,
            problem=problem,
            ndim=ndim,
            intervals=intervals,
            precision=np.dtype(dtype).name,
        )
        for name, method in methods.items()
    }


def measure_grid(
    ndim: int,
    intervals: int,
    dtype: Any,
    effort: Effort,
    triad: Triad | None,
    report: Callable[[float], None],
    *,
    methods: dict[str, Method],
) -> list[Row]:
    """The rows of one grid in one precision; a failure is a row too."""
    rows = planned_rows(methods, ndim, intervals, dtype)
    try:
        case = cases.make(ndim, intervals, dtype)
    except Exception as error:
        return [row | failed(error) for row in rows.values()]
    doubled = case._replace(tolerance=cases.TOLERANCE)
    own_case = {name: doubled if method.in_pairs else case for name, method in methods.items()}
    ready: dict[str, Ready] = {}
    for done, (name, method) in enumerate(methods.items(), 1):
        if method.platform not in (None, default_platform()):
            rows[name] |= unsupported(f"only a {method.platform} has it")
            continue
        try:
            ready[name] = prepare(method, own_case[name], effort.least_seconds)
        except Exception as error:
            rows[name] |= failed(error)
        report(done)
    beside = (lambda: None) if triad is None else triad.again
    enough = ENOUGH * effort.least_seconds
    samples, errors = in_turn(ready, effort.rounds, enough, beside)
    for name, own in ready.items():
        try:
            if name in errors:
                raise errors[name]
            rows[name] |= _measured(methods[name], own_case[name], own, samples[name])
        except Exception as error:
            rows[name] |= failed(error)
    return list(rows.values())


def _measured(method: Method, case: cases.Case, ready: Ready, samples: list[float]) -> Row:
    found = summary(samples)
    outcome = ready.outcome()
    unknowns = case.operator.grid.size
    steps = 1 if method.is_sweep else outcome.steps
    is_as_asked = outcome.status == "max_steps" and not method.has_tolerance
    return found | {
        "status": MEASURED if is_as_asked else outcome.status,
        "tolerance": case.tolerance if method.has_tolerance else None,
        "unknowns": unknowns,
        "steps": outcome.steps,
        "unknowns_per_second": unknowns / found["seconds"],
        "least_bytes": steps * unknowns * method.traffic(case.ndim, case.b.dtype.itemsize),
        "compile_seconds": ready.compile_seconds,
        "residual": case.residual(outcome.u),
        "error": case.error(outcome.u),
    }


def _add_fractions(rows: list[Row], bandwidth: float | None) -> None:
    """Of the measured bandwidth: the least bytes that a row has to move, over its seconds."""
    for row in rows:
        if bandwidth is not None and row["seconds"] is not None and row["least_bytes"] is not None:
            row["bandwidth_fraction"] = row["least_bytes"] / row["seconds"] / bandwidth
