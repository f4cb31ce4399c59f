"""Right-hand sides, boundary data, and what a problem refuses."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solvers import Boundary, Grid, Jacobi, Poisson, boundary_flux, interface_flux, solve
from tests.solvers.cases import D, Dense, N, P, sides
from tests.solvers.test_grid import grids


@settings(max_examples=12)
@given(grids(largest=4), st.integers(0, 99))
def test_the_right_hand_side_has_all_boundary_data_in_it(grid: Grid, seed: int) -> None:
    numbers = np.random.default_rng(seed)
    a, c, f, g = (numbers.uniform(0.1, 2, grid.full_shape) for _ in range(4))
    g = g if grid.has_dirichlet_side else np.zeros_like(g)
    q = [[0.0, 0.0] for _ in grid.boundary]
    for axis, pair in enumerate(grid.boundary):
        across = grid.full_shape[:axis] + grid.full_shape[axis + 1 :]
        for side in (0, 1):
            if pair[side] is N:
                q[axis][side] = numbers.normal(size=across)
    flux = [tuple(pair) for pair in q]

    @jax.jit
    def rhs(a: Any, c: Any, f: Any, g: Any) -> jax.Array:
        return Poisson(grid, f, diffusion=a, reaction=c, boundary_values=g, flux=flux).rhs

    expected = Dense.assemble(grid, (a,) * grid.ndim, c, f, g, q).b
    found = rhs(a, c, f, g) if grid.has_dirichlet_side else rhs(a, c, f, 0.0)
    np.testing.assert_allclose(
        found.ravel(), expected, rtol=1e-10, atol=1e-12 * abs(expected).max()
    )


def test_numbers_arrays_and_callables_say_the_same() -> None:
    grid = Grid((4, 3), boundary=((D, N), (N, N)))
    x, y = grid.coordinates()

    def flux(x: jax.Array, y: jax.Array) -> jax.Array:
        return x * y + 1

    called = Poisson(grid, lambda x, y: x + y, boundary_values=lambda x, y: y, flux=flux)
    stored = Poisson(
        grid,
        x + y,
        boundary_values=np.asarray(y),
        flux=((None, flux(x, y)[-1]), (flux(x, y)[:, 0], flux(x, y)[:, -1])),
    )
    np.testing.assert_allclose(called.rhs, stored.rhs, rtol=1e-14)
    numbers = Poisson(grid, 2, flux=(3, (4, 5)))
    spread = Poisson(grid, jnp.full((5, 4), 2.0), flux=((None, jnp.full(4, 3.0)), (4.0, 5.0)))
    np.testing.assert_array_equal(numbers.rhs, spread.rhs)


def test_callables_are_called_once_with_arrays_of_equal_shape() -> None:
    grid, shapes = Grid((4, 3)), []

    def source(x: jax.Array, y: jax.Array) -> jax.Array:
        shapes.append((np.shape(x), np.shape(y)))
        return x * y

    problem = Poisson(grid, source)
    assert shapes == [((5, 4), (5, 4))]
    assert float(problem.source(2.0, 3.0)) == 6  # kept for use off the grid


def test_fields_and_residuals() -> None:
    problem = Poisson(Grid(4), 1.0, boundary_values=lambda x: 2 + x)
    u = jnp.asarray([1.0, 5, 2])
    np.testing.assert_array_equal(problem.field(u), [2, 1, 5, 2, 3])
    np.testing.assert_allclose(problem.residual(u), problem.rhs - problem.operator.mv(u))
    np.testing.assert_array_equal(problem.residual(problem.field(u)), problem.residual(u))
    with pytest.raises(ValueError, match="u: expected the unknowns"):
        problem.field(jnp.ones(5))


@pytest.mark.parametrize("names", ["DN", "DD-ND", "DD-PP", "DD-DD-DD"])
def test_the_extension_meets_the_boundary_values_and_is_smooth(names: str) -> None:
    """Products of straight lines come back, level where a side is missing."""
    grid = Grid((4, 5, 3)[: len(names.split("-"))], 0.5, 2.0, sides(names))

    def g(*x: jax.Array) -> jax.Array:
        slopes = [2.0 if name == "DD" else 0.0 for name in names.split("-")]
        return jnp.prod(jnp.stack([1 + k * t for k, t in zip(slopes, x, strict=True)]), 0)

    extension = Poisson(grid, 0.0, boundary_values=g).boundary_extension()
    np.testing.assert_allclose(extension, g(*grid.coordinates()), rtol=1e-14)


def test_the_energy_is_least_at_the_solution() -> None:
    problem = Poisson(Grid((5, 4), boundary=sides("DN-PP")), lambda x, y: x + 1, diffusion=(1, 2))
    solution = solve(problem)
    gradient = jax.jit(jax.grad(problem.energy))(solution.value)
    assert abs(gradient).max() < 1e-13
    # ½uᵀAu − bᵀu = −½bᵀu there, and the field with its boundary counts as the same u.
    work = jnp.sum(problem.rhs * solution.value) * problem.grid.cell_volume
    assert problem.energy(solution.field) == pytest.approx(float(-work / 2), rel=1e-12)


def test_few_programs_make_a_problem_and_a_new_function_compiles_none(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Operation by operation there were 60, of 15 ms each; as part of a program each new function
    would compile it again."""
    grid = Grid((13, 17), boundary=((D, N), N))

    def make(rise: float) -> None:
        problem = Poisson(
            grid,
            lambda x, y: rise * x,
            diffusion=lambda x, y: rise + x,
            robin=1.0,
            inside=lambda x, y: x + y - 0.3,
            boundary_values=lambda x, y: rise * y,
        )
        sides = boundary_flux(problem, problem.rhs)
        jax.block_until_ready((interface_flux(problem, problem.rhs), sides))

    counts = []
    for rise in (1.0, 2.0):
        caplog.clear()
        with jax.log_compiles(), caplog.at_level("WARNING"):
            make(rise)
        messages = [record.getMessage() for record in caplog.records]
        counts.append(sum("Finished XLA compilation" in message for message in messages))
    assert 0 < counts[0] < 30
    assert counts[1] == 0


def test_problems_pass_through_jit_and_vmap() -> None:
    """A callable is part of the structure of the tree, not a leaf that jit would choke on."""
    method = Jacobi(rtol=1e-6)
    problem = Poisson(Grid(6), lambda x: 1 + x, boundary_values=lambda x: x)
    value = jax.jit(lambda problem: solve(problem, method).value)(problem)
    np.testing.assert_allclose(value, solve(problem, method).value, rtol=1e-12)
    batch = jax.vmap(lambda f: Poisson(Grid(6), f))(jnp.asarray([1.0, 2.0]))
    values = jax.vmap(lambda problem: solve(problem, method).value)(batch)
    np.testing.assert_allclose(values[1], 2 * values[0], rtol=1e-12)


CORNERED = Grid((4, 4), boundary=((D, N), P))


@pytest.mark.parametrize(
    ("grid", "arguments", "message"),
    [
        (Grid(4), {"source": np.nan}, "source: expected finite values, got nan"),
        (Grid(4), {"source": [0, 1, np.inf, 1, 0]}, r"source: .* got inf at index \(2,\)"),
        (Grid(4), {"source": np.ones(4)}, r"source: expected shape \(\) or \(5,\), got \(4,\)"),
        (Grid(4), {"source": None}, "source: expected numbers"),
        (Grid(4), {"source": "one"}, "source: expected numbers"),
        (Grid(4), {"source": [1, [2, 3]]}, "source: expected numbers"),
        (Grid(4), {"source": 10**40}, "source: expected numbers"),
        (Grid(4), {"source": True}, "source: expected real numbers"),
        (Grid(4), {"source": lambda x: 1 / (x - 0.5)}, r"source: .* inf at index \(2,\)"),
        (Grid(4), {"boundary_values": np.inf}, "boundary_values: expected finite values"),
        (Grid(4), {"boundary_values": np.ones(3)}, "boundary_values: expected shape"),
        (Grid(4, boundary=P), {"boundary_values": 1.0}, "boundary_values: given, but no side"),
        (Grid(4, boundary=N), {"boundary_values": lambda x: x}, "boundary_values: given"),
        (Grid(4), {"flux": 1.0}, "flux: given, but no side"),
        (Grid(4), {"flux": lambda x: x}, "flux: given, but no side"),
        (CORNERED, {"flux": (0.0, 1.0)}, "flux: given on axis 1"),
        (CORNERED, {"flux": ((1.0, 0.0), 0.0)}, "flux: given on the low side of axis 0"),
        (CORNERED, {"flux": ((0.0, 1.0, 2.0), 0.0)}, r"flux: expected a \(low, high\) pair"),
        (CORNERED, {"flux": (1.0, 0.0, 0.0)}, "flux: expected one entry per axis"),
        (CORNERED, {"flux": np.ones(5)}, "flux: expected shape"),
        (CORNERED, {"flux": np.nan}, "flux: expected finite values"),
        (Grid(4), {"robin": 1.0}, "robin: given, but no side"),
        (CORNERED, {"robin": (0.0, 1.0)}, "robin: given on axis 1"),
        (CORNERED, {"robin": -1.0}, "robin: .* not negative on the high side of axis 0, got -1.0"),
        (CORNERED, {"robin": np.inf}, "robin: expected finite numbers"),
        (CORNERED, {"diffusion": -1.0}, "diffusion: "),
        (CORNERED, {"reaction": -1.0}, "reaction: "),
    ],
)
def test_bad_data_are_named(grid: Grid, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Poisson(grid, **{"source": 1.0} | arguments)


@pytest.mark.parametrize("flux", [lambda q: (q, 0.0), lambda q: (None, q)])
def test_a_traced_flux_on_a_dirichlet_side_is_refused_in_words(flux: Callable[[Any], Any]) -> None:
    with pytest.raises(ValueError, match="flux: given on the"):
        jax.jit(lambda q: Poisson(Grid(4), 1.0, flux=flux(q)).rhs)(1.0)


def test_a_known_excess_is_what_is_taken_from_the_source() -> None:
    """Of rows on sides, of half a cell, half as much; it was as much."""
    grid = Grid((8, 8), boundary=Boundary.NEUMANN)
    plain, more = (
        solve(Poisson(grid, lambda x, y, t=t: jnp.cos(jnp.pi * x) + t)) for t in (0.0, 0.2)
    )
    assert float(more.removed_mean) == pytest.approx(0.2)
    np.testing.assert_allclose(more.field, plain.field, atol=1e-12)


def test_a_grid_is_asked_for() -> None:
    with pytest.raises(ValueError, match="grid: expected a Grid"):
        Poisson((8, 8), 1.0)  # type: ignore[arg-type]


def test_large_integers_do_not_wrap_round_in_single_precision() -> None:
    large = np.full(5, 5_000_000_000)
    with jax.enable_x64(False):
        grid = Grid(4)
        np.testing.assert_allclose(Poisson(grid, large).rhs, 5e9, rtol=1e-6)
        assert float(grid.integral(large)) == pytest.approx(5e9)
