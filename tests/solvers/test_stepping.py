"""Methods one step at a time."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from solvers import (
    ConjugateGradient,
    FastDiagonalization,
    Grid,
    Jacobi,
    Multigrid,
    Poisson,
    iterates,
    solve,
)
from solvers.iteration import with_budget
from tests.solvers.cases import Manufactured, sides


@pytest.mark.parametrize(
    "method",
    [Jacobi(0.8), ConjugateGradient(preconditioner=Jacobi()), Multigrid(), Multigrid(full=True)],
    ids=["jacobi", "cg", "multigrid", "full"],
)
def test_each_iterate_is_that_of_a_solve_with_so_many_steps(method: Any) -> None:
    problem = Manufactured("DN-PP", "varying").problem(6, 5)
    first, *fields = itertools.islice(iterates(problem, method), 4)
    given = np.asarray(problem.boundary_field)
    np.testing.assert_array_equal(first[given != 0], given[given != 0])
    for steps, field in enumerate(fields, 1):
        solution = solve(problem, with_budget(method, steps), throw=False)
        np.testing.assert_allclose(field, solution.field, rtol=1e-12, atol=1e-12)


def test_what_has_no_steps_is_refused() -> None:
    problem = Poisson(Grid(4), 1.0)
    with pytest.raises(ValueError, match="method: expected an iterative one"):
        iterates(problem, FastDiagonalization())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="initial: expected"):
        iterates(problem, Jacobi(), initial=jnp.ones(17))


def test_a_singular_problem_keeps_its_integral() -> None:
    problem = Poisson(Grid((6, 5), boundary=sides("NN-PP")), lambda x, y: x - 0.5)
    fields = list(itertools.islice(iterates(problem, Jacobi(0.8), initial=jnp.ones((7, 5))), 3))
    for field in fields:
        assert abs(float(problem.grid.integral(field))) < 1e-12
    exact = solve(problem).field
    errors = [float(jnp.linalg.norm(field - exact)) for field in fields]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize("scale", [2.0**-170, 2.0**170])
def test_sources_of_any_size_have_the_same_iterates(scale: float) -> None:
    """Cycles are in single precision, which has no numbers of that size."""
    grid = Grid((40, 40))
    runs = [iterates(Poisson(grid, lambda x, y, s=s: s * jnp.exp(x * y)), Multigrid())
            for s in (1.0, scale)]  # fmt: skip
    for one, other in itertools.islice(zip(*runs, strict=True), 4):
        np.testing.assert_allclose(other / scale, one, rtol=1e-9, atol=1e-15)
