"""Transforms against the modes written out, and modes against the operator."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import EllipticOperator, Grid, transforms
from tests.solvers.cases import PAIRS, sides

SIZES = {1: ("DN", "ND", "NN"), 2: PAIRS, 3: PAIRS, 8: PAIRS, 15: PAIRS}
CASES = [(names, n) for n, every in SIZES.items() for names in every]
on_every_axis = pytest.mark.parametrize(("names", "n"), CASES)


@on_every_axis
def test_modes_are_eigenvectors_of_the_operator(names: str, n: int) -> None:
    grid = Grid(n, upper=1.7, boundary=sides(names))
    modes = transforms.modes(grid, 0, grid.shape[0])
    eigenvalues = transforms.eigenvalues(grid, 0)
    operator = EllipticOperator(grid)
    A = np.asarray(jax.jit(lambda: operator.as_matrix())())
    weights = grid.row_weights(0)[:, None]
    # Eigenvalues go up to 4/h², of which rounding leaves 1e-16 for each of n terms.
    np.testing.assert_allclose(A @ modes, weights * modes * eigenvalues, atol=1e-13 * 4 * n**2)
    assert np.linalg.matrix_rank(modes) == grid.shape[0]
    assert (np.diff(eigenvalues) >= -1e-12).all()


@on_every_axis
def test_transforms_go_to_the_modes_and_back(names: str, n: int) -> None:
    """Along a middle axis, which shows any mix-up of axes."""
    line = Grid(n, boundary=sides(names))
    grid = Grid((3, n), boundary=sides(f"DD-{names}"))
    u_hat = np.random.default_rng(0).normal(size=(2, line.shape[0]))
    u = u_hat @ transforms.modes(line, 0, line.shape[0]).T

    @jax.jit
    def both(u: jax.Array, u_hat: jax.Array) -> tuple[jax.Array, jax.Array]:
        return transforms.analyze(u, grid, 1), transforms.synthesize(u_hat, grid, 1)

    analyzed, synthesized = both(jnp.asarray(u), jnp.asarray(u_hat))
    np.testing.assert_allclose(analyzed, u_hat, atol=1e-13 * n)
    np.testing.assert_allclose(synthesized, u, atol=1e-13 * n)


@pytest.mark.parametrize("names", PAIRS)
def test_single_precision_stays_single_and_is_as_good_as_that(names: str) -> None:
    grid = Grid(48, boundary=sides(names), dtype="float32")
    u = jax.random.normal(jax.random.key(0), grid.shape, jnp.float32)
    back = transforms.synthesize(transforms.analyze(u, grid, 0), grid, 0)
    assert back.dtype == jnp.float32
    np.testing.assert_allclose(back, u, atol=1e-5)  # ε·√n, twice


@pytest.mark.parametrize("names", PAIRS)
def test_the_lowest_modes_are_the_first_columns_of_all(names: str) -> None:
    grid = Grid(9, boundary=sides(names))
    every = transforms.modes(grid, 0, grid.shape[0])
    np.testing.assert_array_equal(transforms.modes(grid, 0, 3), every[:, :3])
