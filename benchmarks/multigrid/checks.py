"""Full multigrid against the discretisation error; jumps against a sparse direct solver."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import scipy.sparse.linalg

from benchmarks.multigrid import cases
from benchmarks.multigrid.contenders import read, runner, seconds_of, sparse_matrix
from benchmarks.multigrid.rows import discretization_error
from solvers import ConjugateGradient, Multigrid

FAMILIES: dict[str, tuple[Callable[[int, int], cases.Case], int]] = {
    "smooth_2d": (cases.smooth, 2),
    "varying_2d": (cases.varying, 2),
    "smooth_3d": (cases.smooth, 3),
    "varying_3d": (cases.varying, 3),
}
CONTRASTS = (1e6, 1e-6)
MOST = 200


def full_multigrid(
    sizes: dict[str, Sequence[int]], report: Callable[[float], None]
) -> list[dict[str, Any]]:
    """The maximum error of one pass, in discretisation errors, and what it costs."""
    rows, done = [], 0
    for family, (make_case, ndim) in FAMILIES.items():
        for size in sizes.get(family, ()):
            rows.append(_one_pass(make_case(size, ndim)))
            done += 1
            report(done)
    return rows


def _one_pass(case: cases.Case, rounds: int = 5) -> dict[str, Any]:
    # In three dimensions one sweep before the correction leaves 1.7 discretisation errors.
    method = Multigrid(pre=1 if len(case.b.shape) < 3 else 2, full=True, max_steps=1)
    run = runner(case, method)
    outcome = read(run())
    seconds = float(np.median([seconds_of(run)[0] for _ in range(rounds)]))
    error, discretization = case.error(outcome.u), discretization_error(case)
    assert error is not None
    assert discretization is not None
    share = 0.5 ** len(case.b.shape)
    return {
        "case": case.name,
        "size": case.size,
        "unknowns": case.b.size,
        "error": error,
        "discretization_error": discretization,
        "ratio": error / discretization,
        "residual": case.residual(outcome.u),
        "pre": method.pre,
        "work_units_formula": (method.pre + method.post + 1) / (1 - share) ** 2,
        "work_units": outcome.stats.get("work_units"),
        "seconds": seconds,
        "unknowns_per_second": case.b.size / seconds,
    }


def contrast(size: int, seeds: int, report: Callable[[float], None]) -> list[dict[str, Any]]:
    """CG with multigrid on discs of other diffusion: steps by residual and by error."""
    rows, done = [], 0
    for value in CONTRASTS:
        for seed in range(seeds):
            rows.append(_one_contrast(cases.discs(size, contrast=value, seed=seed)))
            rows[-1] |= {"contrast": value, "seed": seed}
            done += 1
            report(done)
    return rows


def _one_contrast(case: cases.Case) -> dict[str, Any]:
    matrix, b = sparse_matrix(case), np.asarray(case.b).ravel()
    direct = np.asarray(scipy.sparse.linalg.spsolve(matrix.tocsc(), b)).reshape(case.b.shape)
    preconditioner = Multigrid()

    def after(steps: int, rtol: float) -> Any:
        method = ConjugateGradient(preconditioner=preconditioner, rtol=rtol, max_steps=steps)
        return read(runner(case, method)())

    def error(steps: int) -> float:
        u = after(steps, 0.0).u
        return float(np.linalg.norm(u - direct) / np.linalg.norm(direct))

    by_residual, last = after(MOST, 1e-8), after(MOST, 0.0)
    floor = error(last.steps)
    return {
        "size": case.size,
        "status": by_residual.status,
        "steps_by_residual": by_residual.steps,
        "residual": case.residual(by_residual.u),
        "residual_floor": case.residual(last.u),
        "residual_of_direct": case.residual(direct),
        "error_floor": floor,
        "steps_by_error": first_below(error, 1e-8, last.steps),
        "steps_to_floor": first_below(error, 2 * floor, last.steps),
    }


def first_below(error: Callable[[int], float], limit: float, most: int) -> int | None:
    """The least number of steps with an error of at most `limit`; CG's 2-norm error only falls."""
    if error(most) > limit:
        return None
    low, high = 0, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if error(middle) <= limit else (middle, high)
    return high
