"""Chebyshev relaxation against the polynomials of NumPy, on arrays and on trees."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from solvers import Chebyshev, EllipticOperator, Grid, Jacobi, Poisson, solve
from solvers.relaxation.chebyshev import SAFETY, polynomial_sweep
from tests.solvers.cases import sides


def step(method: Any, operator: Any, b: jax.Array, u: jax.Array) -> jax.Array:
    _, setup = method.init(operator, {})
    return method.current(setup, method.step(setup, b, method.start(setup, b, u)))


def varying(names: str, *intervals: int) -> EllipticOperator:
    grid = Grid(intervals, boundary=sides(names))
    a, c = np.random.default_rng(3).uniform(0.5, 2, (2, *grid.full_shape))
    return EllipticOperator(grid, a, c)


@pytest.mark.parametrize(
    ("names", "intervals", "degree", "smallest", "part"),
    [
        ("DD", (9,), 1, None, 1 / 2),
        ("DN-PP", (4, 5), 2, None, 1 / 4),
        ("NN-DD", (3, 4), 5, 0.07, 0.07),
        ("PP-DN-NN", (2, 3, 2), 3, None, 1 / 6),
        ("PP", (6,), 12, 0.9, 0.9),
    ],
)
def test_an_eigenvector_is_multiplied_by_the_chebyshev_polynomial(
    names: str, intervals: tuple[int, ...], degree: int, smallest: float | None, part: float
) -> None:
    """p(λ) = T_k((θ − λ)/δ)/T_k(θ/δ) on all eigenvectors of D⁻¹A at once."""
    operator = varying(names, *intervals)
    grid = operator.grid
    A = np.asarray(operator.as_matrix())
    values, vectors = np.linalg.eig(A / np.diag(A)[:, None])
    T = np.polynomial.Chebyshev.basis(degree, domain=[2 * part, 2])
    expected = vectors @ np.diag(T(values) / T(0)) @ np.linalg.inv(vectors)

    method = Chebyshev(degree, smallest=smallest)
    basis = jnp.eye(grid.size).reshape(grid.size, *grid.shape)
    zero = jnp.zeros(grid.shape)
    found = jax.jit(jax.vmap(lambda u: step(method, operator, zero, u), out_axes=-1))(basis)
    np.testing.assert_allclose(found.reshape(grid.size, -1), expected, atol=1e-12)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_of_degree_one_it_is_jacobi_with_the_damping_that_smooths_best(ndim: int) -> None:
    """That is ω = 2d/(2d + 1): Trottenberg, Oosterlee, Schüller 2001, §2.1 and §2.9."""
    operator = varying("DN-NN-PP"[: 3 * ndim - 1], *(4, 3, 3)[:ndim])
    b, u = jnp.asarray(np.random.default_rng(4).normal(size=(2, *operator.grid.shape)))
    expected = step(Jacobi(2 * ndim / (2 * ndim + 1)), operator, b, u)
    np.testing.assert_allclose(step(Chebyshev(1), operator, b, u), expected, rtol=1e-12)


def test_a_sweep_on_a_tree_is_the_sweep_on_its_arrays_joined() -> None:
    """The 1-D Laplacian on even and odd nodes stored apart, as multigrid does."""
    n, options = 8, {"degree": 4, "smallest": 0.2, "largest": 2.0}
    b, u = jnp.asarray(np.random.default_rng(5).normal(size=(2, n)))

    def split(v: jax.Array) -> dict[str, jax.Array]:
        return {"even": v[::2], "odd": v[1::2]}

    def residual(v: dict[str, jax.Array]) -> dict[str, jax.Array]:
        even, odd = v["even"], v["odd"]
        of_even = odd + jnp.pad(odd[:-1], (1, 0)) - 2 * even
        of_odd = even + jnp.pad(even[1:], (0, 1)) - 2 * odd
        return jax.tree.map(jnp.add, split(b), {"even": of_even, "odd": of_odd})

    def halved(v: dict[str, jax.Array]) -> dict[str, jax.Array]:
        return jax.tree.map(lambda x: x / 2, v)

    A = jnp.asarray(2 * np.eye(n) - np.eye(n, k=1) - np.eye(n, k=-1))
    found = polynomial_sweep(residual, halved, split(u), **options)
    expected = split(polynomial_sweep(lambda v: b - A @ v, lambda r: r / 2, u, **options))
    for name in ("even", "odd"):
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-12)


def test_the_program_does_not_grow_with_the_degree() -> None:
    operator = varying("DN-PP", 4, 4)
    u = jnp.ones(operator.grid.shape)
    sizes = [
        jax.make_jaxpr(lambda u, k=k: step(Chebyshev(k), operator, u, u))(u).pretty_print()
        for k in (3, 4, 9)
    ]
    assert len({len(text) for text in sizes}) == 1


def spd(kind: str) -> np.ndarray:
    if kind == "laplacian":
        return 2 * np.eye(200) - np.eye(200, k=1) - np.eye(200, k=-1)
    if kind == "far from dominant":
        return 0.1 * np.eye(30) + 0.9  # λmax of D⁻¹A is 27.1
    if kind == "badly scaled":
        scale = np.diag(10.0 ** np.linspace(-3, 3, 40))
        return scale @ (2.1 * np.eye(40) - np.eye(40, k=1) - np.eye(40, k=-1)) @ scale
    root = np.random.default_rng(6).normal(size=(50, 60))
    return root @ root.T


@pytest.mark.parametrize("kind", ["laplacian", "far from dominant", "badly scaled", "random"])
def test_the_largest_eigenvalue_of_a_foreign_operator(kind: str) -> None:
    """Estimates by power steps are from below; the tenth added must make up for that."""
    A = spd(kind)
    exact = np.linalg.eigvals(A / np.diag(A)[:, None]).real.max()
    _, setup = Chebyshev().init(lx.MatrixLinearOperator(jnp.asarray(A)), {})
    assert exact <= float(setup.largest) <= exact * SAFETY * (1 + 1e-12)
    assert float(setup.smallest) == 0.25


def test_a_matrix_beyond_gershgorins_bound_of_two() -> None:
    A = spd("far from dominant")
    b = jnp.arange(30.0)
    operator = lx.MatrixLinearOperator(jnp.asarray(A))
    # 0.1/27.1 = 1/271: every step of degree 8 takes off a factor of 1.4.
    found = lx.linear_solve(operator, b, Chebyshev(8, smallest=1 / 300, rtol=1e-10))
    np.testing.assert_allclose(found.value, np.linalg.solve(A, b), rtol=1e-7)


def test_a_solve_takes_the_steps_that_theory_says() -> None:
    """The lowest mode, at the lower end of the interval, decays by 1/T_k(θ/δ) a step."""
    problem = Poisson(Grid(16), lambda x: jnp.sin(jnp.pi * x))
    s = (1 - np.cos(np.pi / 16)) / 2
    factor = 1 / np.cosh(6 * np.arccosh((1 + s) / (1 - s)))
    steps, norms = solve(problem, Chebyshev(6, smallest=s, check_every=1)).history()
    np.testing.assert_allclose(norms, norms[0] * factor**steps, rtol=1e-6)
    assert steps[-1] == np.ceil(np.log(1e-8) / np.log(factor))


def test_the_interval_can_be_traced() -> None:
    problem = Poisson(Grid(8), 1.0)
    run = jax.jit(lambda s: solve(problem, Chebyshev(smallest=s)).num_steps)
    assert int(run(0.04)) < int(run(0.4))


def test_single_precision_stays_single() -> None:
    operator = EllipticOperator(Grid((4, 5), dtype=jnp.float32))
    u = jnp.ones(operator.grid.shape, jnp.float32)
    assert step(Chebyshev(smallest=0.1), operator, u, u).dtype == jnp.float32
