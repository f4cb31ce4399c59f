"""Direct solves on the coarsest level, against dense matrices."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import EllipticOperator, Grid
from solvers.multigrid.axis import Axis, finest_axis
from solvers.multigrid.blocks import join, split
from solvers.multigrid.coarsest import dense_solve, fits_tensor, inverse_of, tensor_solve
from solvers.multigrid.hierarchy import finest_level
from solvers.multigrid.level import constant_level
from tests.solvers.cases import sides


def matrices(build: Any, *data: Any) -> tuple[np.ndarray, np.ndarray]:
    """Those of a level and of its solve, dense; `build` makes both of `data`."""

    @jax.jit
    def dense(*data: Any) -> tuple[jax.Array, jax.Array]:
        level, solve = build(*data)
        size = int(np.prod(level.shape))

        def columns(e: jax.Array) -> tuple[jax.Array, jax.Array]:
            blocks = split(e.reshape(level.shape))
            return join(level.apply(blocks)).reshape(-1), join(solve(blocks)).reshape(-1)

        return jax.vmap(columns, out_axes=1)(jnp.eye(size))

    A, S = dense(*data)
    return np.asarray(A), np.asarray(S)


def coarser(axes: tuple[Axis, ...], times: int) -> tuple[Axis, ...]:
    for _ in range(times):
        axes = tuple(line.coarser() if line.can_coarsen else line for line in axes)
    return axes


@pytest.mark.parametrize(
    ("names", "intervals", "times", "reaction"),
    [
        ("DD", (9,), 0, None),
        ("DN-PP", (10, 7), 1, None),  # graded axes
        ("NN-PP", (11, 9), 1, 0.4),
        ("ND-DD-PP", (8, 7, 6), 1, None),
        ("DD-DD", (5, 3), 2, None),  # one node by one
    ],
)
def test_tensor_solves_invert(
    names: str, intervals: tuple[int, ...], times: int, reaction: float | None
) -> None:
    grid = Grid(intervals, boundary=sides(names))
    axes = coarser(tuple(finest_axis(grid, axis) for axis in range(grid.ndim)), times)

    def build(strengths: Any, c: Any) -> Any:
        solve = tensor_solve(axes, strengths, c, is_singular=False)
        return constant_level(axes, strengths, c), solve

    strengths = tuple(map(jnp.asarray, (1.3, 0.2, 40.0)[: grid.ndim]))
    A, S = matrices(build, strengths, None if reaction is None else jnp.asarray(reaction))
    np.testing.assert_allclose(S @ A, np.eye(len(A)), rtol=0, atol=1e-11)
    assert fits_tensor(axes)


@pytest.mark.parametrize("names", ["NN", "PP", "NN-PP", "PP-PP"])
def test_singular_tensor_solves_leave_out_the_constants(names: str) -> None:
    """Of graded axes too: S A u = u − the mean of u weighed by the control volumes."""
    grid = Grid((9, 7)[: len(names.split("-"))], boundary=sides(names))
    axes = coarser(tuple(finest_axis(grid, axis) for axis in range(grid.ndim)), 1)

    def build(*strengths: Any) -> Any:
        solve = tensor_solve(axes, strengths, None, is_singular=True)
        return constant_level(axes, strengths, None), solve

    A, S = matrices(build, *(jnp.asarray(1.0) for _ in axes))
    volumes = axes[0].weights()
    if grid.ndim == 2:
        volumes = np.multiply.outer(volumes, axes[1].weights()).reshape(-1)
    mean = np.outer(np.ones(len(A)), volumes / volumes.sum())
    np.testing.assert_allclose(S @ A, np.eye(len(A)) - mean, rtol=0, atol=1e-11)


@pytest.mark.parametrize(
    ("names", "contrast"), [("DN", 0), ("DD-NN", 6), ("NN-PP", 0), ("PP-PP", 6), ("DN-PP-DD", 3)]
)
def test_dense_solves_invert_across_jumps(names: str, contrast: int) -> None:
    """Of a singular operator the pseudo-inverse."""
    grid = Grid((6, 5, 4)[: len(names.split("-"))], boundary=sides(names))
    exponents = np.random.default_rng(6).integers(0, 2, grid.full_shape) * contrast
    for axis in range(grid.ndim):
        if grid.is_periodic(axis):
            ends = [(slice(None),) * axis + (index,) for index in (0, -1)]
            exponents[ends[1]] = exponents[ends[0]]
    operator = EllipticOperator(grid, jnp.asarray(10.0**exponents))

    def build(operator: EllipticOperator) -> Any:
        level = finest_level(operator)
        return level, dense_solve(level, is_singular=operator.is_singular)

    _, S = matrices(build, operator)
    A = np.asarray(operator.as_matrix())
    expected = np.eye(len(A)) - (1 / len(A) if operator.is_singular else 0)
    # Rounding grows with the contrast.
    np.testing.assert_allclose(S @ A, expected, rtol=0, atol=1e-13 * 10**contrast * len(A))
    np.testing.assert_allclose(S, S.T, rtol=0, atol=1e-13 * abs(S).max())


@pytest.mark.parametrize("size", [1, 5, 16, 17, 40])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_inverse_of_a_matrix(size: int, dtype: Any) -> None:
    """Of a condition of about 1e3, and under vmap."""
    rows = np.random.default_rng(size).standard_normal((2, size, size))
    matrix = rows @ rows.transpose(0, 2, 1) + 0.1 * size / 4 * np.eye(size)
    found = jax.jit(jax.vmap(inverse_of))(jnp.asarray(matrix, dtype))
    assert found.dtype == dtype
    for inverse, one in zip(np.asarray(found, float), matrix, strict=True):
        bound = 10 * np.finfo(dtype).eps * np.linalg.cond(one)
        np.testing.assert_allclose(inverse @ one, np.eye(size), rtol=0, atol=bound)
