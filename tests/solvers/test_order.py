"""Measured order of accuracy, 2 as declared, for every mix of sides."""

from functools import reduce
from typing import Any

import jax
import numpy as np
import pytest
from scipy.sparse.linalg import LinearOperator, cg

from tests.solvers.cases import PAIRS, Manufactured

DECLARED = 2.0
COEFFICIENTS = ("one", "anisotropic", "varying")

# Every mix stands on every axis of the plane at least once, with every kind of coefficient.
PLANES = [
    ("DD-DN", "varying"),
    ("DN-NN", "varying"),
    ("ND-PP", "anisotropic"),
    ("NN-ND", "varying"),
    ("PP-DD", "varying"),
    ("NN-PP", "one"),
    ("NN-NN", "anisotropic"),
    ("DD-DD", "one"),
]
BOXES = [("DD-NN-PP", "varying"), ("ND-PP-DN", "anisotropic"), ("PP-DD-ND", "varying")]
CASES = [(names, kind, (24,)) for names in PAIRS for kind in COEFFICIENTS]
CASES += [(names, kind, (10, 14)) for names, kind in PLANES]
CASES += [(names, kind, (6, 8, 7)) for names, kind in BOXES]


def error(case: Manufactured, intervals: tuple[int, ...]) -> float:
    """max|u_h − u| over max|u|, up to a constant where the problem leaves one open."""
    grid = case.grid(*intervals)

    @jax.jit
    def build() -> Any:
        problem = case.problem(*intervals)
        return problem.operator, problem.rhs, case.u(*grid.coordinates())[grid.unknowns]

    operator, b, exact = build()
    b, exact = np.asarray(b), np.asarray(exact)
    b = b - b.mean() if operator.is_singular else b
    mv = jax.jit(lambda v: operator.mv(v.reshape(grid.shape)).reshape(-1))
    system = LinearOperator((grid.size, grid.size), matvec=mv, dtype=float)
    u, failed = cg(system, b.ravel(), rtol=1e-9, atol=0.0)
    assert not failed
    difference = u.reshape(grid.shape) - exact
    if operator.is_singular:
        weights = reduce(np.multiply.outer, map(grid.row_weights, range(grid.ndim)))
        difference -= np.average(difference, weights=weights)
    return float(abs(difference).max() / abs(exact).max())


@pytest.mark.parametrize(("names", "kind", "intervals"), CASES)
def test_order(names: str, kind: str, intervals: tuple[int, ...]) -> None:
    case = Manufactured(names, kind)
    errors = [error(case, tuple(k * n for n in intervals)) for k in (1, 2)]
    measured = np.log2(errors[0] / errors[1])
    # Grids as coarse as these see a little of the next order; first order would measure 1.
    assert measured == pytest.approx(DECLARED, abs=0.35)
    assert errors[1] < 0.03, "an order is worth little if the error is not small"
