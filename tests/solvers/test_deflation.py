"""A subspace solved exactly beside a method: what it leaves, and that it stays a solver."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from solvers import (
    ConjugateGradient,
    Deflated,
    FastDiagonalization,
    GaussSeidel,
    Grid,
    Jacobi,
    Poisson,
    as_preconditioner,
    solve,
)
from solvers.deflation import energy_basis
from solvers.hybrid.handover import lowest_modes
from tests.solvers.cases import sides

GRID = Grid((12, 9), boundary=sides("DN-DD"))
PROBLEM = Poisson(GRID, lambda x, y: jnp.exp(x * y), diffusion=lambda x, y: 1 + 5 * x * y)
VECTORS = lowest_modes(GRID, 3)


def test_the_basis_is_orthonormal_in_energy_and_leaves_dependent_vectors_out() -> None:
    doubled = jnp.concatenate([VECTORS, 2 * VECTORS[:2] - VECTORS[2:4]])
    basis = energy_basis(PROBLEM.operator, doubled)
    images = jax.vmap(PROBLEM.operator.mv)(basis)
    gram = np.einsum("kij,lij->kl", basis, images)
    is_kept = np.diag(gram) > 0.5
    assert is_kept.sum() == len(VECTORS)
    np.testing.assert_allclose(gram, np.diag(is_kept), atol=1e-11)


def test_after_a_step_no_residual_is_left_in_the_span() -> None:
    method = Deflated(Jacobi(0.8), VECTORS, every=3)
    setup = method.prepare(PROBLEM.operator)
    carry = method.start(setup, PROBLEM.rhs, jnp.zeros(GRID.shape))
    carry = method.step(setup, PROBLEM.rhs, carry)
    r = PROBLEM.residual(method.current(setup, carry))
    # Rounding of sums over a hundred entries of the size of the right-hand side.
    np.testing.assert_allclose(np.einsum("kij,ij->k", VECTORS, r), 0, atol=1e-10)


@pytest.mark.parametrize("inner", [Jacobi(0.8), GaussSeidel()], ids=lambda m: type(m).__name__)
def test_a_deflated_relaxation_solves_in_fewer_sweeps(inner: Jacobi | GaussSeidel) -> None:
    exact = solve(PROBLEM, ConjugateGradient(rtol=1e-12)).value
    plain = solve(PROBLEM, inner)
    found = solve(PROBLEM, Deflated(inner, VECTORS, every=5))
    np.testing.assert_allclose(found.value, exact, atol=1e-7)
    assert 5 * int(found.num_steps) < 0.5 * int(plain.num_steps)


@pytest.mark.parametrize("inner", [GaussSeidel(), FastDiagonalization()])
def test_as_a_preconditioner_it_is_symmetric_and_positive_definite(
    inner: GaussSeidel | FastDiagonalization,
) -> None:
    method = Deflated(inner, VECTORS)
    near = jax.vmap(as_preconditioner(method, PROBLEM.operator, steps=2).mv)
    matrix = near(jnp.eye(GRID.size).reshape(-1, *GRID.shape)).reshape(GRID.size, GRID.size)
    np.testing.assert_allclose(matrix, matrix.T, atol=1e-12)
    assert np.linalg.eigvalsh(matrix).min() > 0
    plain = solve(PROBLEM, ConjugateGradient(preconditioner=inner))
    found = solve(PROBLEM, ConjugateGradient(preconditioner=method))
    assert int(found.num_steps) < int(plain.num_steps)


def test_a_singular_problem_keeps_its_mean() -> None:
    grid = Grid((10, 8), boundary=sides("NN-PP"))
    problem = Poisson(grid, lambda x, y: jnp.cos(np.pi * x) * jnp.cos(2 * np.pi * y))
    found = solve(problem, Deflated(Jacobi(), lowest_modes(grid, 3), every=4))
    exact = solve(problem, FastDiagonalization())
    np.testing.assert_allclose(found.field, exact.field, atol=1e-8)


def test_gradients_go_through_the_solution_and_not_through_the_span() -> None:
    def total(strength: jax.Array) -> jax.Array:
        problem = Poisson(GRID, 1.0, diffusion=strength)
        return jnp.sum(solve(problem, Deflated(Jacobi(0.8), VECTORS, every=4)).value)

    # u is as 1/a.
    two = jnp.asarray(2.0)
    assert float(jax.grad(total)(two)) == pytest.approx(-float(total(two)) / 2, rel=1e-6)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Deflated("jacobi", VECTORS), "method"),  # type: ignore
        (lambda: Deflated(ConjugateGradient(), VECTORS), "preconditioner"),
        (lambda: solve(PROBLEM, Deflated(FastDiagonalization(), VECTORS)), "has no steps"),
        (lambda: Deflated(Jacobi(), VECTORS * jnp.nan), "vectors"),
        (lambda: Deflated(Jacobi(), 1j * np.asarray(VECTORS)), "vectors"),
        (lambda: Deflated(Jacobi(), VECTORS[:0]), "vectors"),
        (lambda: Deflated(Jacobi(), "modes"), "vectors"),
        (lambda: Deflated(Jacobi(), VECTORS, every=0), "every"),
        (lambda: as_preconditioner(lx.CG(1e-8, 1e-8), PROBLEM.operator), "method"),  # type: ignore
        (lambda: solve(PROBLEM, Deflated(Jacobi(), VECTORS[0])), "vectors"),
        (lambda: lx.linear_solve(lx.MatrixLinearOperator(jnp.eye(3), lx.symmetric_tag),
                                 jnp.ones(3), Deflated(Jacobi(), jnp.ones((1, 3)))), "operator"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_named(make: object, told: str) -> None:
    assert callable(make)
    with pytest.raises(ValueError, match=told):
        make()
