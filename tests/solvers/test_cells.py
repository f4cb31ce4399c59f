"""Coefficients given by cells: against a matrix put together cell by cell."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nets.quadrature import GridEnergy
from nets.ritz import choose_quadrature
from solvers import Cells, EllipticOperator, Grid, Multigrid, Poisson, solve
from tests.solvers.cases import sides

GRIDS = [
    Grid(5, boundary=sides("DN")),
    Grid(4, upper=2.0, boundary=sides("PP")),
    Grid((4, 3), upper=(1.0, 2.0), boundary=sides("DD-NN")),
    Grid((4, 5), boundary=sides("NN-PP")),
    Grid((3, 2), boundary=sides("PP-ND")),
    Grid((3, 2, 4), upper=(1.0, 1.0, 3.0), boundary=sides("DD-NN-PP")),
]


def random(grid: Grid, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 10.0, grid.intervals)


def corners(grid: Grid, cell: tuple[int, ...]) -> list[tuple[int, ...]]:
    """Nodes of a cell, low ones first."""
    steps = itertools.product((0, 1), repeat=grid.ndim)
    return [
        tuple((j + s) % size for j, s, size in zip(cell, step, grid.full_shape, strict=True))
        for step in steps
    ]


def assembled(grid: Grid, a: np.ndarray, c: np.ndarray) -> np.ndarray:
    """∫a∇u·∇v + cuv on all nodes over the cells' volume, each edge and corner with its share."""
    size = int(np.prod(grid.full_shape))
    A = np.zeros((size, size))
    for cell in np.ndindex(grid.intervals):
        nodes = [int(np.ravel_multi_index(n, grid.full_shape)) for n in corners(grid, cell)]
        share = 0.5**grid.ndim
        for node in nodes:
            A[node, node] += share * c[cell]
        for axis, h in enumerate(grid.spacing):
            step = 2 ** (grid.ndim - 1 - axis)
            for low in range(len(nodes)):
                if low // step % 2 == 0:
                    e = np.zeros(size)
                    np.add.at(e, [nodes[low], nodes[low + step]], [-1.0, 1.0])
                    A += 2 * share * a[cell] / h**2 * np.outer(e, e)
    is_unknown = np.zeros(grid.full_shape, bool)
    is_unknown[grid.unknowns] = True
    rows = np.flatnonzero(is_unknown)
    return A[np.ix_(rows, rows)]


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.intervals}")
def test_the_operator_is_the_sum_over_cells(grid: Grid) -> None:
    a, c = random(grid, 0), random(grid, 1)
    operator = EllipticOperator(grid, Cells(a), Cells(c))
    np.testing.assert_allclose(operator.as_matrix(), assembled(grid, a, c), rtol=1e-12)


@pytest.mark.parametrize("grid", GRIDS, ids=lambda grid: f"{grid.intervals}")
def test_a_source_is_given_to_the_corners_of_its_cells(grid: Grid) -> None:
    f = random(grid, 2)
    expected = np.zeros(grid.full_shape)
    for cell in np.ndindex(grid.intervals):
        for node in corners(grid, cell):
            expected[node] += 0.5**grid.ndim * f[cell]
    problem = Poisson(grid, Cells(f), reaction=1.0)
    np.testing.assert_allclose(problem.rhs, expected[grid.unknowns], rtol=1e-13)


def test_cells_and_numbers_go_together_axis_by_axis() -> None:
    grid = GRIDS[2]
    a = random(grid, 3)
    one, other = np.full(grid.intervals, 2.0), Cells(a)
    mixed = EllipticOperator(grid, (2.0, other)).as_matrix()
    np.testing.assert_allclose(mixed, EllipticOperator(grid, (Cells(one), other)).as_matrix())


def test_across_materials_multigrid_is_exact_and_has_slopes() -> None:
    """Layers of conductivity a in series let as much through as their mean resistance."""
    grid = Grid((16, 12), boundary=sides("DD-NN"))
    layers = np.repeat([1.0, 1e3, 10.0, 0.1], 4)

    def through(layers: jax.Array) -> jax.Array:
        a = Cells(jnp.broadcast_to(layers[:, None], grid.intervals))
        problem = Poisson(grid, 0.0, diffusion=a, boundary_values=lambda x, y: x)
        return -jnp.mean(solve(problem, Multigrid(rtol=1e-12)).flux()[0])

    value, slopes = jax.value_and_grad(through)(jnp.asarray(layers))
    mean = 1 / np.mean(1 / layers)
    assert float(value) == pytest.approx(mean, rel=1e-9)
    np.testing.assert_allclose(slopes, mean**2 / (16 * layers**2), rtol=1e-6)


def test_a_network_trains_on_the_nodes() -> None:
    grid = GRIDS[2]
    assert isinstance(
        choose_quadrature(Poisson(grid, 1.0, diffusion=Cells(random(grid, 4)))), GridEnergy
    )


@pytest.mark.parametrize("name", ["diffusion", "reaction", "source"])
@pytest.mark.parametrize("values", [np.ones((5, 4)), np.ones(4), -np.ones((4, 3)) * np.nan, "x"])
def test_cells_that_do_not_fit_are_named(name: str, values: object) -> None:
    with pytest.raises(ValueError, match=name):
        Poisson(GRIDS[2], **{"source": 1.0, name: Cells(values)})
