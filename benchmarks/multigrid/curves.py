"""Error against seconds: every solver stopped after one step, two steps, and so on."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.multigrid.cases import Case
from benchmarks.multigrid.contenders import (
    LABELS,
    OURS,
    algebraic_hierarchy,
    algebraic_solve,
    make,
    pyamg,
    runner,
    seconds_of,
    sparse_matrix,
)
from solvers.iteration import with_budget

STEPS = tuple(range(1, 10))
# Plain conjugate gradients need steps by the hundred.
STEPS_OF = {"cg": (10, 30, 100, 300, 1000)}
LINES = ("multigrid", "full", "multigrid_cg", "cg", "direct", "pyamg", "sine_2")


def error_curves(case: Case, rounds: int, report: Callable[[float], None]) -> dict[str, Any]:
    """Per solver the seconds, the error against the exact solution, and the steps."""
    found = {}
    for done, name in enumerate(LINES, 1):
        runs = _runs(name, case)
        if runs:
            found[name] = {"label": LABELS[name]} | _points(case, runs, rounds)
        report(done)
    return found


def _runs(name: str, case: Case) -> list[tuple[int, Callable[[], Any], Callable[[Any], Any]]]:
    """Steps, what runs them, and what gets u from that."""
    if name in OURS and name != "direct":
        method = OURS[name][1]()
        budgets = STEPS_OF.get(name, STEPS)
        return [(k, runner(case, with_budget(method, k)), lambda x: x[0]) for k in budgets]
    if pyamg is None and name not in OURS:
        return []
    if name == "pyamg":
        hierarchy = algebraic_hierarchy(case, sparse_matrix(case))
        b = np.asarray(case.b).ravel()
        return [(k, _stopped(hierarchy, b, k), lambda x: x[0]) for k in STEPS]
    contender = make(name, case)
    return [(1, contender.run, lambda x: contender.read(x).u)]


def _stopped(hierarchy: Any, b: np.ndarray, steps: int) -> Callable[[], Any]:
    return lambda: algebraic_solve(hierarchy, b, steps)


def _points(case: Case, runs: list[Any], rounds: int) -> dict[str, list[float]]:
    seconds: list[list[float]] = [[] for _ in runs]
    errors = []
    for turn in range(rounds):
        for i, (_, run, read_u) in enumerate(runs):
            if turn == 0:
                u = np.asarray(read_u(run())).reshape(case.b.shape)
                errors.append(case.error(u))
            if sum(seconds[i]) < 1:
                seconds[i].append(seconds_of(run)[0])
    medians = [float(np.median(s)) for s in seconds]
    return {"steps": [k for k, _, _ in runs], "seconds": medians, "errors": errors}


def reached(curve: dict[str, Any], error: float) -> dict[str, float | None]:
    """Seconds and steps of the first point at or below `error`; None if there is none."""
    points = zip(curve["seconds"], curve["steps"], curve["errors"], strict=True)
    seconds, steps = next(((s, k) for s, k, e in points if e <= error), (None, None))
    return {"seconds_to_discretization": seconds, "steps_to_discretization": steps}
