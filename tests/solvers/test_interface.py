"""Domains within the box: exact for linear u on any of them, of second order, in balance."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from solvers import (
    ConjugateGradient,
    Grid,
    Jacobi,
    LineRelaxation,
    Multigrid,
    Poisson,
    boundary_flux,
    interface_flux,
    solve,
)
from tests.solvers.cases import P, sides

Level = Callable[..., jax.Array]


def ball(radius: Any, middle: float = 0.49) -> Level:
    return lambda *x: radius - jnp.sqrt(sum((c - middle) ** 2 for c in x))


def blobs(seed: int) -> Level:
    """Some waves of period 1: a domain of several parts with holes, that crosses all sides."""
    rng = np.random.default_rng(seed)
    waves, size = rng.integers(-2, 3, (4, 3)).tolist(), rng.normal(size=4).tolist()

    def level(*x: jax.Array) -> jax.Array:
        phases = [2 * np.pi * sum(k * c for k, c in zip(wave, x, strict=False)) for wave in waves]
        return 0.3 + sum(
            s * jnp.sin(phase + i) for i, (s, phase) in enumerate(zip(size, phases, strict=True))
        )

    return level


def smooth(varies: bool) -> tuple[Level, Level, Level]:
    """u = eˣ sin 2y, a, and −∇·(a∇u)."""

    def u(*x: jax.Array) -> jax.Array:
        return jnp.exp(x[0]) * jnp.sin(2 * x[1])

    def a(*x: jax.Array) -> jax.Array:
        return 1 + x[0] * x[1] if varies else jnp.ones_like(x[0])

    def source(*x: jax.Array) -> jax.Array:
        rise = x[1] * u(*x) + 2 * x[0] * jnp.exp(x[0]) * jnp.cos(2 * x[1])  # ∇a·∇u
        return 3 * a(*x) * u(*x) - (rise if varies else 0)

    return u, a, source


def dense(problem: Poisson) -> np.ndarray:
    matrix = problem.operator.as_matrix()
    return np.linalg.solve(matrix, np.ravel(problem.rhs)).reshape(problem.grid.shape)


@pytest.mark.parametrize("names", ["DN", "DD-ND", "PP-DN", "NN-PP", "DD-PP-NN"])
@given(seed=st.integers(0, 2**16))
def test_a_linear_solution_is_exact_on_any_domain(names: str, seed: int) -> None:
    """What a wrong share, slope or side would change by O(h)."""
    boundary = sides(names)
    grid = Grid((9, 7, 5)[: len(boundary)], boundary=boundary)
    slopes = [0.0 if pair == (P, P) else k for pair, k in zip(boundary, (2, -3, 1.5), strict=False)]
    a = (1.3, 0.6, 1.7)[: len(boundary)]

    def u(*x: jax.Array) -> jax.Array:
        return 1 + sum(k * c for k, c in zip(slopes, x, strict=True))

    flux = tuple(
        tuple(
            s * k * b if side.name == "NEUMANN" else None
            for s, side in zip((-1, 1), pair, strict=True)
        )
        for pair, k, b in zip(boundary, slopes, a, strict=True)
    )
    inside = blobs(seed)
    assume((inside(*grid.coordinates())[grid.unknowns] > 0).any())
    problem = Poisson(grid, lambda *x: 2 * u(*x), diffusion=a, reaction=2.0, boundary_values=u,
                      inside=inside, flux=flux if grid.ndim > 1 else flux[0])  # fmt: skip
    field, x = problem.field(jnp.asarray(dense(problem))), grid.coordinates()
    np.testing.assert_allclose(field, jnp.broadcast_to(u(*x), grid.full_shape), atol=1e-11)


@pytest.mark.parametrize("inside", [ball(0.4), lambda *x: -ball(0.3)(*x)])
@pytest.mark.parametrize(("ndim", "varies"), [(2, False), (2, True), (3, False)])
def test_curved_interfaces_are_met_by_second_order(inside: Level, ndim: int, varies: bool) -> None:
    u, a, source = smooth(varies)
    errors = []
    for n in (16, 32) if ndim == 3 else (32, 64):
        grid = Grid((n,) * ndim)
        problem = Poisson(grid, source, diffusion=a, boundary_values=u, inside=inside)
        error = solve(problem, ConjugateGradient(rtol=1e-10)).field - u(*grid.coordinates())
        errors.append(float(abs(error).max()))
    assert errors[0] / errors[1] > 2.8, errors


@pytest.mark.parametrize(
    "method",
    [
        Jacobi(rtol=1e-10),
        LineRelaxation(0, rtol=1e-10),
        Multigrid(rtol=1e-10),
        Multigrid(full=True, rtol=1e-10),
        ConjugateGradient(preconditioner=Multigrid(), rtol=1e-10),
        None,
    ],
)
def test_methods_find_the_discrete_solution(method: Any) -> None:
    problem = Poisson(Grid((21, 18), boundary=sides("DN-PP")), 1.0, inside=blobs(5),
                      diffusion=lambda x, y: 1 + x, boundary_values=lambda x, y: x)  # fmt: skip
    matrix = problem.operator.as_matrix()
    np.testing.assert_array_equal(matrix, matrix.T)
    assert np.linalg.eigvalsh(matrix).min() > 0
    expected = problem.field(jnp.asarray(dense(problem)))
    np.testing.assert_allclose(solve(problem, method).field, expected, atol=1e-6)


@pytest.mark.parametrize(
    "method", [None, Jacobi(), Multigrid(), Multigrid(full=True)], ids=lambda m: type(m).__name__
)
def test_values_far_outside_change_neither_solution_nor_steps(method: Any) -> None:
    """They were in ‖b‖: with 1e12 for missing ones a solve ended converged, half of u missing."""
    grid = Grid((20, 20))
    x, level = grid.coordinates()[0], ball(0.35)(*grid.coordinates())
    plain, filled = (
        Poisson(grid, 1.0, inside=level, boundary_values=jnp.where(level > -0.11, x, fill))
        for fill in (0.0, 1e12)
    )
    expected, found = solve(plain, method), solve(filled, method)
    assert found.num_steps == expected.num_steps
    np.testing.assert_allclose(found.field, jnp.where(level > -0.11, expected.field, 1e12))
    np.testing.assert_allclose(filled.residual(found.field), plain.residual(expected.value))
    assert float(filled.energy(found.field)) == pytest.approx(float(plain.energy(expected.field)))


@pytest.mark.parametrize("names", ["DN", "DD-ND", "PP-DN", "NN-NN", "DD-PP-NN"])
def test_what_goes_through_sides_and_interface_balances(names: str) -> None:
    boundary = sides(names)
    grid = Grid((9, 7, 5)[: len(boundary)], 0.0, 1.0, boundary)
    level = blobs(11)(*grid.coordinates())
    f, c = np.random.default_rng(2).normal(size=(2, *grid.full_shape))
    c = np.abs(c)
    problem = Poisson(grid, f, reaction=c, diffusion=lambda *x: 1 + x[0], inside=level,
                      boundary_values=lambda *x: jnp.cos(x[0]))  # fmt: skip
    field = problem.field(jnp.asarray(dense(problem)))
    total = grid.integral(interface_flux(problem, field))
    for axis, pair in enumerate(boundary_flux(problem, field)):
        for q in pair:
            if q is not None:
                total += q if grid.ndim == 1 else grid.side(axis).integral(q)
    expected = grid.integral(jnp.where(level > 0, c * field - f, 0))
    np.testing.assert_allclose(total, expected, atol=1e-11)


def test_the_capacitance_of_a_cable_and_how_it_depends_on_the_radius() -> None:
    """2π/arccosh((R² + r² − d²)/(2Rr)) of two circles, d from middle to middle."""
    outer, apart, grid = 0.45, 0.1, Grid((64, 64))

    def exact(r: Any) -> jax.Array:
        return 2 * jnp.pi / jnp.arccosh((outer**2 + r * r - apart**2) / (2 * outer * r))

    @jax.jit
    @jax.value_and_grad
    def found(r: Any) -> jax.Array:
        def distance(x: Any, y: Any) -> jax.Array:
            return jnp.hypot(x - 0.5 - apart, y - 0.5) - r

        problem = Poisson(
            grid,
            0.0,
            inside=lambda x, y: jnp.minimum(outer - jnp.hypot(x - 0.5, y - 0.5), distance(x, y)),
            boundary_values=lambda x, y: jnp.where(distance(x, y) < 0.02, 1.0, 0.0),
        )
        method = ConjugateGradient(preconditioner=Multigrid(), rtol=1e-10)
        charge = interface_flux(problem, solve(problem, method, throw=False).field)
        return grid.integral(jnp.where(distance(*grid.coordinates()) < 0.05, charge, 0))

    value, slope = found(0.15)
    assert value == pytest.approx(float(exact(0.15)), rel=1e-3)
    # It jumps by O(h²) whenever the circle meets a node.
    assert slope == pytest.approx(float(jax.grad(exact)(0.15)), rel=0.02)


def test_a_mask_ends_at_its_nodes() -> None:
    """As if the rows and columns of the nodes outside were taken out."""
    grid = Grid((8, 7), boundary=sides("DN-NN"))
    mask = np.random.default_rng(3).random(grid.full_shape) < 0.7
    g = np.random.default_rng(4).normal(size=grid.full_shape)
    problem = Poisson(grid, 1.0, inside=mask, boundary_values=g)
    whole = Poisson(grid, 1.0, boundary_values=g)
    inner = mask[grid.unknowns].ravel()
    matrix, b = np.asarray(whole.operator.as_matrix()), np.ravel(whole.rhs)
    u = np.where(inner, 0, g[grid.unknowns].ravel())
    u[inner] = np.linalg.solve(matrix[inner][:, inner], (b - matrix @ u)[inner])
    np.testing.assert_allclose(problem.field(jnp.asarray(dense(problem))), whole.field(
        jnp.asarray(u.reshape(grid.shape))), atol=1e-12)  # fmt: skip


def test_a_domain_that_is_the_box_changes_nothing() -> None:
    grid = Grid((8, 8), boundary=sides("NN-NN"))
    problem = Poisson(grid, 0.0, inside=lambda x, y: 1 + x)
    assert problem.operator.is_constant
    assert problem.operator.is_singular
    assert problem.is_outside is None
    np.testing.assert_array_equal(interface_flux(problem, problem.rhs), np.zeros((9, 9)))


def test_pieces_of_g_are_not_mixed_and_an_array_has_no_slope() -> None:
    """Between 0 at x < 0.3 and 1 at x > 0.72 u is linear, as g is constant around each."""
    grid = Grid(40)
    x = grid.coordinates()[0]
    inside = lambda x: jnp.minimum(x - 0.3, 0.72 - x)  # noqa: E731
    exact = jnp.clip((x - 0.3) / 0.42, 0, 1)
    for g in (lambda x: jnp.where(x >= 0.72, 1.0, 0.0), np.where(x >= 0.72, 1.0, 0.0)):
        found = solve(Poisson(grid, 0.0, inside=inside, boundary_values=g)).field
        np.testing.assert_allclose(found, exact, atol=1e-12)


def test_data_outside_do_not_matter() -> None:
    grid = Grid((12, 12))
    inside, x = ball(0.4), grid.coordinates()
    f = jnp.where(inside(*x) > 0, 1.0, jnp.nan)
    found = solve(Poisson(grid, f, inside=inside)).field
    np.testing.assert_array_equal(found, solve(Poisson(grid, 1.0, inside=inside)).field)


def test_a_batch_of_shapes() -> None:
    def highest(radius: jax.Array) -> tuple[jax.Array, jax.Array]:
        problem = Poisson(Grid((32, 32)), 4.0, inside=ball(radius, 0.5))
        solution = solve(problem, Multigrid(), throw=False)
        return solution.field[16, 16], solution.num_steps

    radii = jnp.asarray([0.2, 0.3, 0.45])
    values, steps = jax.vmap(highest)(radii)
    np.testing.assert_allclose(values, radii**2, atol=2e-4)
    assert steps.max() <= 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inside": -1.0}, "inside: expected positive values where the equation holds, got none"),
        ({"inside": lambda x, y: x / 0}, "inside: expected finite values"),
        ({"inside": np.ones((3, 3))}, "inside: expected shape"),
        ({"inside": "disc"}, "inside: expected numbers"),
        (
            {"inside": ball(0.4), "boundary_values": lambda x, y: np.sin(np.asarray(x))},
            "boundary_values: with `inside`, expected a function in jax.numpy",
        ),
        (
            {"inside": ball(0.4), "boundary_values": lambda x, y: 1 / ball(0.4)(x, y).clip(0.0)},
            "boundary_values: expected finite values on Dirichlet sides and outside",
        ),
    ],
)
def test_bad_domains_are_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Poisson(Grid((8, 8)), 1.0, **arguments)
