"""Boundary treatments: Dirichlet data met to rounding on every mix, periodic axes exactly."""

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from nets import MLP, HardBoundary, PenaltyBoundary, input_size
from nets.ansatz import ansatz_at
from nets.quadrature import node_points
from solvers.grid import Boundary, Cells, Grid
from solvers.problems import Poisson

D, N, P = Boundary.DIRICHLET, Boundary.NEUMANN, Boundary.PERIODIC
PAIRS = ((D, D), (D, N), (N, D), (N, N), (P, P))
NODES = 6 * 5 * 4  # of `make_grid` at most
MIXES = [
    *itertools.product(PAIRS, repeat=1),
    *[(PAIRS[i], PAIRS[(i + 1) % 5]) for i in range(5)],
    ((D, D), (D, D)),
    ((D, D), (D, D), (D, D)),
    ((D, N), (N, D), (P, P)),
]


def make_grid(sides: tuple, intervals: tuple[int, ...] = (5, 4, 3)) -> Grid:
    ndim = len(sides)
    return Grid(intervals[:ndim], (-1, 0, 2)[:ndim], (1, 3, 2.7)[:ndim], sides)


def is_given(grid: Grid) -> np.ndarray:
    given = np.ones(grid.full_shape, bool)
    given[grid.unknowns] = False
    return given


def wave(*x: Any, cos: Any = jnp.cos) -> Any:
    """Return data that no low polynomial extends, and periodic on every axis of `make_grid`."""
    return 2 + sum(cos(2 * np.pi * y / w) for y, w in zip(x, (2, 3, 0.7), strict=False))


def boundary_data(grid: Grid, kind: str) -> Any:
    """Return the wave, known on Dirichlet sides only, as a callable of NumPy or an array."""

    def on_sides(*x: Any) -> np.ndarray:
        x = tuple(map(np.asarray, x))
        hit = np.zeros(x[0].shape, bool)
        for y, low, high, sides in zip(x, grid.lower, grid.upper, grid.boundary, strict=True):
            for end, side in zip((low, high), sides, strict=True):
                hit |= (y == end) & (side is D)
        return np.where(hit, wave(*x, cos=np.cos), np.nan)

    return on_sides if kind == "callable" else on_sides(*grid.coordinates())


@pytest.mark.parametrize("kind", ["callable", "array"])
@pytest.mark.parametrize("sides", [mix for mix in MIXES if D in sum(mix, ())])
def test_hard_boundary_meets_the_data_to_rounding(sides: tuple, kind: str) -> None:
    grid = make_grid(sides)
    problem = Poisson(grid, 0.0, boundary_values=boundary_data(grid, kind))
    nodes = node_points(grid)
    padded = np.resize(nodes, (NODES, grid.ndim))  # one shape for all, which compiles once
    ansatz = ansatz_at(problem, HardBoundary(), grid, padded, gradients=False)
    lift, factor = (
        np.asarray(x)[: len(nodes)].reshape(grid.full_shape) for x in (ansatz.lift, ansatz.factor)
    )
    given = is_given(grid)
    # At most 26 values of order 1 are added up.
    np.testing.assert_allclose(lift[given], problem.boundary_field[given], atol=1e-14)
    np.testing.assert_array_equal(factor[given], 0)
    assert np.all(factor[~given] > 0)
    assert np.all(np.isfinite(lift))


@pytest.mark.parametrize("sides", [((N, N),), ((P, P), (N, N)), ((P, P),)])
def test_without_dirichlet_sides_the_network_is_alone(sides: tuple) -> None:
    grid = make_grid(sides)
    ansatz = ansatz_at(Poisson(grid, 0.0), HardBoundary(), grid, node_points(grid), gradients=True)
    np.testing.assert_array_equal(ansatz.lift, 0)
    np.testing.assert_array_equal(ansatz.factor, 1)


def test_gradients_of_the_ansatz_match_differences() -> None:
    grid = make_grid(((D, N), (D, D), (P, P)))
    problem = Poisson(grid, 0.0, boundary_values=wave)
    network = MLP(input_size(grid), (8,), dtype=jnp.float64, rngs=nnx.Rngs(0))
    points = np.random.default_rng(0).uniform(0.1, 0.9, (6, 3))

    def values(shift: np.ndarray) -> np.ndarray:
        box = np.subtract(grid.upper, grid.lower)
        at = ansatz_at(problem, HardBoundary(), grid, points + shift / box, gradients=True)
        return np.asarray(expand(at)[0])

    expand = jax.jit(lambda at: at.values_and_gradient(network))
    u, gradient = expand(ansatz_at(problem, HardBoundary(), grid, points, gradients=True))
    np.testing.assert_array_equal(u, values(np.zeros(3)))
    for axis in range(3):
        step = 1e-5 * np.eye(3)[axis]
        # Central differences: h² times a third derivative of some 1e3, and rounding over h.
        np.testing.assert_allclose(gradient[axis], (values(step) - values(-step)) / 2e-5, atol=1e-6)


def test_a_periodic_axis_closes_exactly() -> None:
    grid = make_grid(((P, P), (D, D)))
    problem = Poisson(grid, 0.0, boundary_values=wave)
    network = MLP(input_size(grid), (16,), frequency=5.0, dtype=jnp.float64, rngs=nnx.Rngs(0))
    ends = [np.array([[t, y] for y in (0.2, 0.6)]) for t in (0.0, 1.0)]
    low, high = (ansatz_at(problem, PenaltyBoundary(), grid, at, gradients=True) for at in ends)
    u_low, slope_low = low.values_and_gradient(network)
    u_high, slope_high = high.values_and_gradient(network)
    np.testing.assert_array_equal(u_low, u_high)
    np.testing.assert_array_equal(slope_low[0], slope_high[0])


def test_nodal_data_is_linear_between_the_nodes() -> None:
    grid = make_grid(((D, D), (N, N)))
    nodal = Poisson(grid, 0.0, boundary_values=wave(*grid.coordinates()))
    middle = np.array([[0.0, 0.5 / 4], [1.0, 2.5 / 4]])
    lift = ansatz_at(nodal, HardBoundary(), grid, middle, gradients=False).lift
    g = np.asarray(nodal.boundary_field)
    np.testing.assert_allclose(lift, [(g[0, 0] + g[0, 1]) / 2, (g[-1, 2] + g[-1, 3]) / 2])


@pytest.mark.parametrize("boundary", [HardBoundary(), PenaltyBoundary()], ids=repr)
def test_data_of_cells_is_as_that_of_nodes(boundary: Any) -> None:
    grid = make_grid(((D, D), (N, N)))
    problem = Poisson(grid, 0.0, boundary_values=Cells(np.full(grid.intervals, 2.0)))
    nodes = node_points(grid)
    number = Poisson(grid, 0.0, boundary_values=2.0)
    found, expected = (
        ansatz_at(p, boundary, grid, nodes, gradients=False) for p in (problem, number)
    )
    np.testing.assert_allclose(found.lift, expected.lift, rtol=1e-14)


@pytest.mark.parametrize("strength", [0.0, -1.0, float("inf"), "ten"])
def test_penalty_refuses(strength: object) -> None:
    with pytest.raises(ValueError, match="strength: expected a positive number"):
        PenaltyBoundary(strength)  # type: ignore
