"""Every method on every problem: eager, jitted, batched and differentiated, against a dense solve.

A new method is one line in METHODS. A compilation takes a second or two, so each problem is met
either eagerly or under jit and grad.
"""

import itertools
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from solvers import (
    Chebyshev,
    ConjugateGradient,
    Cycle,
    FastDiagonalization,
    GaussSeidel,
    Grid,
    Jacobi,
    LineRelaxation,
    Multigrid,
    Ordering,
    Poisson,
    Reason,
    Refined,
    solve,
)
from solvers.iteration import has_succeeded
from tests.solvers.cases import Dense, sides

# Tolerance of the solves. Comparisons allow RTOL times a condition number of up to 1e3.
RTOL = 1e-11
CLOSE = {"rtol": 1e-8, "atol": 1e-8}


class Case(NamedTuple):
    """A problem that depends on five numbers: one each in f, a, c, g and q."""

    grid: Grid
    is_constant: bool
    data: Callable[[Any], dict[str, Any]]  # θ to f, a, c, g nodal or numbers, q and α on sides

    def problem(self, theta: Any) -> Poisson:
        data = self.data(theta)
        f, a, c, g, q = (data[name] for name in "facgq")
        alpha = data.get("alpha", 0.0)
        return Poisson(
            self.grid, f, diffusion=a, reaction=c, boundary_values=g, flux=q, robin=alpha
        )

    def dense(self, theta: Any) -> np.ndarray:
        """The field on the unknowns, by a dense solve in NumPy."""
        data = jax.tree.map(np.asarray, self.data(theta))
        a = data["a"] if isinstance(data["a"], tuple) else (data["a"],) * self.grid.ndim
        f, c, g, q = (data[name] for name in "fcgq")
        system = Dense.assemble(self.grid, a, c, f, g, q, data.get("alpha"))
        u = system.solution().reshape(self.grid.shape)
        if self.problem(theta).operator.is_singular:
            u = u - self.grid.integral(jnp.asarray(u)) / self.grid.integral(jnp.ones(u.shape))
        return np.asarray(u)


def line() -> Case:
    grid = Grid(9, 0.1, 1.2, sides("DN"))
    (x,) = grid.coordinates()

    def data(t: Any) -> dict[str, Any]:
        a, c = 1 + x**2 + t[1] * jnp.sin(3 * x), x + t[2] * x**2
        f, g = jnp.exp(x) + t[0] * jnp.cos(x), 0.3 + t[3] * x
        sides = {"q": ((0.0, 0.5 + t[4]),), "alpha": ((0.0, 0.6 + t[4]),)}
        return {"f": f, "a": a, "c": c, "g": g} | sides

    return Case(grid, False, data)


def plane() -> Case:
    grid = Grid((6, 5), boundary=sides("ND-PP"))
    x, y = grid.coordinates()

    def data(t: Any) -> dict[str, Any]:
        f, g = x + jnp.cos(2 * jnp.pi * y) * (1 + t[0]), t[3] * jnp.sin(2 * jnp.pi * y) + 0.2
        q = ((0.7 * t[4] - 0.2, 0.0), (0.0, 0.0))
        return {"f": f, "a": (1 + t[1], 1.5 + 0 * t[1]), "c": 0.4 + t[2], "g": g, "q": q}

    return Case(grid, True, data)


def closed() -> Case:
    """Singular, balanced for every θ; c and g have no place in it."""
    grid = Grid((5, 4), upper=(1.0, 1.3), boundary=sides("NN-NN"))
    x, y = grid.coordinates()

    def data(t: Any) -> dict[str, Any]:
        rough = jnp.exp(x * y)
        f = (1 + t[0]) * (rough - grid.integral(rough) / 1.3) + t[2] * (x - 0.5) * t[3]
        q = ((-t[4], t[4]), (0.0, 0.0))
        return {"f": f, "a": (1 + t[1], 0.8 + 0 * t[1]), "c": 0.0, "g": 0.0, "q": q}

    return Case(grid, True, data)


def box() -> Case:
    grid = Grid((4, 3, 4), boundary=sides("DD-NN-PP"))
    x, y, z = grid.coordinates()

    def data(t: Any) -> dict[str, Any]:
        a, c = 1 + x * y + t[1] * y**2, 0.5 + t[2] * x * y
        f, g = jnp.exp(x) * y + t[0] * jnp.cos(2 * jnp.pi * z), 0.3 + t[3] * y
        return {
            "f": f,
            "a": a,
            "c": c,
            "g": g,
            "q": ((0.0, 0.0), (0.1, t[4] * x[:, 0]), (0.0, 0.0)),
            "alpha": ((0.0, 0.0), (0.0, 1 + x[:, 0]), (0.0, 0.0)),
        }

    return Case(grid, False, data)


CASES = {"line": line, "plane": plane, "closed": closed, "box": box}
THETA = np.array([0.2, 0.1, 0.3, -0.4, 0.25])

# name: (method, does it need constant coefficients?)
METHODS: dict[str, tuple[Callable[[], lx.AbstractLinearSolver], bool]] = {
    "Jacobi": (lambda: Jacobi(rtol=RTOL), False),
    "Jacobi, damped": (lambda: Jacobi(0.7, rtol=RTOL), False),
    "GaussSeidel, red-black": (lambda: GaussSeidel(rtol=RTOL), False),
    "GaussSeidel, lexicographic": (
        lambda: GaussSeidel(ordering=Ordering.LEXICOGRAPHIC, rtol=RTOL),
        False,
    ),
    "GaussSeidel, over-relaxed": (lambda: GaussSeidel(1.2, rtol=RTOL), False),
    "Chebyshev": (lambda: Chebyshev(6, smallest=0.01, rtol=RTOL), False),
    "LineRelaxation": (lambda: LineRelaxation(0, rtol=RTOL), False),
    "ConjugateGradient": (lambda: ConjugateGradient(rtol=RTOL), False),
    "ConjugateGradient, Jacobi": (
        lambda: ConjugateGradient(preconditioner=Jacobi(), preconditioner_steps=3, rtol=RTOL),
        False,
    ),
    "ConjugateGradient, FastDiagonalization": (
        lambda: ConjugateGradient(preconditioner=FastDiagonalization(), rtol=RTOL),
        False,
    ),
    "ConjugateGradient, GaussSeidel": (
        lambda: ConjugateGradient(preconditioner=GaussSeidel(), rtol=RTOL),
        False,
    ),
    "FastDiagonalization": (FastDiagonalization, True),
    "Multigrid": (lambda: Multigrid(rtol=RTOL), False),
    "Multigrid, full": (lambda: Multigrid(full=True, rtol=RTOL), False),
    "Multigrid, W, Jacobi": (lambda: Multigrid(Cycle.W, smoother=Jacobi(), rtol=RTOL), False),
    "ConjugateGradient, Multigrid": (
        lambda: ConjugateGradient(preconditioner=Multigrid(), rtol=RTOL),
        False,
    ),
    "Refined, Jacobi": (lambda: Refined(Jacobi(), rtol=RTOL), False),
    "Refined, ConjugateGradient": (
        lambda: Refined(ConjugateGradient(), every=30, rtol=RTOL),
        False,
    ),
}

case_of = cache(lambda name: CASES[name]())


@cache
def reference(name: str) -> tuple[np.ndarray, np.ndarray]:
    """The dense solution at THETA and its derivatives by central differences, θ first.

    With a step of 1e-4 both the truncation and the rounding error are below 1e-7 here.
    """
    case, step = case_of(name), 1e-4
    slopes = [
        (case.dense(THETA + step * e) - case.dense(THETA - step * e)) / (2 * step)
        for e in np.eye(len(THETA))
    ]
    return case.dense(THETA), np.stack(slopes)


def pairs(*problems: str) -> pytest.MarkDecorator:
    """Every method with each of the problems that it takes."""
    table = [
        (method, problem)
        for method, problem in itertools.product(METHODS, problems)
        if case_of(problem).is_constant or not METHODS[method][1]
    ]
    return pytest.mark.parametrize(("method", "problem"), table)


@pairs("plane", "box")
def test_an_eager_solve_agrees_with_a_dense_one(method: str, problem: str) -> None:
    case, solver = case_of(problem), METHODS[method][0]()
    with jax.debug_nans(True):  # as a user may hunt for some: nothing here is one on purpose
        solution = solve(case.problem(THETA), solver)
    np.testing.assert_allclose(solution.value, reference(problem)[0], **CLOSE)
    assert has_succeeded(solution.reason)
    _, norms = solution.history()
    assert norms[-1] <= 1e-10 * norms[0]


@pairs("line", "closed")
def test_jit_and_grad_agree_with_differences_of_dense_solves(method: str, problem: str) -> None:
    case, solver = case_of(problem), METHODS[method][0]()
    value, slopes = reference(problem)
    weights = np.cos(np.arange(value.size)).reshape(value.shape)

    def loss(theta: jax.Array) -> jax.Array:
        return jnp.sum(weights * solve(case.problem(theta), solver).value)

    found = jax.jit(jax.value_and_grad(loss))(jnp.asarray(THETA))
    np.testing.assert_allclose(found[0], np.sum(weights * value), **CLOSE)
    # Differences are good to 1e-7; a missing term would be of order 1e-3 or more (see below).
    expected = np.sum(weights * slopes, axis=tuple(range(1, slopes.ndim)))
    np.testing.assert_allclose(found[1], expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("problem", CASES)
def test_every_number_matters_in_the_cases(problem: str) -> None:
    slopes = abs(reference(problem)[1]).reshape(len(THETA), -1).max(1)
    assert np.count_nonzero(slopes > 1e-3) == len(THETA)


@pytest.mark.parametrize("method", METHODS)
def test_a_batch_equals_the_loop_and_each_lane_has_its_status(method: str) -> None:
    solver, needs_constant = METHODS[method][0](), METHODS[method][1]
    case = case_of("closed" if needs_constant else "line")
    thetas = jnp.asarray([THETA, 0 * THETA, THETA * jnp.nan])

    def lane(theta: jax.Array) -> Any:
        solution = solve(case.problem(theta), solver, throw=False)
        return solution.value, has_succeeded(solution.reason), solution.reason, solution.result

    values, converged, reasons, results = jax.jit(jax.vmap(lane))(thetas)
    np.testing.assert_array_equal(converged, [True, True, False])
    np.testing.assert_array_equal(reasons == Reason.nonfinite_input, [False, False, True])
    np.testing.assert_array_equal(results == lx.RESULTS.nonfinite_input, [False, False, True])
    for value, theta in zip(values[:2], (THETA, 0 * THETA), strict=True):
        np.testing.assert_allclose(value, case.dense(theta), **CLOSE)
