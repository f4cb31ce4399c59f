"""Line relaxation against dense block Gauss–Seidel, and against Young's theory of it."""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import (
    Boundary,
    ConjugateGradient,
    EllipticOperator,
    Grid,
    LineRelaxation,
    Poisson,
    as_preconditioner,
    solve,
)
from tests.solvers.cases import Dense, N, P, sides


def stepper(method: LineRelaxation, operator: EllipticOperator) -> Callable[..., jax.Array]:
    return jax.jit(lambda b, u: method.step(method.init(operator, {})[1], b, u))


def radius(method: LineRelaxation, operator: EllipticOperator) -> float:
    """The spectral radius of a step, on vectors without mean if A is singular."""
    grid, step = operator.grid, stepper(method, operator)
    basis = jnp.eye(grid.size).reshape(grid.size, *grid.shape)
    columns = jax.vmap(lambda u: step(jnp.zeros(grid.shape), u))(basis)
    S = np.asarray(columns).reshape(grid.size, -1).T
    if operator.is_singular:
        S = S - S.mean(0)
    return abs(np.linalg.eigvals(S)).max()


Places = list[np.ndarray]


def colours(grid: Grid, axes: Sequence[int]) -> list[Places]:
    """The lines to solve at once, each as the numbers of its unknowns, in the order of a sweep."""
    numbers = np.arange(grid.size).reshape(grid.shape)
    found = []
    for axis in axes:
        across = grid.shape[:axis] + grid.shape[axis + 1 :]
        lines = np.moveaxis(numbers, axis, -1)
        for colour in (0, 1):
            found.append([lines[i] for i in np.ndindex(*across) if sum(i) % 2 == colour])
    return found


def relax(A: np.ndarray, b: np.ndarray, u: np.ndarray, order: list[Places]) -> np.ndarray:
    """Block Gauss–Seidel; the lines of one colour start from the same values."""
    for lines in order:
        r = b - A @ u
        u = u.copy()
        for line in lines:
            u[line] += np.linalg.solve(A[np.ix_(line, line)], r[line])
    return u


GRIDS = [
    ("DD", (7,), None),
    ("NN", (4,), None),
    ("PP", (6,), None),
    ("PP", (2,), None),
    ("DN-PP", (4, 4), None),
    ("PP-ND", (4, 3), (1, 0, 1)),
    ("DD-NN", (2, 4), None),  # a single line along the second axis
    ("PP-PP", (5, 3), None),  # neighbours that share a colour
    ("PP-DN-NN", (2, 3, 2), (2,)),
    ("PP-ND-PP", (3, 4, 3), (1,)),
    ("NN-PP-DD", (2, 5, 3), (0, 1)),
]


@pytest.mark.parametrize(("names", "intervals", "axes"), GRIDS)
def test_a_step_is_dense_block_gauss_seidel(
    names: str, intervals: tuple[int, ...], axes: tuple[int, ...] | None
) -> None:
    """Forward by a step; there and back by the preconditioner."""
    grid = Grid(intervals, boundary=sides(names))
    numbers = np.random.default_rng(7)
    a, c = numbers.uniform(0.5, 2, (2, *grid.full_shape))
    A = Dense.assemble(grid, (a,) * grid.ndim, c).A
    b, u = numbers.normal(size=(2, grid.size))
    order = colours(grid, range(grid.ndim) if axes is None else axes)
    method, operator = LineRelaxation(axes), EllipticOperator(grid, a, c)

    found = stepper(method, operator)(*(jnp.asarray(x.reshape(grid.shape)) for x in (b, u)))
    np.testing.assert_allclose(found.ravel(), relax(A, b, u, order), rtol=1e-10, atol=1e-12)

    expected = relax(A, b, 0 * u, order + order[::-1])
    apply = as_preconditioner(method, operator)
    found = jax.jit(lambda r: apply.mv(r))(jnp.asarray(b.reshape(grid.shape)))
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("names", ["DN-PP", "NN-DD", "PP-NN"])
def test_constant_coefficients_are_not_special(names: str) -> None:
    """They come as scalars, or as one row for all lines."""
    grid = Grid((4, 5), boundary=sides(names))
    A = Dense.assemble(grid, (2.0, 0.5), 0.3).A
    b, u = np.random.default_rng(8).normal(size=(2, grid.size))
    step = stepper(LineRelaxation(), EllipticOperator(grid, (2.0, 0.5), 0.3))
    found = step(*(jnp.asarray(x.reshape(grid.shape)) for x in (b, u)))
    expected = relax(A, b, u, colours(grid, (0, 1)))
    np.testing.assert_allclose(found.ravel(), expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("boundary", [N, P])
@pytest.mark.parametrize("n", [2, 7])
def test_a_singular_line_is_solved_by_the_pseudo_inverse(boundary: Any, n: int) -> None:
    a = np.random.default_rng(9).uniform(0.5, 2, n + (boundary is N))
    operator = EllipticOperator(Grid(n, boundary=boundary), a)
    assert operator.is_singular
    A = np.asarray(operator.as_matrix())
    # Not without mean: that is for the method to take out.
    b = jnp.linspace(0.0, 1.0, len(A)) ** 2
    _, setup = LineRelaxation().init(operator, {})
    found = LineRelaxation().precondition(setup, b, 1)
    np.testing.assert_allclose(found, np.linalg.pinv(A) @ b, atol=1e-12)


@pytest.mark.parametrize("names", ["DD", "DN", "NN", "PP"])
def test_in_one_dimension_one_step_is_enough(names: str) -> None:
    grid = Grid(200, boundary=sides(names))
    problem = Poisson(grid, lambda x: jnp.cos(2 * jnp.pi * x), diffusion=1.5)
    solution = solve(problem, LineRelaxation())
    assert int(solution.num_steps) == 1


@pytest.mark.parametrize(
    ("names", "intervals", "axes", "bound"),
    [
        ("PP-PP", (3, 3), (0,), 0.51),
        ("PP-PP", (5, 5), None, 0.14),
        ("PP-NN", (3, 2), (1,), 0.59),
        ("NN-PP", (4, 7), (0,), 0.86),
        ("PP-PP-PP", (3, 3, 3), (1,), 0.51),
        ("PP-DD-PP", (5, 3, 5), (0,), 0.79),
    ],
)
def test_it_converges_where_neighbours_share_a_colour(
    names: str, intervals: tuple[int, ...], axes: tuple[int, ...] | None, bound: float
) -> None:
    """Bounds are measured values, rounded up."""
    operator = EllipticOperator(Grid(intervals, boundary=sides(names)))
    assert not operator.is_bipartite
    assert radius(LineRelaxation(axes), operator) < bound


@pytest.mark.parametrize("strong", [1.0, 30.0, 1e4])
def test_strong_coupling_along_the_lines_only_helps(strong: float) -> None:
    """ρ = μ² (Young 1954), μ of line Jacobi: b cos πh/(a(1 − cos πh) + b), a along, b across."""
    n = 10
    operator = EllipticOperator(Grid((n, n)), (strong, 1.0))
    c = np.cos(np.pi / n)
    expected = (c / (strong * (1 - c) + 1)) ** 2
    assert radius(LineRelaxation(0), operator) == pytest.approx(expected, rel=1e-6)
    # One more axis of lines never makes it worse.
    assert radius(LineRelaxation(), operator) <= expected


def test_a_singular_problem_in_the_plane() -> None:
    grid = Grid((8, 6), boundary=sides("NN-PP"))
    problem = Poisson(grid, lambda x, y: jnp.cos(jnp.pi * x) + jnp.sin(2 * jnp.pi * y))
    solution = solve(problem, LineRelaxation(rtol=1e-11))
    np.testing.assert_allclose(solution.value, solve(problem).value, atol=1e-9)


def test_single_precision_stays_single() -> None:
    operator = EllipticOperator(Grid((4, 5), boundary=sides("DN-PP"), dtype=jnp.float32))
    u = jnp.ones(operator.grid.shape, jnp.float32)
    assert stepper(LineRelaxation(), operator)(u, u).dtype == jnp.float32


@pytest.mark.parametrize("boundary", [Boundary.NEUMANN, Boundary.PERIODIC])
@pytest.mark.parametrize("n", [10, 17, 32])
def test_a_medium_that_ends_before_the_line_is_solved(boundary: Boundary, n: int) -> None:
    """The last unknown was pinned, which is none of the medium's."""
    grid = Grid(n, boundary=boundary)
    problem = Poisson(grid, lambda x: x - 0.5, medium=lambda x: 0.3 - abs(x - 0.5))
    found = [solve(problem, method).field for method in (LineRelaxation(), ConjugateGradient())]
    np.testing.assert_allclose(*found, atol=1e-7)
