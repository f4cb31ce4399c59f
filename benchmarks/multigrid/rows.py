"""One row for every solver of a case: accuracy, seconds, and what it did to get there."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import numpy as np

from benchmarks.multigrid.cases import Case
from benchmarks.multigrid.contenders import (
    LABELS,
    OURS,
    SINE,
    Contender,
    Outcome,
    make,
    runner,
    seconds_of,
)
from solvers import FastDiagonalization, Multigrid, predict_factor

# Rows that have had this many seconds are not run again.
BUDGET = 3.0
# Rows of a few milliseconds scatter by a factor of two on a shared machine: they are run until they
# have had this many seconds, up to so many rounds.
ENOUGH, MOST_ROUNDS = 0.4, 41
ALL = (*OURS, "pyamg", *SINE)
# What a row that fails has none of.
MEASURED = (
    "steps",
    "residual",
    "error",
    "discretization_error",
    "seconds",
    "seconds_spread",
    "unknowns_per_second",
    "setup_seconds",
    "compile_seconds",
    "compile_processor_seconds",
    "factor",
    "factor_predicted",
    "work_units",
    "algebraic_error_estimate",
    "discretization_error_estimate",
)


def measure_case(
    case: Case, names: Sequence[str], rounds: int, report: Callable[[float], None]
) -> list[dict[str, Any]]:
    """Rows of all solvers that can be used, timed in turn, round by round."""
    contenders: dict[str, Contender] = {}
    rows = {name: _empty_row(case, name) for name in names if _applies(case, name)}
    for done, name in enumerate(rows, 1):
        try:
            contenders[name] = make(name, case)
        except Exception as error:  # a failure is a row too
            rows[name]["status"] = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        report(done)
    seconds, results = _in_turn(contenders, rounds)
    discretization = discretization_error(case)
    for name, contender in contenders.items():
        outcome = contender.read(results[name])
        rows[name] |= _accuracy(case, outcome) | _speed(case, seconds[name])
        rows[name] |= {
            "discretization_error": discretization,
            "setup_seconds": contender.setup_seconds,
            "compile_seconds": contender.compile_seconds,
            "compile_processor_seconds": contender.compile_processor_seconds,
        }
    _add_set_up(case, rows)
    _add_predictions(case, rows)
    return _with_better_sine(list(rows.values()))


def _in_turn(
    contenders: dict[str, Contender], rounds: int
) -> tuple[dict[str, list[float]], dict[str, Any]]:
    """All in each of the first rounds, then only those that are quick, still in turn."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    results = {}
    for done in range(max(rounds, MOST_ROUNDS)):
        budget = BUDGET if done < rounds else ENOUGH
        for name, contender in contenders.items():
            if sum(seconds[name]) < budget:
                taken, results[name] = seconds_of(contender.run)
                seconds[name].append(taken)
    return seconds, results


def _applies(case: Case, name: str) -> bool:
    if name in SINE:
        return case.has_sine_transform
    if name in ("direct", "direct_cg"):
        return case.operator.is_constant == (name == "direct")
    return True


def _empty_row(case: Case, name: str) -> dict[str, Any]:
    shape = case.operator.grid.shape
    known = {
        "case": case.name,
        "title": case.title,
        "size": case.size,
        "solver": name,
        "label": LABELS[name],
        "unknowns": int(np.prod(shape)),
        "status": "failed",
    }
    return known | dict.fromkeys(MEASURED)


def _accuracy(case: Case, outcome: Outcome) -> dict[str, Any]:
    return {
        "status": outcome.status,
        "steps": outcome.steps,
        "residual": case.residual(outcome.u),
        "error": case.error(outcome.u),
        "factor": _factor(outcome.history),
        "work_units": outcome.stats.get("work_units"),
        "algebraic_error_estimate": outcome.stats.get("algebraic_error"),
        "discretization_error_estimate": outcome.stats.get("discretization_error"),
    }


def _factor(history: np.ndarray | None) -> float | None:
    """Mean reduction per step over at most the last four: the first find easy errors."""
    if history is None or len(history) < 3:
        return None
    last = history[-5:] if len(history) > 5 else history[1:]
    steps, norms = last[-1, 0] - last[0, 0], last[:, 1]
    return float((norms[-1] / norms[0]) ** (1 / steps)) if steps > 0 and norms[0] > 0 else None


def _speed(case: Case, seconds: list[float]) -> dict[str, Any]:
    median = float(np.median(seconds))
    return {
        "seconds": median,
        "seconds_spread": [float(x) for x in np.quantile(seconds, [0.25, 0.75])],
        "rounds": len(seconds),
        "unknowns_per_second": case.operator.grid.size / median,
    }


def _add_set_up(case: Case, rows: dict[str, dict[str, Any]]) -> None:
    """Seconds of the hierarchy, which every solve of ours includes, for the rows that use it."""
    if rows.get("multigrid", {}).get("seconds") is None:
        return
    method = Multigrid()
    prepare = eqx.filter_jit(lambda operator: method.prepare(operator).cycles)

    def run() -> Any:
        return jax.block_until_ready(prepare(case.operator))

    run()
    seconds = float(np.median([seconds_of(run)[0] for _ in range(3)]))
    for name, row in rows.items():
        if name.startswith(("multigrid", "full")):
            row["setup_seconds"] = seconds


def _add_predictions(case: Case, rows: dict[str, dict[str, Any]]) -> None:
    predicted: dict[int, float] = {}
    for name, row in rows.items():
        if name.startswith(("multigrid", "full")) and name != "multigrid_cg":
            method = OURS[name][1]()
            if method.pre not in predicted:
                predicted[method.pre] = float(predict_factor(case.operator, method))
            row["factor_predicted"] = predicted[method.pre]


def discretization_error(case: Case) -> float | None:
    """max|u_h − u| with u_h of the direct solver, or of cycles far below that error."""
    if case.exact is None:
        return None
    tight = Multigrid(rtol=1e-12, max_steps=30)
    method = FastDiagonalization() if case.operator.is_constant else tight
    value, _ = runner(case, method)()
    return case.error(np.asarray(value))


def _with_better_sine(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Keep one of the two rows of the sine transform, the faster one, as `sine`."""
    found = [row for row in rows if row["solver"] in SINE]
    if not found:
        return rows
    best = min(found, key=lambda row: np.inf if row["seconds"] is None else row["seconds"])
    kept = [row for row in rows if row["solver"] not in SINE]
    return [*kept, best | {"solver": "sine"}]
