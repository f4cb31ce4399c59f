"""The test data first: do the manufactured solutions satisfy their equation?"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.solvers.cases import PAIRS, Dense, Manufactured, N, sides

CASES = [
    Manufactured(names, coefficients)
    for names in ("DN", "PP", "NN-PP-DN")
    for coefficients in ("anisotropic", "varying")
]


def points(case: Manufactured) -> jax.Array:
    low, high = (jnp.asarray(corner[: case.ndim]) for corner in (case.lower, case.upper))
    share = jax.random.uniform(jax.random.key(0), (20, case.ndim))
    return low[None] + share * (high - low)[None]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_equation_holds(case: Manufactured) -> None:
    def u(x: jax.Array) -> jax.Array:
        return case.u(*x)

    def flow(x: jax.Array) -> jax.Array:
        a = jnp.stack([case.a(axis, *x) for axis in range(case.ndim)])
        return a * jax.grad(u)(x)

    def residual(x: jax.Array) -> jax.Array:
        return -jnp.trace(jax.jacfwd(flow)(x)) + case.c(*x) * u(x) - case.f(*x)

    # Terms are of order 100; both sides are exact up to rounding.
    assert abs(jax.jit(jax.vmap(residual))(points(case))).max() < 1e-11


@pytest.mark.parametrize("case", CASES, ids=str)
def test_slopes_are_the_derivatives(case: Manufactured) -> None:
    for axis in range(case.ndim):
        exact = jax.vmap(lambda x: jax.grad(lambda y: case.u(*y))(x)[axis])  # noqa: B023
        given = jax.vmap(lambda x: case.slope(axis, *x))  # noqa: B023
        np.testing.assert_allclose(given(points(case)), exact(points(case)), rtol=1e-12)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_data_wrap_on_periodic_axes_and_are_elliptic(case: Manufactured) -> None:
    x = points(case)
    assert all((jnp.asarray(case.a(axis, *x.T)) > 0).all() for axis in range(case.ndim))
    assert (jnp.asarray(case.c(*x.T)) >= 0).all()
    for axis, pair in enumerate(sides(case.sides)):
        if pair == PAIRS["PP"]:
            period = case.upper[axis] - case.lower[axis]
            moved = x.at[:, axis].add(period)
            for function in (case.u, case.f, case.c, lambda *x: case.a(0, *x)):
                ones = jnp.ones(len(x))
                np.testing.assert_allclose(
                    function(*moved.T) * ones, function(*x.T) * ones, rtol=1e-9
                )


def test_the_dense_matrix_is_the_textbooks() -> None:
    grid = Manufactured("DD", "one").grid(4)
    system = Dense.assemble(grid, [1.0], f=2.0, g=np.array([3.0, 9, 9, 9, 5]))
    h2 = grid.spacing[0] ** 2
    np.testing.assert_allclose(system.A * h2, [[2, -1, 0], [-1, 2, -1], [0, -1, 2]], atol=1e-14)
    np.testing.assert_allclose(system.b, [2 + 3 / h2, 2, 2 + 5 / h2])
    grid = Manufactured("NN", "one").grid(2)
    assert grid.boundary == ((N, N),)
    system = Dense.assemble(grid, [1.0], f=2.0, q=((0.5, 0.7),))
    h = grid.spacing[0]
    np.testing.assert_allclose(system.A * h**2, [[1, -1, 0], [-1, 2, -1], [0, -1, 1]], atol=1e-14)
    np.testing.assert_allclose(system.b, [1 + 0.5 / h, 2, 1 + 0.7 / h])
