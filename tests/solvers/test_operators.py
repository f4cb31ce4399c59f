"""The operator against a matrix assembled by hand, and what lineax may ask of it."""

from typing import Any

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import EllipticOperator, Grid
from solvers.operators import neighbours
from tests.solvers.cases import PAIRS, D, Dense, N, P, sides
from tests.solvers.test_grid import grids


def matrices(
    grid: Grid, a: Any, c: Any, robin: Any = None
) -> tuple[EllipticOperator, np.ndarray, np.ndarray]:
    """The operator, its matrix, and its matrix by its diagonal."""

    @jax.jit
    def build(a: Any, c: Any, robin: Any) -> Any:
        operator = EllipticOperator(grid, a, c, robin)
        return operator, operator.as_matrix(), lx.diagonal(operator)

    operator, A, diagonal = build(a, c, robin)
    return operator, np.asarray(A), np.asarray(diagonal)


def check(grid: Grid, a: Any, c: Any, robin: Any = None) -> None:
    _, A, diagonal = matrices(grid, a, c, robin)
    per_axis = a if isinstance(a, tuple) else (a,) * grid.ndim
    pairs = (robin,) if robin is not None and grid.ndim == 1 else robin
    expected = Dense.assemble(grid, per_axis, c, alpha=pairs).A
    size = abs(expected).max()
    np.testing.assert_allclose(A, expected, atol=1e-13 * size)
    np.testing.assert_allclose(A, A.T, atol=1e-13 * size)
    np.testing.assert_allclose(diagonal, np.diag(A), atol=1e-13 * size)
    assert np.linalg.eigvalsh(A).min() >= -1e-12 * size


@settings(max_examples=12)
@given(grids(largest=4), st.integers(0, 99))
def test_varying_coefficients_on_any_grid(grid: Grid, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    check(grid, numbers.uniform(0.1, 3, grid.full_shape), numbers.uniform(0, 3, grid.full_shape))


@settings(max_examples=12)
@given(grids(largest=4), st.integers(0, 99))
def test_nodal_coefficients_for_each_axis_on_any_grid(grid: Grid, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    a = tuple(numbers.uniform(0.1, 3, grid.full_shape) for _ in grid.shape)
    check(grid, a if grid.ndim == 1 else (2.0, *a[1:]), 0.7)


def test_the_coupling_of_nodal_coefficients_for_each_axis() -> None:
    grid = Grid((8, 8))
    x, y = grid.coordinates()
    assert EllipticOperator(grid, (1 + x, 4 * (1 + x))).coupling == (0.25, 1.0)
    assert EllipticOperator(grid, (jnp.exp(2 * y - 1), lambda x, y: 0.25)).coupling == (1.0, 0.25)
    assert EllipticOperator(grid, 1 + x).coupling == (1.0, 1.0)


@settings(max_examples=12)
@given(grids(largest=4), st.integers(0, 99))
def test_robin_sides_on_any_grid(grid: Grid, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    across = [grid.full_shape[:axis] + grid.full_shape[axis + 1 :] for axis in range(grid.ndim)]
    pairs = tuple(
        tuple(numbers.uniform(0, 3, shape) if side is N else None for side in pair)
        for pair, shape in zip(grid.boundary, across, strict=True)
    )
    check(grid, 0.7, 0.0, pairs[0] if grid.ndim == 1 else pairs)
    operator = EllipticOperator(grid, 1.0, 0.0, pairs[0] if grid.ndim == 1 else pairs)
    assert operator.is_singular is all(side is P for pair in grid.boundary for side in pair)


@settings(max_examples=12)
@given(grids(largest=4), st.integers(0, 99))
def test_constant_coefficients_on_any_grid(grid: Grid, seed: int) -> None:
    a = tuple(np.random.default_rng(seed).uniform(0.1, 3, grid.ndim))
    check(grid, a, 0.7)


@pytest.mark.parametrize("names", PAIRS)
def test_constants_are_the_null_space_exactly_without_dirichlet_and_reaction(names: str) -> None:
    grid = Grid((4, 3), boundary=sides(f"{names}-NN"))
    operator = EllipticOperator(grid)
    ones = jnp.ones(grid.shape)
    assert operator.is_singular is (names in ("NN", "PP"))
    assert bool((abs(operator.mv(ones)) < 1e-12).all()) is operator.is_singular
    assert not EllipticOperator(grid, reaction=1.0).is_singular
    assert EllipticOperator(grid, reaction=0).is_singular is operator.is_singular
    assert EllipticOperator(grid, reaction=np.zeros((1,))[0]).reaction is None


def test_a_known_reaction_of_zero_is_none_under_jit_too() -> None:
    grid = Grid(4, boundary=P)

    @jax.jit
    def build(a: jax.Array) -> EllipticOperator:
        return EllipticOperator(grid, a)

    assert build(2.0).is_singular
    # A traced c is taken to make the problem regular.
    assert not jax.jit(lambda c: EllipticOperator(grid, 1.0, c))(0.0).is_singular


@pytest.mark.parametrize(
    ("boundary", "intervals", "expected"),
    [
        (D, (4, 4), True),
        (P, (4, 4), True),
        (P, (4, 5), False),
        (P, (2, 2), True),
        (N, (3, 5), True),
    ],
)
def test_two_colours(boundary: Any, intervals: tuple[int, ...], expected: bool) -> None:
    assert EllipticOperator(Grid(intervals, boundary=boundary)).is_bipartite is expected


@pytest.mark.parametrize("names", ["DD", "DN", "ND", "NN"])
def test_lines_are_tridiagonal_for_lineax(names: str) -> None:
    grid = Grid(6, boundary=sides(names))
    operator = EllipticOperator(grid, lambda x: 1 + x, 0.5)
    assert lx.is_tridiagonal(operator)
    A = np.asarray(operator.as_matrix())
    for found, offset in zip(lx.tridiagonal(operator), (0, -1, 1), strict=True):
        np.testing.assert_allclose(found, np.diag(A, offset), rtol=1e-13)
    b = jnp.arange(1.0, grid.size + 1)
    solved = lx.linear_solve(operator, b, lx.Tridiagonal())
    np.testing.assert_allclose(A @ solved.value, b, rtol=1e-11)


def test_what_lineax_asks() -> None:
    operator = EllipticOperator(Grid((3, 4), boundary=(P, D)))
    assert operator.T is operator
    for function in (lx.linearise, lx.materialise, lx.conj):
        assert function(operator) is operator
    assert lx.is_symmetric(operator)
    assert lx.is_positive_semidefinite(operator)
    assert not lx.is_tridiagonal(operator)
    assert not lx.is_tridiagonal(EllipticOperator(Grid(4, boundary=P)))
    assert not lx.is_diagonal(operator)
    assert not lx.is_negative_semidefinite(operator)
    assert operator.in_structure().shape == operator.out_structure().shape == (3, 3)
    assert operator.in_structure().dtype == np.float64


def test_dense_solvers_of_lineax_take_it() -> None:
    operator = EllipticOperator(Grid((3, 4)))
    b = jnp.arange(1.0, 7).reshape(2, 3)
    solved = lx.linear_solve(operator, b, lx.Cholesky())
    np.testing.assert_allclose(operator.mv(solved.value), b, rtol=1e-12)


@pytest.mark.parametrize(
    ("grid", "diffusion", "expected"),
    [
        (Grid((8, 8)), 1.0, (1.0, 1.0)),
        (Grid((8, 16)), 3.0, (0.25, 1.0)),
        (Grid((8, 8)), (1.0, 100.0), (2**-6.5, 1.0)),
        (Grid((8, 8, 8), upper=(1, 2, 4)), 1.0, (1.0, 0.25, 0.0625)),
        (Grid((8, 16)), np.full((9, 17), 5.0), (0.25, 1.0)),
    ],
)
def test_coupling_is_rounded_to_powers_of_root_two(
    grid: Grid, diffusion: Any, expected: tuple[float, ...]
) -> None:
    assert EllipticOperator(grid, diffusion).coupling == pytest.approx(expected)
    under_jit = jax.jit(lambda c: EllipticOperator(grid, diffusion, c))(1.0)
    assert under_jit.coupling == pytest.approx(expected)


def test_a_traced_coefficient_counts_as_isotropic() -> None:
    grid = Grid((8, 8))
    build = jax.jit(lambda a: EllipticOperator(grid, (a, 1.0)))
    assert build(100.0).coupling == (1.0, 1.0)


def test_single_precision_survives_coefficients_of_any_size() -> None:
    grid = Grid(8, dtype="float32")
    for scale in (1e-25, 1e25):
        operator = EllipticOperator(grid, np.full(9, scale))
        u = jnp.zeros(7, jnp.float32).at[3].set(1)
        np.testing.assert_allclose(operator.mv(u)[3], 128 * scale, rtol=1e-5)
        assert operator.mv(u).dtype == jnp.float32


def test_neighbours_wrap_or_end_in_zeros() -> None:
    u = jnp.arange(1.0, 7).reshape(3, 2)
    grid = Grid((3, 3), boundary=(P, D))
    before, after = neighbours(grid, u, 0)
    np.testing.assert_array_equal(before, [[5, 6], [1, 2], [3, 4]])
    np.testing.assert_array_equal(after, [[3, 4], [5, 6], [1, 2]])
    before, after = neighbours(grid, u, 1)
    np.testing.assert_array_equal(before, [[0, 1], [0, 3], [0, 5]])
    np.testing.assert_array_equal(after, [[2, 0], [4, 0], [6, 0]])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"grid": (3, 4)}, "grid: expected a Grid"),
        ({"diffusion": 0.0}, "diffusion: expected a positive finite number"),
        ({"diffusion": -1.0}, "diffusion: expected a positive"),
        ({"diffusion": np.nan}, "diffusion: expected a positive"),
        ({"diffusion": (1.0,)}, "diffusion: expected one entry for each of 2 axes, .* of 1"),
        ({"diffusion": (1.0, -2.0)}, "diffusion: expected a positive"),
        ({"diffusion": np.ones((3, 4))}, "diffusion: expected shape"),
        ({"diffusion": lambda x, y: x}, r"diffusion: .* got 0.0 at index \(0, 0\)"),
        ({"diffusion": None}, "diffusion: expected numbers"),
        ({"reaction": -1e-3}, "reaction: .*Helmholtz"),
        ({"reaction": np.inf}, "reaction: "),
        ({"reaction": 1j}, "reaction: expected real numbers"),
        ({"reaction": lambda x, y: x[:1]}, "reaction: expected shape"),
    ],
)
def test_bad_coefficients_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EllipticOperator(**{"grid": Grid((4, 4))} | arguments)
