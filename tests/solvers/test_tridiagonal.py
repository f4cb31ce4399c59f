"""Batched tridiagonal solves against dense ones."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import tridiagonal

SHAPES = [((n,), 0) for n in (1, 2, 3, 8)]
SHAPES += [((4, 3), axis) for axis in (0, 1, -1)] + [((2, 4, 3), axis) for axis in range(3)]
CASES = [
    (shape, axis, periodic)
    for (shape, axis), periodic in itertools.product(SHAPES, (False, True))
    if not (periodic and shape[axis] == 1)
]


def dense(lower: np.ndarray, diagonal: np.ndarray, upper: np.ndarray, periodic: bool) -> np.ndarray:
    """The matrix of one system, entry by entry; two couplings of one pair add up."""
    n = len(diagonal)
    A = np.diag(diagonal)
    for j in range(n):
        if periodic or j > 0:
            A[j, (j - 1) % n] += lower[j]
        if periodic or j < n - 1:
            A[j, (j + 1) % n] += upper[j]
    return A


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(shape).uniform(0.1, 1.0, shape)


@pytest.fixture(params=["row by row", "by doubling"])
def way(request: pytest.FixtureRequest) -> None:
    """The CPU's, and that of all other platforms."""
    if request.param == "by doubling":
        request.getfixturevalue("elsewhere")


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(("shape", "axis", "periodic"), CASES)
def test_it_agrees_with_dense_solves(shape: tuple[int, ...], axis: int, periodic: bool) -> None:
    lower, upper = -random(*shape), -random(*shape) / 2
    diagonal = 0.01 + abs(lower) + abs(upper)
    rhs = random(*shape) - 0.5

    @jax.jit
    def run(*arrays: jax.Array) -> jax.Array:
        return tridiagonal.factor(*arrays[:3], axis, periodic).solve(arrays[3])

    found = run(*map(jnp.asarray, (lower, diagonal, upper, rhs)))
    assert found.shape == shape
    rows = [np.moveaxis(c, axis, -1).reshape(-1, shape[axis]) for c in (lower, diagonal, upper)]
    sides = np.moveaxis(rhs, axis, -1).reshape(-1, shape[axis])
    wanted = [
        np.linalg.solve(dense(*system, periodic), r)
        for *system, r in zip(*rows, sides, strict=True)
    ]
    flat = np.moveaxis(np.asarray(found), axis, -1).reshape(-1, shape[axis])
    np.testing.assert_allclose(flat, wanted, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("periodic", [False, True])
def test_coefficients_broadcast(axis: int, periodic: bool) -> None:
    shape = (3, 4, 5)
    along = [n if d == axis else 1 for d, n in enumerate(shape)]
    across = [1 if d == axis else n for d, n in enumerate(shape)]
    coefficients = -random(*along), 2.1 + random(*across), -random(1, 1, 1)
    rhs = jnp.asarray(random(*shape))
    few = tridiagonal.factor(*map(jnp.asarray, coefficients), axis, periodic)
    full = [jnp.broadcast_to(c, shape) for c in coefficients]
    every = tridiagonal.factor(*full, axis, periodic)
    np.testing.assert_allclose(few.solve(rhs), every.solve(rhs), rtol=1e-13)


@pytest.mark.parametrize("excess", [0.0, 1e-12, 1.0])
def test_pivots_by_doubling_lose_nothing(excess: float) -> None:
    """The smallest excess counts in long systems without any other: nothing is subtracted."""
    n = 2000
    ends = jnp.full(n, -1.0)
    found = tridiagonal.inverse_pivots(ends, jnp.full(n, 2.0 + excess), ends, 0)
    s, pivots = 1.0, []
    for _ in range(n):  # p = s + 1, s = excess + s/p
        s = (2.0 + excess - 2.0) + s
        pivots.append(s + 1)
        s /= s + 1
    np.testing.assert_allclose(found * np.array(pivots), 1, rtol=1e-12)


def test_single_precision_stays_single() -> None:
    lower, diagonal = jnp.full((6, 1), -1, jnp.float32), jnp.full((1, 4), 2.5, jnp.float32)
    x = tridiagonal.factor(lower, diagonal, lower, 0).solve(jnp.ones((6, 4), jnp.float32))
    assert x.dtype == jnp.float32


def test_a_batch_of_factors_and_right_hand_sides() -> None:
    lower, diagonal = jnp.full((6, 1), -1.0), jnp.asarray(random(2, 1, 4) + 2)
    rhs = jnp.asarray(random(2, 6, 4))

    def solve(diagonal: jax.Array, rhs: jax.Array) -> jax.Array:
        return tridiagonal.factor(lower, diagonal, lower, 0, periodic=True).solve(rhs)

    batch = jax.jit(jax.vmap(solve))(diagonal, rhs)
    for one, d, r in zip(batch, diagonal, rhs, strict=True):
        np.testing.assert_allclose(one, solve(d, r), rtol=1e-13)


def test_what_it_refuses() -> None:
    one = jnp.ones(3)
    with pytest.raises(ValueError, match="expected as many axes each"):
        tridiagonal.factor(one, jnp.ones((3, 2)), one, 0)
    with pytest.raises(ValueError, match="at least 2 unknowns, got 1"):
        tridiagonal.factor(one[:1], one[:1], one[:1], 0, periodic=True)
    with pytest.raises(ValueError, match="rhs: expected 1 axes"):
        tridiagonal.factor(one, 3 * one, one, 0).solve(jnp.ones((3, 2)))
