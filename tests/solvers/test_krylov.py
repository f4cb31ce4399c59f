"""Conjugate gradients: the textbook's iterates, their theory, and how they break down."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from solvers import (
    ConjugateGradient,
    FastDiagonalization,
    GaussSeidel,
    Grid,
    Jacobi,
    Poisson,
    Reason,
    as_preconditioner,
    solve,
)
from tests.solvers.cases import sides

MATRIX = np.array([[4.0, 1, 0, 0], [1, 5, 1, 0], [0, 1, 3, 1], [0, 0, 1, 2]])
B = np.array([1.0, 2, 3, 4])


def textbook(A: np.ndarray, b: np.ndarray, M: np.ndarray, count: int) -> np.ndarray:
    """Saad 2003, algorithm 9.1, M being the inverse of the preconditioner."""
    x = np.zeros_like(b)
    r = b - A @ x
    z = M @ r
    p = z
    for _ in range(count):
        alpha = (r @ z) / (A @ p @ p)
        x = x + alpha * p
        r_new = r - alpha * (A @ p)
        z_new = M @ r_new
        beta = (r_new @ z_new) / (r @ z)
        p, r, z = z_new + beta * p, r_new, z_new
    return x


def positive(A: Any) -> lx.MatrixLinearOperator:
    return lx.MatrixLinearOperator(jnp.asarray(A), lx.positive_semidefinite_tag)


@pytest.mark.parametrize("preconditioner", [None, Jacobi()])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_iterates_are_the_textbooks(preconditioner: Any, count: int) -> None:
    method = ConjugateGradient(preconditioner=preconditioner, rtol=0.0, max_steps=count)
    solved = lx.linear_solve(positive(MATRIX), jnp.asarray(B), method, throw=False)
    M = np.eye(4) if preconditioner is None else np.diag(1 / np.diag(MATRIX))
    np.testing.assert_allclose(solved.value, textbook(MATRIX, B, M, count), rtol=1e-12)


def test_it_is_done_after_as_many_steps_as_there_are_eigenvalues() -> None:
    """An odd right-hand side of n intervals has (n − 1)/2 of them, a single mode has one."""
    grid = Grid(17)
    (x,) = grid.coordinates()
    method = ConjugateGradient(rtol=1e-12, check_every=1)
    assert int(solve(Poisson(grid, jnp.sin(3 * jnp.pi * x)), method).num_steps) == 1
    odd = jnp.sin(2 * jnp.pi * x) + jnp.sin(4 * jnp.pi * x) + jnp.sin(10 * jnp.pi * x)
    assert int(solve(Poisson(grid, odd), method).num_steps) == 3


def test_a_preconditioner_saves_steps() -> None:
    problem = Poisson(Grid(40), 1.0, diffusion=lambda x: 1 + 1000 * x**4)
    methods = {
        "none": ConjugateGradient(check_every=1),
        "Jacobi": ConjugateGradient(preconditioner=Jacobi()),
        "GaussSeidel": ConjugateGradient(preconditioner=GaussSeidel()),
    }
    steps = [int(solve(problem, method).num_steps) for method in methods.values()]
    assert steps == sorted(steps, reverse=True)
    assert steps[1] < steps[0] / 2


def test_a_matrix_that_is_not_positive_breaks_down() -> None:
    A = np.diag([1.0, -1.0, 2.0])
    solved = lx.linear_solve(positive(A), jnp.ones(3), ConjugateGradient(), throw=False)
    assert solved.stats["reason"] == Reason.diverged


def test_an_operator_without_the_tag_is_refused_with_advice() -> None:
    with pytest.raises(ValueError, match=r"operator: .*lineax.positive_semidefinite_tag"):
        lx.linear_solve(lx.MatrixLinearOperator(jnp.eye(3)), jnp.ones(3), ConjugateGradient())


def test_gradients_of_a_general_operator() -> None:
    def loss(A: jax.Array) -> jax.Array:
        method = ConjugateGradient(preconditioner=Jacobi(), rtol=1e-13)
        return jnp.sum(lx.linear_solve(positive(A), jnp.asarray(B), method).value ** 2)

    x = np.linalg.solve(MATRIX, B)
    found = jax.grad(loss)(jnp.asarray(MATRIX))
    np.testing.assert_allclose(found, -np.outer(np.linalg.solve(MATRIX, 2 * x), x), rtol=1e-10)


def test_a_point_source_is_solved_where_a_test_by_component_would_stop() -> None:
    """`lx.CG(rtol, 0.0)` counts 0 ≤ 0 as converged and ends after a step (measured, 0.5 left)."""
    grid = Grid(32)
    f = jnp.zeros(33).at[10].set(1.0)
    solution = solve(Poisson(grid, f), ConjugateGradient(rtol=1e-10))
    assert grid.norm(solution.operator.mv(solution.value) - f[1:-1]) <= 1e-10 * grid.norm(f)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preconditioner": ConjugateGradient()}, "preconditioner: conjugate gradients are not"),
        ({"preconditioner": lx.CG(1e-3, 1e-3)}, "preconditioner: expected a method of solvers"),
        ({"preconditioner": Jacobi}, "preconditioner: expected a method of solvers"),
        ({"preconditioner_steps": 0}, "preconditioner_steps: expected a positive integer"),
        ({"preconditioner_steps": True}, "preconditioner_steps: expected a positive integer"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ConjugateGradient(**arguments)


def waves(*x: Any) -> Any:
    return jnp.exp(jnp.sin(2 * jnp.pi * x[0]) * jnp.cos(2 * jnp.pi * x[-1]))


PRECONDITIONED = {
    "held": ("DD-DD", {"diffusion": waves}),
    "mixed": ("DN-PP", {"diffusion": waves, "reaction": waves}),
    "free": ("NN-NN", {"diffusion": waves}),
    "ring": ("PP-PP", {"diffusion": waves}),
    "constant": ("NN-ND", {"diffusion": (1.0, 3.0), "reaction": 2.0}),
}


@pytest.mark.parametrize("case", PRECONDITIONED)
@pytest.mark.parametrize("intervals", [(14, 11), (201, 6)], ids=["modes", "lines"])
def test_the_direct_solver_as_preconditioner(case: str, intervals: tuple[int, int]) -> None:
    """It is symmetric, positive but for the constants, exact for constant coefficients."""
    names, data = PRECONDITIONED[case]
    grid = Grid(intervals, boundary=sides(names))
    problem = Poisson(grid, lambda x, y: jnp.sin(3 * x) * jnp.cos(2 * jnp.pi * y), **data)
    method = ConjugateGradient(preconditioner=FastDiagonalization(), rtol=1e-10)
    solution = solve(problem, method)
    assert int(solution.num_steps) <= (1 if case == "constant" else 16)
    matrix = np.asarray(problem.operator.as_matrix())
    b, found = np.ravel(problem.rhs), np.ravel(solution.value)
    if problem.operator.is_singular:
        assert abs(float(grid.integral(solution.field))) < 1e-12
        matrix, b, found = matrix + matrix[0, 0] / grid.size, b - b.mean(), found - found.mean()
    expected = np.linalg.solve(matrix, b)
    np.testing.assert_allclose(found, expected, atol=1e-8 * abs(expected).max())
    if grid.size < 500:
        inverse = as_preconditioner(FastDiagonalization(), problem.operator).as_matrix()
        inverse = inverse.reshape(grid.size, grid.size)
        np.testing.assert_allclose(inverse, inverse.T, atol=1e-12 * float(abs(inverse).max()))
        smallest, second = np.linalg.eigvalsh(inverse)[:2]
        assert second > 0
        assert problem.operator.is_singular or smallest > 0


@pytest.mark.parametrize("contrast", [2.0, 10.0, 100.0])
def test_with_the_direct_solver_steps_depend_neither_on_grid_nor_contrast(contrast: float) -> None:
    power = np.log(contrast) / 2
    counts = []
    for n in (32, 128):
        grid = Grid((n, n))
        problem = Poisson(grid, 1.0, diffusion=lambda x, y: waves(x, y) ** power)
        method = ConjugateGradient(preconditioner=FastDiagonalization())
        counts.append(int(solve(problem, method).num_steps))
    assert max(counts) <= 15
    assert abs(counts[1] - counts[0]) <= 1


def test_the_direct_solver_preconditions_once() -> None:
    method = ConjugateGradient(preconditioner=FastDiagonalization(), preconditioner_steps=2)
    with pytest.raises(ValueError, match=r"preconditioner_steps: .* applied once"):
        solve(Poisson(Grid(8), 1.0), method)
    method = ConjugateGradient(preconditioner=FastDiagonalization())
    with pytest.raises(ValueError, match="operator: FastDiagonalization needs an EllipticOperator"):
        lx.linear_solve(positive(MATRIX), jnp.asarray(B), method)


def test_an_operator_without_entries_is_not_made_dense() -> None:
    """It was at every call, to judge stagnation: 1.5 GB at 12 000 unknowns."""
    n = 2000
    w = jnp.asarray(np.random.default_rng(0).normal(size=(n, 20)) / n**0.5)
    operator = lx.FunctionLinearOperator(
        lambda u: 3 * u + w @ (w.T @ u),
        jax.ShapeDtypeStruct((n,), jnp.float64),
        lx.positive_semidefinite_tag,
    )

    @jax.jit
    def run(b: jax.Array) -> jax.Array:
        return lx.linear_solve(operator, b, ConjugateGradient()).value

    b = jnp.ones(n)
    compiled = run.lower(b).compile()
    np.testing.assert_allclose(operator.mv(compiled(b)), b, atol=1e-6)
    analysis = compiled.memory_analysis()
    assert analysis is not None
    assert analysis.temp_size_in_bytes < n * n
