"""Grids: counts, coordinates, weights, norms, and what they refuse."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solvers import Boundary, Grid
from solvers.arguments import as_number, as_real
from tests.solvers.cases import PAIRS, D, N, P, is_unknown

UNKNOWNS = {"DD": -1, "DN": 0, "ND": 0, "NN": 1, "PP": 0}  # beyond the number of intervals


@st.composite
def grids(draw: st.DrawFn, largest: int = 6) -> Grid:
    """Any mix of sides in 1-D to 3-D, down to the smallest size each allows."""
    names = draw(st.lists(st.sampled_from(sorted(PAIRS)), min_size=1, max_size=3))
    least = [1 if "N" in name else 2 for name in names]
    intervals = [draw(st.integers(n, largest)) for n in least]
    lower = [draw(st.floats(-2, 2)) for _ in names]
    length = [draw(st.floats(0.1, 3)) for _ in names]
    upper = [low + size for low, size in zip(lower, length, strict=True)]
    return Grid(intervals, lower, upper, [PAIRS[name] for name in names])


@given(grids())
def test_counts_agree_with_the_nodes(grid: Grid) -> None:
    unknown = np.zeros(grid.full_shape, bool)
    for node in np.ndindex(*grid.full_shape):
        unknown[node] = is_unknown(grid, node)
    picked = np.zeros(grid.full_shape, bool)
    picked[grid.unknowns] = True
    np.testing.assert_array_equal(picked, unknown)
    assert grid.shape == picked[grid.unknowns].shape
    assert grid.size == unknown.sum() == math.prod(grid.shape)
    assert grid.has_dirichlet_side is any(D in pair for pair in grid.boundary)
    for axis, pair in enumerate(grid.boundary):
        name = next(name for name in PAIRS if PAIRS[name] == pair)
        assert grid.shape[axis] == grid.intervals[axis] + UNKNOWNS[name]
        nodes = grid.nodes(axis)
        assert nodes[0] == pytest.approx(grid.lower[axis], abs=1e-15)
        if pair != (P, P):
            assert nodes[-1] == pytest.approx(grid.upper[axis], abs=1e-15)
        np.testing.assert_allclose(np.diff(nodes), grid.spacing[axis], rtol=1e-12)
        # The cells of a closed or periodic axis fill it.
        if D not in pair:
            length = grid.upper[axis] - grid.lower[axis]
            assert grid.row_weights(axis).sum() * grid.spacing[axis] == pytest.approx(length)


def test_coordinates_are_of_equal_shape_and_of_the_grids_precision() -> None:
    grid = Grid((3, 4), (0, 1), (3, 2), (D, P), dtype="float32")
    x, y = grid.coordinates()
    assert x.shape == y.shape == grid.full_shape == (4, 4)
    assert x.dtype == y.dtype == jnp.float32
    np.testing.assert_array_equal(x[:, 2], [0, 1, 2, 3])
    np.testing.assert_array_equal(y[1], [1, 1.25, 1.5, 1.75])


def test_norm_and_integral_are_those_of_known_functions() -> None:
    grid = Grid((40, 30), (0, -1), (2, 1), (N, P))
    x, y = grid.coordinates()
    # The trapezoidal rule is exact for linear functions and for resolved periodic ones.
    assert grid.integral(x * jnp.cos(jnp.pi * y) ** 2) == pytest.approx(2.0, rel=1e-12)
    assert grid.integral(jnp.ones_like(x)) == pytest.approx(4.0, rel=1e-12)
    sine = Grid(64)
    mode = jnp.sin(3 * jnp.pi * sine.coordinates()[0])
    assert sine.norm(mode) == pytest.approx(math.sqrt(0.5), rel=1e-12)


def test_one_dimension_takes_plain_numbers_and_a_pair() -> None:
    assert Grid(5, boundary=(D, N)).boundary == ((D, N),)
    assert Grid(5, boundary=[N, D]) == Grid((5,), (0,), (1,), ((N, D),))
    assert hash(Grid(5)) == hash(Grid(np.int64(5), np.float32(0), jnp.asarray(1)))


def test_the_precision_is_jaxs_unless_said_otherwise() -> None:
    assert Grid(4).dtype == np.float64
    with jax.enable_x64(False):
        assert Grid(4).dtype == np.float32
        with pytest.raises(ValueError, match="dtype: float64 needs"):
            Grid(4, dtype="float64")


def test_what_is_known_stays_known_under_jit() -> None:
    @jax.jit
    def number(t: jax.Array) -> jax.Array:
        assert float(as_number("t", 0.5, "", lambda x: x < 0)) == 0.5
        assert np.asarray(as_real("t", np.ones(3), "float32", ((3,),))).dtype == np.float32
        with pytest.raises(ValueError, match="t: expected more"):
            as_number("t", -1, "more", lambda x: x < 0)
        return as_number("t", t, "more", lambda x: x < 0)

    assert jnp.isnan(number(jnp.asarray(-1.0)))  # a solve will meet it


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"intervals": 4.0}, "intervals: expected positive integers, got 4.0"),
        ({"intervals": None}, "intervals: expected positive integers"),
        ({"intervals": "ab"}, "intervals: expected positive integers"),
        ({"intervals": True}, "intervals: expected positive integers"),
        ({"intervals": (4, 0)}, "intervals: expected positive integers"),
        ({"intervals": ()}, "intervals: expected 1, 2 or 3 axes"),
        ({"intervals": (4, 4, 4, 4)}, "intervals: expected 1, 2 or 3 axes"),
        ({"intervals": 1}, "intervals: axis 0 needs at least 2"),
        ({"intervals": (4, 1), "boundary": (N, P)}, "intervals: axis 1 needs at least 2"),
        ({"lower": "a"}, "lower: expected finite numbers"),
        ({"lower": None}, "lower: expected finite numbers"),
        ({"lower": (0, 0)}, "lower: expected 1 numbers"),
        ({"lower": np.nan}, "lower: expected finite numbers"),
        ({"upper": np.inf}, "upper: expected finite numbers"),
        ({"upper": 0.0}, "upper: expected more than lower"),
        ({"upper": 1e-170}, "upper: expected a spacing whose square is within float64's range"),
        ({"upper": 1e-19, "dtype": np.float32}, "upper: .* within float32's range"),
        ({"intervals": (4, 4, 4), "upper": 1e-120}, "upper: expected a box and cells"),
        ({"boundary": "dirichlet"}, "boundary: expected members of Boundary"),
        ({"boundary": (D, 0)}, "boundary: expected members of Boundary"),
        ({"boundary": (D, P)}, "boundary: axis 0 has the impossible sides"),
        ({"boundary": (D, D, D)}, "boundary: expected one entry per axis"),
        ({"dtype": "float16"}, "dtype: expected float32 or float64"),
        ({"dtype": "double-ish"}, "dtype: expected float32 or float64"),
    ],
)
def test_bad_arguments_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(**{"intervals": 4} | arguments)


def test_traced_corners_are_refused_in_words() -> None:
    with pytest.raises(ValueError, match="upper: expected known numbers"):
        jax.jit(lambda t: Grid(4, upper=t).spacing[0])(2.0)


def test_boundary_prints_as_one_writes_it() -> None:
    assert repr(Boundary.NEUMANN) == "Boundary.NEUMANN"


def test_restrict_takes_unknowns_or_all_nodes() -> None:
    grid = Grid(4)
    field = jnp.arange(5.0)
    np.testing.assert_array_equal(grid.restrict("u", field), field[1:-1])
    np.testing.assert_array_equal(grid.restrict("u", field[1:-1]), field[1:-1])
    with pytest.raises(ValueError, match=r"u: expected shape \(3,\) or \(5,\), got \(4,\)"):
        grid.restrict("u", field[1:])


def test_integers_and_conditions_are_integrated_as_numbers() -> None:
    grid = Grid((4, 8), upper=(1.0, 2.0))
    x, _ = grid.coordinates()
    assert grid.integral(x >= 0) == grid.integral(jnp.ones((5, 9), int)) == 2
    assert grid.norm(jnp.ones(grid.shape, int)) == grid.norm(jnp.ones(grid.shape))
    shifted = grid.without_integral(jnp.arange(45).reshape(5, 9))
    np.testing.assert_allclose(grid.integral(shifted), 0, atol=1e-12)
    with pytest.raises(ValueError, match=r"field: expected all nodes, shape \(5, 9\)"):
        grid.integral(jnp.ones(grid.shape))


@pytest.mark.parametrize("upper", [1e20, 1e-20])
def test_boxes_beyond_single_precision_are_refused(upper: float) -> None:
    """Their volume was infinite or 0, and means NaN."""
    with pytest.raises(ValueError, match="upper: expected a"):
        Grid((16, 16), upper=upper, dtype="float32")
    Grid((16, 16), upper=upper, dtype="float64")


def test_complex_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="expected real numbers, got complex128"):
        Grid(4).norm(np.full(5, 3 + 4j))  # type: ignore[arg-type]


def test_the_norm_has_a_slope_at_zero() -> None:
    np.testing.assert_array_equal(jax.grad(Grid(4).norm)(jnp.zeros(5)), 0)
