"""What goes through the sides: of second order, what was given, and in balance with the source."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from solvers import Boundary, Cells, Grid, Multigrid, Poisson, boundary_flux, solve
from tests.solvers.cases import Manufactured, sides


def total(grid: Grid, fluxes: Any) -> jax.Array:
    """∮q; in 1-D the sum over both ends."""
    found = jnp.zeros(())
    for axis, pair in enumerate(fluxes):
        for q in pair:
            if q is not None:
                found = found + (q if grid.ndim == 1 else grid.side(axis).integral(q))
    return found


@pytest.mark.parametrize("coefficients", ["one", "anisotropic", "varying"])
@pytest.mark.parametrize("names", ["DD", "DN-PP", "DD-DN", "DD-DN-DD"])
def test_it_is_of_second_order_and_of_first_on_edges(names: str, coefficients: str) -> None:
    case, errors = Manufactured(names, coefficients), []
    for n in (8, 16):
        problem = case.problem(*[n] * case.ndim)
        grid, found = problem.grid, boundary_flux(problem, solve(problem).field)
        inner, edges = 0.0, 0.0
        for axis, pair in enumerate(sides(names)):
            slope = case.a(axis, *grid.coordinates()) * case.slope(axis, *grid.coordinates())
            for end, side in enumerate(pair):
                q = found[axis][end]
                if side is Boundary.PERIODIC:
                    assert q is None
                    continue
                assert q is not None
                error = abs(q - (2 * end - 1) * jnp.take(slope, -end, axis))
                middle = tuple(slice(n // 4, -(n // 4)) for d in range(grid.ndim) if d != axis)
                inner = max(inner, float(error[middle].max()))
                edges = max(edges, float(error.max()))
        errors.append((inner, edges))
    ratios = np.divide(*errors)
    assert ratios[0] > 3, errors
    assert ratios[1] > 1.7, errors


def cells(*shape: int) -> Cells:
    return Cells(np.random.default_rng(3).uniform(0.1, 10, shape))


@pytest.mark.parametrize(
    ("names", "data"),
    [
        ("DN", {"diffusion": lambda x: 1 + x, "reaction": 2.0, "flux": 3.0}),
        ("DD-DD", {"diffusion": cells(9, 7)}),
        ("DN-PP", {"diffusion": (1.0, cells(9, 7)), "reaction": lambda x, y: x * y, "robin": 0.7}),
        ("DD-ND", {"flux": (0.0, (lambda x, y: x, 0.0)), "robin": (0.0, (2.0, 0.0))}),
        ("DD-DD-DN", {"diffusion": lambda x, y, z: 1 + x + y * z, "boundary_values": 1.5}),
    ],
)
def test_the_sides_take_out_what_the_source_brings_in(names: str, data: dict[str, Any]) -> None:
    boundary = sides(names)
    grid = Grid((9, 7, 5)[: len(boundary)], 0.0, 1.3, boundary)
    f = np.random.default_rng(4).normal(size=grid.full_shape)
    problem = Poisson(grid, f, **data)
    field = solve(problem, Multigrid(rtol=1e-13)).field
    reaction = grid.sample("reaction", data.get("reaction", 0.0))
    found = total(grid, boundary_flux(problem, field))
    np.testing.assert_allclose(found, grid.integral(reaction * field - f), atol=1e-10)


def test_on_neumann_sides_it_is_what_was_given() -> None:
    grid = Grid((6, 5), boundary=sides("DN-NN"))
    problem = Poisson(grid, 1.0, flux=(0.5, (lambda x, y: x, 0.0)), robin=(0.0, (0.0, 3.0)))
    u = solve(problem).field
    (_, high), (front, back) = boundary_flux(problem, solve(problem))  # a solution will do, too
    np.testing.assert_array_equal(high, np.full(6, 0.5))
    np.testing.assert_allclose(front, grid.nodes(0))
    np.testing.assert_allclose(back, -3 * u[:, -1])


def test_a_singular_source_on_a_side_is_no_matter_until_its_flux_is_asked_for() -> None:
    problem = Poisson(Grid(8), source=lambda x: 1 / jnp.sqrt(x))
    field = solve(problem).field
    assert jnp.isfinite(field).all()
    with pytest.raises(ValueError, match=r"source: expected finite .* inf at index \(0,\)"):
        boundary_flux(problem, field)


def test_it_is_differentiable_under_jit() -> None:
    """A wall of thickness 1 between 0 and 1 lets a through."""

    @jax.jit
    @jax.value_and_grad
    def through(a: jax.Array) -> jax.Array:
        problem = Poisson(Grid((8, 8), boundary=sides("DD-PP")), 0.0, diffusion=a,
                          boundary_values=lambda x, y: x)  # fmt: skip
        ((low, _), _) = boundary_flux(problem, solve(problem, throw=False).field)
        assert low is not None
        return problem.grid.side(0).integral(low)

    np.testing.assert_allclose(through(2.5), (-2.5, -1.0), rtol=1e-12)


def test_what_is_no_problem_is_refused() -> None:
    with pytest.raises(ValueError, match="problem: expected a Poisson"):
        boundary_flux(Poisson(Grid(4), 1.0).operator, np.zeros(5))  # type: ignore


def test_a_side_of_a_line_has_no_grid() -> None:
    with pytest.raises(ValueError, match="axis: the sides of a line are points"):
        Grid(4).side(0)
    assert Grid((2, 3, 4), upper=(1, 2, 3), boundary=sides("DD-PP-NN")).side(1) == Grid(
        (2, 4), upper=(1, 3), boundary=sides("DD-NN")
    )


def test_problems_without_a_medium_are_arguments() -> None:
    problem = Poisson(Grid((5, 4)), 1.0)
    field = solve(problem).field
    found, expected = jax.jit(boundary_flux)(problem, field), boundary_flux(problem, field)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-12)


def test_arrays_that_change_later_change_nothing() -> None:
    grid = Grid((8, 8))
    source, mask = np.ones(grid.full_shape), np.ones(grid.full_shape, bool)
    mask[0] = False
    problem = Poisson(grid, source, inside=mask)
    solution = solve(problem)
    before = jax.tree.leaves(boundary_flux(problem, solution))
    source[:], mask[:] = 0, False
    for a, b in zip(before, jax.tree.leaves(boundary_flux(problem, solution)), strict=True):
        np.testing.assert_array_equal(a, b)
