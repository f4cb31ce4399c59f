"""Media with surfaces: exact where linear, of second order, in balance, one answer or none."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from solvers import (
    Boundary,
    Cells,
    ConjugateGradient,
    FastDiagonalization,
    GaussSeidel,
    Grid,
    Jacobi,
    LineRelaxation,
    Multigrid,
    Poisson,
    Refined,
    boundary_flux,
    interface_flux,
    iterates,
    solve,
    surface_flux,
)
from solvers.iteration import Reason
from solvers.medium import medium_on
from tests.solvers.cases import sides
from tests.solvers.test_interface import Level, ball, blobs, dense, smooth

N = Boundary.NEUMANN


def hole(*x: jax.Array) -> jax.Array:
    return -ball(0.3)(*x)


@pytest.mark.parametrize("names", ["DN", "DD-ND", "DN-NN", "DD-ND-NN"])
@settings(max_examples=8)
@given(seed=st.integers(0, 2**16))
def test_a_linear_solution_is_exact_beside_any_plane(names: str, seed: int) -> None:
    """With its flux through the surface; and so are its slopes, and its values at any point."""
    boundary, rng = sides(names), np.random.default_rng(seed)
    ndim = len(boundary)
    grid = Grid((9, 7, 6)[:ndim], boundary=boundary)
    slopes, normal = rng.normal(size=(2, ndim))
    normal /= np.linalg.norm(normal)
    a, at = (1.3, 0.6, 1.7)[:ndim], rng.uniform(0.3, 0.7, ndim)

    def u(*x: Any) -> Any:
        return 1 + sum(k * c for k, c in zip(slopes, x, strict=True))

    def beyond(*x: Any) -> Any:
        return sum(n * (p - c) for n, p, c in zip(normal, at, x, strict=True))

    flux = tuple(
        tuple(s * k * b if side is N else None for s, side in zip((-1, 1), pair, strict=True))
        for pair, k, b in zip(boundary, slopes, a, strict=True)
    )
    problem = Poisson(
        grid, lambda *x: 2 * u(*x), diffusion=a, reaction=2.0, boundary_values=u,
        flux=flux if ndim > 1 else flux[0], medium=beyond,
        surface_flux=float(sum(b * k * n for b, k, n in zip(a, slopes, normal, strict=True))),
    )  # fmt: skip
    assume(problem.share is not None)
    solution = solve(problem, ConjugateGradient(rtol=1e-13))
    is_within = beyond(*(np.asarray(c) for c in grid.coordinates())) > 0
    exact, inner = u(*grid.coordinates()), (slice(2, -2),) * ndim
    np.testing.assert_allclose(jnp.where(problem.share > 0, solution.field - exact, 0), 0,
                               atol=1e-9)  # fmt: skip
    for slope, k in zip(solution.gradient(), slopes, strict=True):
        np.testing.assert_allclose(slope[inner][is_within[inner]], k, atol=1e-7)
    # Nearer to the sides of the box there may be no two nodes in line.
    points = [rng.uniform(0, 1, 50) for _ in range(ndim)]
    near = beyond(*points) > 0
    np.testing.assert_allclose(solution.evaluate(*points)[near], u(*points)[near], atol=1e-8)


@pytest.mark.parametrize(
    ("ndim", "medium", "varies", "alpha"),
    [(2, hole, False, 0.0), (2, ball(0.41), True, 3.0), (3, ball(0.41), False, 3.0)],
)
def test_curved_surfaces_are_met_by_second_order(
    ndim: int, medium: Level, varies: bool, alpha: float
) -> None:
    outward = 1 if medium is not hole else -1
    u, a, source = smooth(varies)

    def q(*x: jax.Array) -> jax.Array:
        r = jnp.sqrt(sum((c - 0.49) ** 2 for c in x))
        along = (x[0] - 0.49) * u(*x) + (x[1] - 0.49) * 2 * jnp.exp(x[0]) * jnp.cos(2 * x[1])
        return outward * a(*x) * along / r + alpha * u(*x)

    errors = []
    for n in (16, 32) if ndim == 3 else (32, 64):
        grid = Grid((n,) * ndim)
        problem = Poisson(
            grid, lambda *x: source(*x) + u(*x), diffusion=a, reaction=1.0, medium=medium,
            surface_flux=q, surface_robin=alpha, boundary_values=u if medium is hole else 0.0,
        )  # fmt: skip
        error = solve(problem, ConjugateGradient(rtol=1e-10)).field - u(*grid.coordinates())
        errors.append(float(abs(jnp.where(medium(*grid.coordinates()) > 0, error, 0)).max()))
    assert errors[0] / errors[1] > 2.8, errors


def test_the_share_and_the_surface_of_a_ball() -> None:
    """By second order: π r² and 2π r, 4π r³/3 and 4π r²."""
    for ndim, n, volume, area in ((2, 64, np.pi / 4, np.pi), (3, 32, np.pi / 6, np.pi)):
        medium = medium_on(Grid((n,) * ndim, -1, 1, boundary=N), ball(0.5, 0.01))
        assert medium is not None
        grid = Grid((n,) * ndim, -1, 1)
        assert float(grid.integral(medium.volume)) == pytest.approx(volume, rel=8 / n**2 * ndim)
        assert float(grid.integral(medium.area)) == pytest.approx(area, rel=8 / n**2 * ndim)


METHODS = [
    Multigrid(rtol=1e-11),
    Multigrid(full=True, rtol=1e-11),
    ConjugateGradient(preconditioner=Multigrid(), rtol=1e-11),
    ConjugateGradient(preconditioner=FastDiagonalization(), rtol=1e-11),
    Refined(Multigrid(), rtol=1e-11),
    Jacobi(rtol=1e-11, max_steps=30_000),
    GaussSeidel(rtol=1e-11),
    LineRelaxation(rtol=1e-11),
    None,
]


@pytest.mark.parametrize("method", METHODS, ids=lambda m: type(m).__name__)
@pytest.mark.parametrize(
    ("names", "medium"), [("NN-NN", ball(0.41)), ("PP-NN", hole), ("DN-NN", hole)]
)
def test_methods_find_the_discrete_solution(method: Any, names: str, medium: Level) -> None:
    """Of singular problems that with mean 0 over the medium, and 0 where that is not."""
    grid = Grid((22, 18), boundary=sides(names))
    problem = Poisson(grid, lambda x, y: y - 0.49, diffusion=lambda x, y: 1 + y, medium=medium)
    matrix, share = np.asarray(problem.operator.as_matrix()), problem.share
    np.testing.assert_array_equal(matrix, matrix.T)
    expected = np.linalg.lstsq(matrix, np.ravel(problem.balanced()), rcond=1e-12)[0]
    expected = problem.field(jnp.asarray(expected.reshape(grid.shape)))
    assert share is not None
    found = solve(problem, method).field
    if problem.operator.is_singular:
        expected = problem.solution_field(expected[grid.unknowns])
        assert float(grid.integral(share * found)) == pytest.approx(0, abs=1e-12)
        np.testing.assert_array_equal(found[share == 0], 0)
    np.testing.assert_allclose(found, expected, atol=1e-8)


@pytest.mark.parametrize(("medium", "shape"), [(blobs(4), (40, 40)), (hole, (16, 16, 16))])
def test_multigrid_takes_as_many_cycles_as_on_the_box(
    medium: Level, shape: tuple[int, ...]
) -> None:
    """Nodes that are joined to none in line are not held at 0: 17 cycles in 2-D, no end in 3-D."""
    problem = Poisson(Grid(shape, boundary=N), 1.0, reaction=1e-3, medium=medium)
    assert solve(problem, Multigrid()).num_steps <= 9


def test_the_last_iterate_is_the_solution() -> None:
    problem = Poisson(Grid((16, 12), boundary=N), lambda x, y: x - 0.49, medium=ball(0.41))
    solution = solve(problem, Multigrid(rtol=1e-6))
    *_, last = zip(range(int(solution.num_steps) + 1), iterates(problem, Multigrid()), strict=False)
    np.testing.assert_allclose(last[1], solution.field, atol=1e-10)


@pytest.mark.parametrize("kind", ["level", "nodes", "cells", "with an interface"])
@pytest.mark.parametrize("names", ["DN", "DN-PP", "ND-NN", "DD-PP-NN"])
def test_what_goes_through_sides_interface_and_surface_balances(names: str, kind: str) -> None:
    boundary, rng = sides(names), np.random.default_rng(2)
    grid = Grid((9, 7, 6)[: len(boundary)], boundary=boundary)
    medium = {"nodes": rng.random(grid.full_shape) < 0.8,
              "cells": Cells(rng.random(grid.intervals) < 0.7)}.get(kind, blobs(5))  # fmt: skip
    f, c = rng.normal(size=(2, *grid.full_shape))
    problem = Poisson(
        grid, f, reaction=np.abs(c), diffusion=lambda *x: 1 + x[0], flux=0.2, robin=0.3,
        boundary_values=lambda *x: jnp.cos(x[0]), medium=medium, surface_robin=0.6,
        surface_flux=lambda *x: x[0] - 0.3, inside=blobs(53) if kind[0] == "w" else None,
    )  # fmt: skip
    field = problem.field(jnp.asarray(dense(problem)))
    total = grid.integral(interface_flux(problem, field) + surface_flux(problem, field))
    for axis, pair in enumerate(boundary_flux(problem, field)):
        for q in pair:
            if q is not None:
                total += q if grid.ndim == 1 else grid.side(axis).integral(q)
    assert problem.share is not None
    share = problem.share
    if problem.inside is not None:
        share = jnp.where(problem.inside(*grid.coordinates()) > 0, share, 0)
    expected = grid.integral(share * (np.abs(c) * field - f))
    np.testing.assert_allclose(total, expected, atol=1e-11)


def test_cells_without_a_medium_are_cells_that_hardly_conduct() -> None:
    grid = Grid((12, 10), boundary=sides("DD-NN"))
    full = np.random.default_rng(1).random(grid.intervals) < 0.8
    problem = Poisson(grid, 0.0, medium=Cells(full), boundary_values=lambda x, y: x)
    hardly = Poisson(grid, 0.0, diffusion=Cells(np.where(full, 1, 1e-12)),
                     boundary_values=lambda x, y: x)  # fmt: skip
    found, expected = (problem.field(jnp.asarray(dense(p))) for p in (problem, hardly))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_mask_of_nodes_ends_half_way_to_the_next() -> None:
    """u″ = 0 up to x = 7½/10, where 2 goes out: u = 2x; so in a channel one node wide."""
    grid = Grid((10, 6), boundary=(sides("DN")[0], (N, N)))
    mask = np.zeros(grid.full_shape, bool)
    mask[:8, 2] = True
    problem = Poisson(grid, 0.0, medium=mask, surface_flux=lambda x, y: jnp.where(x > 0.65, 2.0, 0))
    field = solve(problem).field
    # The end takes 2 on 1/6 of the height, and as much on the two sides of its last node.
    area = float(grid.integral(surface_flux(problem, field)))
    assert area == pytest.approx(2 * (1 / 6 + 2 / 10))
    assert np.ptp(np.diff(field[:7, 2])) < 1e-12
    np.testing.assert_array_equal(field[:, 3:], 0)


def test_how_the_middle_of_a_cooled_ball_depends_on_its_radius() -> None:
    """R²/4 + R/(2α), with its slope; the radius may be a batch."""

    def middle(radius: Any) -> jax.Array:
        problem = Poisson(
            Grid((32, 32), boundary=N), 1.0, medium=ball(radius, 0.5), surface_robin=2.0
        )
        return solve(problem, Multigrid(rtol=1e-10), throw=False).field[16, 16]

    radii = jnp.asarray([0.25, 0.33, 0.45])
    values = jax.vmap(middle)(radii)
    np.testing.assert_allclose(values, radii**2 / 4 + radii / 4, rtol=3e-3)
    slope = jax.jit(jax.grad(middle))(0.33)
    assert float(slope) == pytest.approx(0.33 / 2 + 1 / 4, rel=0.02)


def test_insulating_cylinders_conduct_as_rayleigh_found() -> None:
    """A square array (Perrins, McKenzie, McPhedran 1979); a body that insulates is no medium."""
    grid, f = Grid((64, 64), boundary=sides("DD-NN")), np.pi * 0.3**2
    problem = Poisson(grid, 0.0, medium=lambda x, y: -ball(0.3, 0.5)(x, y),
                      boundary_values=lambda x, y: x)  # fmt: skip
    through = boundary_flux(problem, solve(problem))[0][1]
    inner = 1 + f - 0.305827 * f**4 / (1 - 1.402958 * f**8) - 0.013362 * f**8
    assert float(grid.side(0).integral(through)) == pytest.approx(1 - 2 * f / inner, rel=1e-3)


def test_pieces_that_nothing_holds_are_left_out_or_refused() -> None:
    """They may be there, as in images, but nothing may happen in them."""
    grid = Grid((20, 12), boundary=sides("DD-NN"))
    bar = np.zeros(grid.full_shape, bool)
    bar[:, 2:5] = True
    both = bar.copy()
    both[8:11, 7:10] = True
    found, expected = (
        Poisson(grid, 0.0, medium=mask, boundary_values=lambda x, y: x) for mask in (both, bar)
    )
    np.testing.assert_array_equal(found.share, expected.share)
    np.testing.assert_array_equal(found.operator.as_matrix(), expected.operator.as_matrix())
    with pytest.raises(ValueError, match=r"medium: \d+ nodes .* pieces that nothing holds"):
        Poisson(grid, 1.0, medium=both)
    Poisson(grid, 1.0, medium=both, surface_robin=1.0)
    with pytest.raises(ValueError, match="medium: expected one piece"):
        Poisson(Grid((20, 12), boundary=N), 0.0, medium=both)


def test_a_medium_that_fills_the_box_changes_nothing() -> None:
    problem = Poisson(Grid((8, 8), boundary=N), 0.0, medium=lambda x, y: 1 + x, surface_robin=1.0)
    assert problem.operator.is_constant
    assert problem.operator.is_singular
    assert problem.share is None
    np.testing.assert_array_equal(surface_flux(problem, problem.rhs), np.zeros((9, 9)))


def test_data_where_no_medium_is_do_not_matter() -> None:
    grid = Grid((12, 12))
    f = jnp.where(hole(*grid.coordinates()) > -0.15, 1.0, jnp.nan)
    found = solve(Poisson(grid, f, medium=hole)).field
    np.testing.assert_array_equal(found, solve(Poisson(grid, 1.0, medium=hole)).field)


@pytest.mark.parametrize("domain", [{"inside": ball(0.41)}, {"medium": hole}])
def test_full_multigrid_stops_at_the_discretization_error(domain: dict[str, Level]) -> None:
    """Differences that reach across interfaces and surfaces made it believe in a large one."""
    u, _, source = smooth(varies=False)
    coarse, fine = (Poisson(Grid((n, n)), source, boundary_values=u, **domain) for n in (64, 128))
    exact, finer = (solve(p, ConjugateGradient(rtol=1e-12)).field for p in (coarse, fine))
    is_there = domain[next(iter(domain))](*coarse.grid.coordinates()) > 0
    found = solve(coarse, Multigrid(full=True, error_fraction=0.1))

    def largest(difference: jax.Array) -> float:
        return float(jnp.max(jnp.abs(difference), where=is_there, initial=0))

    error = largest(exact - finer[::2, ::2]) / 0.75
    assert found.reason == Reason.discretization
    assert largest(found.field - exact) <= 0.1 * error
    assert 0.1 < float(found.stats["discretization_error"]) / error < 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"medium": -1.0}, "medium: expected positive values where the equation holds, got none"),
        ({"medium": lambda x, y: x / 0}, "medium: expected finite values"),
        ({"medium": Cells(np.ones((3, 3)))}, "medium: expected shape"),
        ({"medium": "disc"}, "medium: expected numbers"),
        ({"surface_flux": 1.0}, "surface_flux, surface_robin: given, but no medium"),
        (
            {"medium": hole, "surface_flux": lambda x, y: x / 0},
            "surface_flux: expected finite values on the surface",
        ),
        (
            {"medium": hole, "surface_robin": -1.0},
            "surface_robin: expected finite numbers that are not negative on the surface",
        ),
    ],
)
def test_bad_media_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Poisson(Grid((8, 8)), 1.0, **arguments)
